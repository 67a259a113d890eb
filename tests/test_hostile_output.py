"""Names of others stay text wherever it is written for people: terminals, shells, tables, pages, pictures.

Each test has names that would do something there, writes through the public command, and looks at what a person sees.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shlex
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from huggingface_hub import ModelCard
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token
from PIL import Image

import xmr_e2e.reports.comparison
from tests import ROOT
from tests.helpers.built import write
from tests.helpers.drawn import draw_image
from tests.helpers.embedded import embedded_split
from tests.helpers.fuzzing import fuzzed, hostile
from tests.helpers.made_runs import Made
from tests.helpers.study_runs import here, make_run, missing
from xmr_e2e.cli import main
from xmr_e2e.console import Console
from xmr_e2e.errors import XmrError
from xmr_e2e.escape import csv_cell, latex, markdown, on_plot, one_line, printable, shell, shell_comment
from xmr_e2e.evaluation.directions import cross_modal_metrics
from xmr_e2e.evaluation.result import EvaluationResult, read_result
from xmr_e2e.reports.plots import training_plots
from xmr_e2e.runs.command import report_command
from xmr_e2e.runs.run import Run
from xmr_e2e.shards.build import BuildOptions, RawSample, build_shards
from xmr_e2e.shards.sheet import Tile, write_sheet
from xmr_e2e.studies.command import _table

if TYPE_CHECKING:
    from tests.helpers.browser import Browser

pytest_plugins = ["tests.helpers.browser"]
__all__ = ["here"]

NAMES = [
    "<img src=x onerror=window.ran=1>", "</title></style><script>window.ran=1</script>", '"onmouseover="window.ran=1',
    "a\n# heading", "a\n\n    code", "[x](http://127.0.0.1:9/)", "![x](http://127.0.0.1:9/x.png)", "<http://a.example>",
    "www.a.example", "http://a.example/", "a | b | c", "&lt;b&gt; &#106;", "`touch x`", "**b** _i_ ~~s~~", "\\",
    "$x^2$", "$\\frac{$", "\\input{/etc/passwd}", "%", "a & b \\\\ c", "[1cm]", "=1+1", "@SUM(A1)", "-2+3", "+1|cmd",
    "\t=1", "\x1b]0;title\x07\x1b[31m", "\u202eevil\u202c", "a\r# b", "1. one", "- item", "===", "[a]: http://a.example",
    "[link=file:///etc/passwd]x[/link]", "[blink]b[/]", ":skull:", "{{7*7}}", "{% raw %}", "\x85\u2028x", "",
]  # fmt: skip
CODES = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""that no text of others may bring into a file or onto a terminal"""


# ---- shells


SHELL_NAMES = [
    "a\ntouch victim\n#",
    "a\rtouch victim\r#",
    "$(touch victim)",
    "`touch victim`",
    "'; touch victim; '",
    '"; touch victim; "',
    "\x1b]0;title\x07; touch victim",
    "a\u2028touch victim",
    "a\\\ntouch victim",
    ":skull: & touch victim",
]
RECORD = """#!{python}
import json, os, sys
with open("calls", "a") as stream:
    stream.write(json.dumps([os.path.basename(sys.argv[0]), *sys.argv[1:]]) + "\\n")
{more}
"""


def stub(folder: Path, name: str, more: str = "") -> None:
    """A program of this name that writes down its arguments."""
    path = write(folder / "bin" / name, RECORD.format(python=sys.executable, more=more))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def calls(folder: Path) -> list[list[str]]:
    path = folder / "calls"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def stubs(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project of `here`, with programs that write down how they are called instead of what they are for."""
    stub(here, "accelerate")
    stub(here, "squeue")
    stub(here, "sbatch", "print(812)")
    monkeypatch.setenv("PATH", f"{here / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return here


def hostile_runs(folder: Path) -> None:
    for seed, name in enumerate(SHELL_NAMES):
        make_run(folder / f"run-{seed}", seed=seed, measured=False)
        (folder / f"run-{seed}").rename(folder / name)


@pytest.mark.slow
def test_what_is_missing_can_be_handed_to_a_shell_whatever_the_runs_are_called(
    stubs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile_runs(stubs / "runs")
    write(stubs / "recipes/';touch victim;'.py", (stubs / "recipes/first.py").read_text())
    write(stubs / "recipes/x\ntouch victim\n.py", (stubs / "recipes/first.py").read_text())
    before = {*stubs.iterdir()}
    assert main(missing("--seeds", str(len(SHELL_NAMES) + 1))) == 0
    script = capsys.readouterr().out
    assert not CODES.search(script)
    done = subprocess.run(["sh"], input=script, text=True, cwd=stubs, capture_output=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert {*stubs.iterdir()} - before == {stubs / "calls"}
    last = str(len(SHELL_NAMES))
    started = [("recipes/first.py", last)]  # all others are begun, as are those of its twins
    assert [(call[2], call[4]) for call in calls(stubs) if call[2] == "recipes/first.py"] == started
    assert not any("\n" in word for call in calls(stubs) for word in call)
    for name in SHELL_NAMES:
        assert f"# begun, not measured: runs/{one_line(name)}" in script


def test_the_folder_for_runs_reaches_the_program_as_it_is_called(
    stubs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`xmr table FOLDER --missing` hands the folder on."""
    for name in ("$(touch victim)", "a'; touch victim; '", ":skull:"):
        (stubs / name).mkdir()
        assert main(missing(name, "--seeds", "1", "--only", "first")) == 0
        subprocess.run(["sh"], input=capsys.readouterr().out, text=True, cwd=stubs, check=True)
        assert calls(stubs)[-1][-2:] == ["--train.runs", name]
    folder = stubs / "a\ntouch victim\n#"
    folder.mkdir()
    assert main(missing(str(folder), "--seeds", "1", "--only", "first")) == 0
    assert capsys.readouterr().out.startswith("# control characters in a name: accelerate launch ")
    assert not (stubs / "victim").exists()


@pytest.mark.slow
def test_slurm_gets_names_as_arguments_and_its_scripts_hand_them_on(
    stubs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile_runs(stubs / "runs")
    folder = "$(touch victim)'; `touch victim`"
    (stubs / folder).mkdir()
    assert main(missing(folder, "runs", "--seeds", "11", "--only", "first", "--submit")) == 0
    told = capsys.readouterr().out
    assert not CODES.search(told) and "seeds 10 are job 812" in told
    (submitted,) = (call for call in calls(stubs) if call[0] == "sbatch")
    assert submitted[-3:] == ["recipes/first.py", "--train.runs", folder]

    run_rank = "words = sys.argv[sys.argv.index('bash'):]\nos.execvp('bash', words)"
    stub(stubs, "srun", run_rank)
    stub(stubs, "scontrol", "print('n1')")
    stub(stubs, "python")
    stub(stubs, "xmr")
    for name, value in {
        "JOB_ID": "812", "ARRAY_JOB_ID": "812", "ARRAY_TASK_ID": "3", "JOB_NODELIST": "n1", "CPUS_ON_NODE": "2",
        "JOB_NUM_NODES": "1", "PROCID": "0", "LOCALID": "0", "NTASKS": "1", "NTASKS_PER_NODE": "1",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"SLURM_{name}", value)
    script = submitted.index("slurm/seeds.sh")
    subprocess.run(["bash", *submitted[script:], *SHELL_NAMES], cwd=stubs, check=True, timeout=60)
    (trained,) = (call for call in calls(stubs) if call[0] == "python")
    assert trained[1:] == [
        "recipes/first.py", "--train.name", "slurm-812_3", "--train.name", "slurm-812-seed-3", "--train.seed", "3",
        "--train.runs", folder, *SHELL_NAMES,
    ]  # fmt: skip
    assert not (stubs / "victim").exists()


@pytest.mark.slow
@given(st.lists(st.text()))
@fuzzed
def test_words_of_a_command_are_the_shells_words(words: list[str]) -> None:
    assert shlex.split(shell(*words)) == words


@given(st.text())
@fuzzed
def test_a_comment_is_one_line_of_plain_characters(text: str) -> None:
    assert shell_comment(text).startswith("# ") and not re.search(
        r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", shell_comment(text)
    )


@pytest.mark.parametrize("name", ["my run", "$(touch victim)", "a'b"])
def test_commands_in_messages_can_be_copied(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From an error, without a look at each of its characters."""
    monkeypatch.chdir(tmp_path)
    run = Made().write(tmp_path / name)
    assert main(["report", name]) == 2
    assert shlex.split(capsys.readouterr().err.rpartition("measure the run again: ")[2]) == ["xmr", "eval", name]
    (run / "evaluation" / "test.json").unlink()
    assert main(["report", name]) == 2
    assert shlex.split(capsys.readouterr().err.rpartition("measure the run first: ")[2]) == ["xmr", "eval", name]
    shards = tmp_path / "shards of others"
    write(shards / "remote.json", "{}")
    monkeypatch.setenv("COLUMNS", "1000")
    assert main(["shards", "info", f"s3://bucket/{name}"]) == 2
    spans = re.findall(r"`([^`]+)`", capsys.readouterr().err.replace("`touch", "touch"))
    assert all(shlex.split(span) for span in spans)


# ---- terminals


def test_markup_of_others_is_shown_and_not_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=300)
    from rich.table import Table

    table = Table(*NAMES[:3], title=NAMES[-8])
    for name in NAMES:
        console.print(name)
        table.add_row(name, name, name)
    console.print(table)
    told = re.sub(r"\x1b\[[\d;]*m", "", stream.getvalue())
    assert not CODES.search(told.replace("\t", ""))
    assert "\x1b]" not in stream.getvalue() and "\x1b[5m" not in stream.getvalue()  # links, and what blinks
    for name in ("[link=file:///etc/passwd]x[/link]", "[blink]b[/]", ":skull:"):
        assert told.count(name) >= 4


def test_a_folder_of_shards_is_shown_with_the_names_as_they_are(
    hostile_shards: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "500")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert main(["shards", "info", str(hostile_shards)]) == 0
    told = capsys.readouterr().out
    plain = re.sub(r"\x1b\[[\d;]*m", "", told)
    assert not CODES.search(plain) and "\x1b[5m" not in told
    for name in (*CLASSES, DATASET):
        assert one_line(name).replace("\\x07", "") in plain  # rich leaves the bell out


# ---- tables


def hostile_run(folder: Path, name: str) -> Path:
    """A run in whose configuration and evaluation this name stands wherever a name can."""
    protocol = {"name": name, "gallery": name, "selected_on": "test", "differences": [name, f"differs {name}"]}
    run = Made(dataset=name, scores={"mAP@all": 0.5, name: 0.25}, protocol=protocol).write(folder)
    config = json.loads((run / "config.json").read_bytes())
    config["name"], config["method"]["type"], config["method"]["hidden"] = name, f"xmr_e2e.methods.{name}:X", name
    (run / "config.json").write_text(json.dumps(config))
    environment = json.loads((run / "environment.json").read_bytes())
    (run / "environment.json").write_text(json.dumps({**environment, "commit": name}))
    return run


@pytest.fixture(scope="module")
def hostile_runs_of_all(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs with each of the names, and two of each, which have footnotes."""
    folder = tmp_path_factory.mktemp("runs")
    for number, name in enumerate(NAMES):
        hostile_run(folder / f"{number}a", name)
        run = hostile_run(folder / f"{number}b", name)
        config = json.loads((run / "config.json").read_bytes())
        (run / "config.json").write_text(
            json.dumps({**config, "optimizer": {**config["optimizer"], "lr": 0.5, name: name}})
        )
    return folder


def table(folder: Path, out: Path) -> str:
    assert main(["table", str(folder), "--metrics", "mAP@all", "--out", str(out)]) == 0
    return out.read_text()


def parsed(text: str) -> list[Token]:
    """The tokens of Markdown, inner ones too, as GitHub has it and with raw HTML."""
    tokens = MarkdownIt("gfm-like", {"linkify": False, "html": True}).parse(text)
    return [token for outer in tokens for token in (outer, *(outer.children or ()))]


PLAIN = {
    "paragraph",
    "heading",
    "bullet_list",
    "list_item",
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "inline",
    "text",
}


def kinds(text: str) -> Counter[str]:
    return Counter(re.sub("_(open|close)$", "", token.type) for token in parsed(text) if token.nesting >= 0)


@pytest.mark.slow
def test_a_table_in_markdown_has_no_markup_of_others(hostile_runs_of_all: Path, tmp_path: Path) -> None:
    text = table(hostile_runs_of_all, tmp_path / "table.md")
    assert not CODES.search(text)
    found = kinds(text)
    assert found.keys() - {"softbreak"} == PLAIN
    tables = len({one_line(name) for name in NAMES})
    assert found["table"] == found["heading"] == tables
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert found["tr"] == len(rows) - tables  # rules are no rows
    assert found["th"] + found["td"] == 6 * found["tr"]
    shown = "\n".join(token.content for token in parsed(text) if token.type == "text")
    for name in NAMES:
        assert one_line(name).strip() in shown


@pytest.mark.slow
@given(
    st.text(st.sampled_from("ab1 \n\t-+=#.:)>|`~*_[](){}<>!&;\\$@/\"'wxhtp\x1b\u202e") | st.characters(codec="utf-8"))
)
@fuzzed
def test_text_in_markdown_stays_text_wherever_it_stands(text: str) -> None:
    escaped, expected = markdown(text), one_line(text).strip()
    for before in ("", "word\n", "word "):
        tokens = parsed(f"{before}{escaped}")
        assert {token.type for token in tokens} <= {"paragraph_open", "inline", "text", "paragraph_close", "softbreak"}
        words = ("\n" if token.type == "softbreak" else token.content for token in tokens if token.type != "inline")
        assert "".join(words) == f"{before}{expected}".strip()
    for before, allowed in (("# ", {"heading"}), ("- ", {"bullet_list", "list_item", "paragraph"})):
        assert kinds(f"{before}x {escaped}").keys() <= {*allowed, "inline", "text"}
    cells = kinds(f"| a | b |\n|---|---|\n| {escaped} | x |\n")
    assert cells["td"] == 2 and cells["tr"] == 2 and cells.keys() <= PLAIN


def latex_words(text: str) -> Iterator[str]:
    """Commands, and single characters that LaTeX obeys; what is escaped, and comments, are left out."""
    for word in re.findall(r"\\[a-zA-Z]+|\\.|[{}$&#%_^~]|\n", text):
        if word not in {f"\\{character}" for character in "{}$&#%_"} and word != "\n":
            yield word


LATEX_COMMANDS = {
    r"\begin", r"\end", r"\centering", r"\small", r"\caption", r"\toprule", r"\midrule", r"\bottomrule", r"\par",
    r"\medskip", r"\raggedright", r"\footnotesize", r"\textsuperscript", r"\textbackslash", r"\textasciicircum",
    r"\textasciitilde", r"\textless", r"\textgreater", r"\textbar", r"\rightarrow", r"\pm", r"\\",
}  # fmt: skip
GREEK = {f"\\{name}" for name in (
         "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau "
         "upsilon phi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega").split()}  # fmt: skip


@pytest.mark.slow
def test_a_table_in_latex_has_no_commands_of_others(hostile_runs_of_all: Path, tmp_path: Path) -> None:
    text = table(hostile_runs_of_all, tmp_path / "table.tex")
    assert not CODES.search(text)
    first, _, text = text.partition("\n")
    assert first == r"% \usepackage{booktabs}"
    words = Counter(latex_words(text))
    assert {word for word in words if len(word) > 1} <= LATEX_COMMANDS
    assert words["{"] == words["}"] and not words.keys() & set("#%_^~")
    body = [line for line in text.splitlines() if line.endswith(r" \\")]
    assert words["&"] == 5 * len(body) and words[r"\\"] == len(body)
    for command in (r"\rightarrow", r"\pm"):
        text = text.replace(f"${command}$", "")
    assert "$" not in text.replace(r"\$", "")
    assert not re.search(r"(\\\\|rule)\s*[\[*]", text)  # which would be read as a length


@given(st.text())
@fuzzed
def test_text_in_latex_has_no_commands(text: str) -> None:
    words = Counter(latex_words(latex(text)))
    assert {word for word in words if len(word) > 1} <= (LATEX_COMMANDS | GREEK) - {r"\\"}
    assert words["{"] == words["}"] and not words.keys() & set("&#%_^~")


def is_formula(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return cell.startswith(tuple("=+-@\t\r"))
    return False


@pytest.mark.slow
def test_tables_for_spreadsheets_have_no_formulas(hostile_runs_of_all: Path, tmp_path: Path) -> None:
    text = table(hostile_runs_of_all, tmp_path / "table.csv")
    assert not CODES.search(text)
    first, *rows = csv.reader(io.StringIO(text))
    assert rows and {len(row) for row in rows} == {len(first)}
    assert not [cell for row in rows for cell in row if is_formula(cell)]
    datasets = {row[0] for row in rows}
    assert {"'=1+1", "'@SUM(A1)", "'-2+3", "%", "a | b | c"} <= datasets
    value = first.index("value")
    assert {float(row[value]) for row in rows if row[first.index("kind")] == "ours"} == {0.5}


@given(st.one_of(st.text(), st.integers(), st.floats(allow_nan=False), st.none()))
@fuzzed
def test_a_cell_is_a_number_or_no_formula(value: Any) -> None:
    cell = csv_cell(value)
    assert not isinstance(cell, str) or not is_formula(cell)
    assert isinstance(value, str) or cell is value


# ---- pages


CLASSES = [
    "<script>window.ran=1</script>",
    '"onmouseover="window.ran=1',
    "$\\frac{$ [link=x]:skull:",
    "=1+1\x1b]0;t\x07",
]
DATASET = "<img src=x onerror=window.ran=1>\u202e[bold]x"


@pytest.fixture(scope="module")
def hostile_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    samples = []
    for split, count in {"train": 8, "val": 8, "test": 8}.items():
        for number in range(count):
            image = draw_image(folder / "raw" / f"{split}-{number}.jpg", seed=number)
            name = NAMES[number]
            source = f"{split}-{number}-<svg onload=window.ran=1>.jpg"
            texts = (f"{name} a picture {number}", f"{NAMES[-number]} again")
            samples.append(RawSample(source, split, image, texts, (CLASSES[number % 4],)))
    build_shards(folder / "shards", dataset=DATASET, classes=CLASSES, samples=samples, options=BuildOptions(workers=1))
    return folder / "shards"


@pytest.fixture(scope="module")
def trained(hostile_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder as a stranger's could be: model, configuration, log and figures."""
    from tests.helpers.made_models import make_model

    model = make_model(hostile_shards)
    model.classes = tuple(CLASSES)
    run = tmp_path_factory.mktemp("runs") / "<svg onload=window.ran=1>"
    run.mkdir()
    model.save(run, model.method.state_dict(), "epoch 3 <script>window.ran=1</script>\n# heading")
    config = {"name": "<script>window.ran=1</script>", "train": {"batch_size": 10**400}, "</style>": NAMES}
    (run / "config.json").write_text(json.dumps(config))
    about = {
        "command": ["train.py", *NAMES],
        "processes": "1; touch victim",
        "device": NAMES[1],
        **dict.fromkeys(NAMES, "x"),
    }
    (run / "environment.json").write_text(json.dumps(about))
    scores = {f"{name} mAP@all": 0.5 for name in (*NAMES, "average", "a_to_$\\frac{$")}
    records = [{"step": step, "loss": {"$\\frac{$": 1.0, "<b>": 10**400}, "val": scores} for step in (1, 2, 3)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    assert main(["eval", str(run)]) == 0
    assert (run / "report.html").exists()
    return run


class Tags(HTMLParser):
    """Names of elements, those of their attributes, addresses, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.addresses: set[str] = set()
        self.policy = self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.addresses |= {value or "" for name, value in attrs if name in ("src", "href")}
        if dict(attrs).get("http-equiv") == "Content-Security-Policy":
            self.policy = dict(attrs)["content"] or ""

    def handle_data(self, data: str) -> None:
        self.text += data


ATTRIBUTES = set(
    "lang charset name content http-equiv id class style title alt src href download dir scope aria-label aria-hidden "
    "role x y width height viewbox font-size".split()
)


def check_page(path: Path) -> Tags:
    text = path.read_text()
    page = Tags(text)
    assert page.policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert not page.tags & {"script", "iframe", "object", "embed", "base", "link", "form", "svg:script"}
    assert page.attributes <= ATTRIBUTES
    assert all(each.startswith(("data:image/", "data:text/csv;base64,", "#")) for each in page.addresses)
    assert not CODES.search(text.replace("\t", ""))
    return page


def check_in_browser(path: Path, browser: Browser, picture: Path) -> None:
    browser.get(path.as_uri())
    assert browser.execute_script("return window.ran === undefined && document.scripts.length === 0")
    assert browser.complaints() == []  # not even something that the policy has stopped
    browser.save_page(picture)
    assert Image.open(picture).height > 300


@pytest.mark.slow
def test_a_report_shows_names_of_others_and_nothing_of_them_runs(
    trained: Path, browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = check_page(trained / "report.html")
    for text in (
        "<script>window.ran=1</script>",
        "{{7*7}}",
        '"onmouseover="window.ran=1',
        DATASET[:-8],
    ):
        assert text in page.text
    command = re.search(r"torchrun --nproc-per-node .*", page.text)
    assert command and command[0].startswith("torchrun --nproc-per-node '1; touch victim' train.py")
    check_in_browser(trained / "report.html", browser, tmp_path / "report.png")


@pytest.mark.slow
def test_a_reports_table_for_spreadsheets_has_no_formulas(trained: Path) -> None:
    import base64

    (data,) = (
        each for each in Tags((trained / "report.html").read_text()).addresses if each.startswith("data:text/csv")
    )
    rows = [*csv.reader(io.StringIO(base64.b64decode(data.partition(",")[2]).decode()))]
    assert not [cell for row in rows for cell in row if is_formula(cell)]
    assert {"'=1+1\\x1b]0;t\\x07", '"onmouseover="window.ran=1'} <= {row[2] for row in rows}


def measured(noise: float, **changes: Any) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    labels = np.arange(24) % 4
    rows = {name: np.eye(4)[labels] + noise * rng.standard_normal((24, 4)) for name in ("image", "text")}
    metrics = cross_modal_metrics(embedded_split(rows, labels))
    protocol = {"name": "clean", "gallery": "test", "selected_on": "val", "differences": []}
    about = {"dataset": "mine", "split": "test", "selection": "", "protocol": protocol, "classes": CLASSES}
    own = EvaluationResult("x", "test", "", metrics).to_dict()
    sides = {name: own[name] for name in ("model", "random", "definitions")}
    return json.loads(json.dumps({**about, **sides, **changes}))


@pytest.mark.slow
def test_a_comparison_shows_names_of_others_and_nothing_of_them_runs(browser: Browser, tmp_path: Path) -> None:
    runs = []
    for number in range(2):
        run = tmp_path / f"{number}<img src=x onerror=window.ran=1>"
        name = f"{number}<script>window.ran=1</script>"
        protocol = {"name": name, "gallery": NAMES[2], "selected_on": "test", "differences": NAMES}
        document = measured(
            0.5, dataset=name, selection=name, protocol=protocol, definitions={each: name for each in NAMES}
        )
        document["model"]["average"] |= dict.fromkeys(NAMES, 0.5)
        write(run / "evaluation" / "test.json", json.dumps(document))
        write(run / "config.json", json.dumps({"name": name, **dict.fromkeys(NAMES, number)}))
        write(run / "environment.json", json.dumps({each: f"{number}{each}" for each in NAMES}))
        write(run / "metrics.jsonl", json.dumps({"step": 1, "val": {"average mAP@all": 0.5, "$\\frac{$": 1}}) + "\n")
        runs.append(run)
    out = tmp_path / "comparison.html"
    assert main(["report", *map(str, runs), "--out", str(out)]) == 0
    page = check_page(out)
    for text in ("0<script>window.ran=1</script>", '"onmouseover="window.ran=1', "{{7*7}}"):
        assert text in page.text
    check_in_browser(out, browser, tmp_path / "comparison.png")


@pytest.mark.slow
def test_a_contact_sheet_is_a_picture_and_a_page_of_plain_text(browser: Browser, tmp_path: Path) -> None:
    image = Image.new("RGB", (40, 30), "red")
    tiles = [Tile(image, name, f"{name}\n{name}") for name in NAMES]
    tiles += [Tile(NAMES[0], "𒀀 a script that no font here has", "x" * 3_000_000), Tile(image, "y " * 1_000_000, "\0")]
    write_sheet(tmp_path / "sheet.png", tiles, heading=f"{NAMES[1]}\x1b𒀀")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.height < 10_000
    page = check_page(tmp_path / "sheet.html")
    assert "<script>window.ran=1</script>" in page.text
    check_in_browser(tmp_path / "sheet.html", browser, tmp_path / "page.png")


def test_a_sheet_of_hostile_shards_is_drawn(hostile_shards: Path, tmp_path: Path) -> None:
    assert main(["shards", "sheet", str(hostile_shards), str(tmp_path / "sheet.png")]) == 0
    with Image.open(tmp_path / "sheet.png") as sheet:
        sheet.load()


@pytest.mark.slow
def test_plots_set_no_formulas_of_others() -> None:
    """A formula that matplotlib does not understand would end the page."""
    for name in ("$\\frac{$", "$x$", "a$b$c$", "\\$x$", "\x00\x1b", "_hidden"):
        records = [{"step": step, "val": {f"{name} mAP@all": 0.5}, "loss": {name: 1.0}} for step in (1, 2)]
        assert training_plots(records)["validation"].startswith(b"<?xml")
    assert on_plot("$a$") == r"\$a\$"


# ---- models that are handed on


def test_a_model_card_has_no_markup_of_others_and_metadata_of_one_document(trained: Path, tmp_path: Path) -> None:
    for name in ("plain", "other"):  # figures of another dataset's, with names in all places
        protocol = {"name": NAMES[0], "gallery": NAMES[3], "selected_on": "test", "differences": [*NAMES, "---"]}
        document = measured(0.5, dataset=f"x\n---\n{NAMES[0]} {name}", selection="\n\n# heading", protocol=protocol)
        (trained / "evaluation" / f"{name}.json").write_text(json.dumps(document))
    try:
        assert main(["export", str(trained), str(tmp_path / "out")]) == 0
    finally:
        for name in ("plain", "other"):
            (trained / "evaluation" / f"{name}.json").unlink()
    text = (tmp_path / "out" / "README.md").read_text()
    assert not CODES.search(text)
    card = ModelCard(text)
    assert {result.dataset_name for result in card.data.eval_results} >= {f"x\\n---\\n{NAMES[0]} plain"}
    found = kinds(card.text)
    assert found["heading"] == 5 and found["fence"] == 1 and found["table"] == 3
    assert found.keys() <= PLAIN | {"softbreak", "fence", "code_inline"}
    assert found["code_inline"] == 4  # `license:`, `USER/MODEL@COMMIT`, `SentenceTransformer(…)`, `modules.json`
    shown = "".join(token.content for token in parsed(card.text) if token.type == "text")
    for name in (*CLASSES, *NAMES):
        assert one_line(name).strip() in shown


@pytest.mark.slow
def test_what_is_handed_on_does_not_say_where_its_makers_files_lay(hostile_shards: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    import onnx

    import xmr_e2e
    from tests.helpers.made_models import make_model, pretrained, save_transformers
    from xmr_e2e.methods.cca import Cca
    from xmr_e2e.models.onnx_files import save_onnx
    from xmr_e2e.towers.vector import VectorTower

    model = make_model(hostile_shards)
    weights = replace(model.config.towers["image"], weights="/home/maker/net.pth")  # type: ignore[call-arg]
    model.config = replace(model.config, image=weights)  # type: ignore[call-arg]
    model.data = replace(model.data, words=replace(model.data.words, file=Path("/home/maker/vectors.txt")))
    model.save_pretrained(tmp_path / "out")
    pretrained(hostile_shards, save_transformers(tmp_path / "home/maker/hub")).save_pretrained(tmp_path / "pretrained")
    vectors = xmr_e2e.SavedModel(
        Cca(image=VectorTower(), text=VectorTower(), dim=2), model.data, CLASSES, False, None, {"image": 3, "text": 3},
        _built(Cca(image=VectorTower(), text=VectorTower(), dim=2)),
    )  # fmt: skip
    save_onnx(vectors, tmp_path / "out")
    onnx.checker.check_model(onnx.load(tmp_path / "out" / "onnx" / "text.onnx"))
    files = [path for name in ("out", "pretrained") for path in (tmp_path / name).rglob("*") if path.is_file()]
    places = [
        b"/home/",
        b"home/maker",
        str(ROOT).encode(),
        str(tmp_path).encode(),
        sys.prefix.encode(),
        b"site-packages",
    ]
    for path in files:
        assert not [place for place in places if place in path.read_bytes()], path
    assert xmr_e2e.load(tmp_path / "out").fingerprint == model.fingerprint
    assert json.loads((tmp_path / "out" / "config.json").read_bytes())["config"]["image"]["weights"] == "net.pth"


def _built(config: Any) -> Any:
    import torch

    from xmr_e2e.towers.base import DatasetInfo

    torch.manual_seed(0)
    method = config.build(DatasetInfo(4, False, 32, torch.zeros(0, 0), {"image": 3, "text": 3}))
    for buffer in method.buffers():
        if buffer.is_floating_point():
            buffer.data = torch.randn_like(buffer)
        elif buffer.dtype == torch.bool:
            buffer.data = torch.ones_like(buffer)
    return method


# ---- what runs of others say


DOCUMENTS = [measured(0.5), Made(scores={"mAP@all": 0.5, "R@1": 0.1})._document()]
CONFIG = {
    "type": "xmr_e2e.runs.experiment:Experiment",
    "name": "dscmr_wikipedia",
    "data": {"type": "xmr_e2e.data.config:Data", "shards": "shards"},
    "method": {"type": "xmr_e2e.methods.dscmr:Dscmr", "image": {"type": "xmr_e2e.towers.image:ImageTower"}},
    "optimizer": {"type": "xmr_e2e.runs.experiment:Optimizer"},
    "train": {"type": "xmr_e2e.runs.experiment:Train", "seed": 3},
}
RECORDS = {"step": 3, "val": {"average mAP@all": 0.5}, "loss": {"total": [1.0, 2]}, "lr": 0.1, "images_per_second": 3.0}


@pytest.fixture(scope="module")
def fuzzed_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("fuzzed") / "run"
    Made().write(run)
    return run


def only_xmr_errors(function: Callable[[], object], *, names: str) -> None:
    """Ends, or raises an XmrError of one line that names the file."""
    try:
        function()
    except XmrError as error:
        assert names in str(error) and "\n" not in str(error) and len(str(error)) < 3000


@pytest.mark.slow
@given(hostile(*DOCUMENTS))
@fuzzed
def test_figures_of_others_become_tables_or_one_line(fuzzed_run: Path, content: bytes) -> None:
    (fuzzed_run / "evaluation" / "test.json").write_bytes(content)
    for form in ("markdown", "latex", "csv"):
        only_xmr_errors(partial(_table, (fuzzed_run,), (), form), names="test.json")  # type: ignore[arg-type]


@pytest.mark.slow
@given(
    hostile(CONFIG, {"commit": "abc", "manifest_sha256": "def"}), st.sampled_from(["config.json", "environment.json"])
)
@fuzzed
def test_configurations_of_others_become_tables_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, name: str
) -> None:
    run = tmp_path_factory.getbasetemp() / "configured"
    write(run / "evaluation" / "test.json", json.dumps(DOCUMENTS[0]))
    write(run / "config.json", json.dumps(CONFIG))
    write(run / "environment.json", "{}")
    (run / name).write_bytes(content)
    only_xmr_errors(lambda: _table((run,), (), "markdown"), names="configured")


@pytest.mark.slow
@given(hostile(DOCUMENTS[0]), hostile(RECORDS))
@fuzzed
def test_runs_of_others_become_a_comparison_or_one_line(
    fuzzed_run: Path, tmp_path_factory: pytest.TempPathFactory, content: bytes, record: bytes
) -> None:
    """Without the curves, which take long; they are drawn of the same numbers in the test below."""
    (fuzzed_run / "evaluation" / "test.json").write_bytes(content)
    (fuzzed_run / "metrics.jsonl").write_bytes(record + b"\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(xmr_e2e.reports.comparison, "overlaid_plot", lambda *arguments, **options: b"<svg/>")
        patch.setattr("xmr_e2e.runs.drawing.as_error", lambda path, error: error)  # no traceback is hidden
        out = tmp_path_factory.getbasetemp() / "page.html"
        only_xmr_errors(lambda: report_command((fuzzed_run, fuzzed_run), out=out), names=str(fuzzed_run))


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
def test_curves_of_the_largest_numbers_are_drawn(tmp_path: Path) -> None:
    runs = []
    for number in range(2):
        document = measured(0.5)
        for side in ("model", "random"):
            for metrics in document[side]["figures"].values():
                metrics["curve"]["precision"] = [10.0**15, -(10.0**15), *metrics["curve"]["precision"][2:]]
                metrics["scope"]["k"] = [0, -5, *metrics["scope"]["k"][2:]]
                metrics["scores"]["mAP@all"] = 10.0**15
        run = tmp_path / str(number)
        write(run / "evaluation" / "test.json", json.dumps(document))
        write(run / "metrics.jsonl", json.dumps({"step": 2**53 - 1, "val": {"average mAP@all": 1e29}}) + "\n")
        runs.append(run)
    report_command(tuple(runs), out=tmp_path / "page.html")
    check_page(tmp_path / "page.html")


@pytest.mark.slow
@given(hostile(RECORDS))
@fuzzed
def test_a_log_of_others_is_read_or_one_line(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    from xmr_e2e.reports.plots import _series

    run = Run(tmp_path_factory.getbasetemp() / "logged")
    write(run.metrics, "")
    run.metrics.write_bytes(content + b"\n")
    only_xmr_errors(
        lambda: [_series(run.records(), group) for group in ("loss", "val", "lr")], names="metrics.jsonl is damaged"
    )


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"model": []}, "model: "),
        ({"split": "../../x"}, "split: "),
        ({"dataset": 5}, "dataset: "),
        ({"random": {"figures": {"image_to_text": {"scores": {"mAP@all": float("nan")}, "queries": 1}}, "average": {}}},
         "random.figures.image_to_text.scores.mAP@all: "),
        ({"random": {"figures": {"image_to_text": {"scores": {"mAP@all": 10**400}, "queries": 1}}, "average": {}}},
         "random.figures.image_to_text.scores.mAP@all: "),
        ({"protocol": {"name": "clean", "gallery": "test", "selected_on": "luck", "differences": []}},
         "protocol.selected_on: "),
        ({"model": {"figures": {}, "average": {}}}, "model.figures has no direction"),
    ],
)  # fmt: skip
def test_figures_that_are_none_are_named_with_file_and_key(
    change: dict[str, Any], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Made().write(tmp_path / "run")
    path = run / "evaluation" / "test.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | change))
    with pytest.raises(XmrError, match=re.escape(f"{path}: not what `xmr eval` writes: {complaint}")):
        read_result(path)
    assert main(["table", str(run)]) == 2
    assert complaint in capsys.readouterr().err.replace("\n", "")


def test_the_terminals_escape_leaves_words_of_all_scripts(capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("Zoë ← 犬 straße", "עברית", "العربية", "क्‍ष", "👩‍👩‍👧"):
        assert printable(text) == one_line(text) == text
