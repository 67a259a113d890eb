"""The command that changes the program and asks the tests: what it changes, which tests it asks, what it says."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import bench
from benchmarks.mutants import places, same_code
from benchmarks.mutation import draw
from tests import ROOT
from xmr_e2e.errors import XmrError

pytestmark = pytest.mark.slow


def changed(text: str) -> set[tuple[str, str]]:
    """Each kind of change of a program, and the program after it."""
    tree = ast.parse(text)
    found = {(change.kind, place.source(tree, change)) for place in places(tree) for change in place.changes}
    assert ast.unparse(tree) == text  # as it was
    return found


@pytest.mark.parametrize(
    ("text", "kind", "after"),
    [
        ("a < b", "comparison inverted", "a >= b"),
        ("a < b", "boundary moved", "a <= b"),
        ("x = 3", "constant changed", "x = 4"),
        ("x = 0.5", "constant changed", "x = 1.0"),
        ("x = True", "constant changed", "x = False"),
        ("x = a + b", "term dropped", "x = a"),
        ("x = a * b", "factor dropped", "x = b"),
        ("x = a * b", "operator swapped", "x = a / b"),
        ("x = not a", "unary operator dropped", "x = a"),
        ("x = a and b", "and/or swapped", "x = a or b"),
        ("x = a and b", "condition dropped", "x = b"),
        ("x = f(a, b, k=c)", "argument k= dropped", "x = f(a, b)"),
        ("x = f(a, b, k=c)", "arguments swapped", "x = f(b, a, k=c)"),
        ("x = a.b.sum()", "name swapped", "x = a.b.mean()"),
        ("x = max(a)", "name swapped", "x = min(a)"),
        ("x = a.detach()", ".detach() dropped", "x = a"),
        ("x = a.b(c).d()", ".d() dropped", "x = a.b(c)"),
        ("x = a if b else c", "always the second", "x = c"),
        ("x += a", "statement dropped", "pass"),
        ("f(a)", "statement dropped", "pass"),
        ("x[0] = a", "statement dropped", "pass"),
        ("raise ValueError('x')", "statement dropped", "pass"),
        ("if a:\n    b()", "condition inverted", "if not a:\n    b()"),
        ("with f(a) as (a,):\n    b()", "with dropped", "if True:\n    b()"),
        ("x = [a for a in b if c]", "filter dropped", "x = [a for a in b]"),
        ("x = a[1:b]", "upper bound dropped", "x = a[1:]"),
        ("if a:\n    return b", "early return dropped", "if a:\n    pass"),
    ],
)
def test_each_kind_of_change(text: str, kind: str, after: str) -> None:
    assert (kind, after) in changed(text)


@pytest.mark.parametrize(
    "text",
    [
        "x: Annotated[int, Bounds(1 + 2)]",
        "def f(a: g(1)) -> h(2):\n    \"\"\"One.\"\"\"",
        "if TYPE_CHECKING:\n    x = 1",
        "def __repr__(self):\n    return 1 + 2",
        "logger.info('%d', 1 + 2)",
        "x = f'{a + 1}'",
        "x = 'a' + b",
        "x = 'text'",
        "raise NotImplementedError",
        "@dataclass(frozen=True)\nclass A:\n    pass",
        "assert isinstance(a, b)",
    ],
)  # fmt: skip
def test_what_no_test_should_look_at_is_not_changed(text: str) -> None:
    assert changed(text) == set()


def test_the_message_of_an_error_is_not_changed_but_the_error_can_be_left_out() -> None:
    assert changed("raise ValueError(f(1 + 2, a < b))") == {("statement dropped", "pass")}


def test_a_change_that_compiles_to_the_same_is_found() -> None:
    def compiled(text: str) -> bool:
        return same_code(compile("def f():\n    return 1 + 1", "a", "exec"), compile(text, "b", "exec"))

    assert compiled("def f():\n\n    return 2")
    assert not compiled("def f():\n    return 3")
    assert not compiled("def f():\n    return 2.0")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a good test of one function, and a test of the other that looks at nothing."""
    root = tmp_path_factory.mktemp("project")
    for name, text in {
        "xmr_e2e/a/seen.py": "def double(x):\n    return x * 2\n",
        "xmr_e2e/a/unseen.py": "def half(x):\n    return x / 2\n",
        "xmr_e2e/a/endless.py": "def count(n):\n    while n > 0:\n        n -= 1\n    return n\n",
        "xmr_e2e/a/far.py": "from xmr_e2e.a.seen import double\n",
        "xmr_e2e/a/heavy.py": "def third(x):\n    return x / 3\n",
        "tests/__init__.py": "",
        "tests/helper.py": "from xmr_e2e.a.unseen import half\n",
        "tests/test_seen.py": "from xmr_e2e.a.seen import double\ndef test_double():\n    assert double(3) == 6\n",
        "tests/test_other.py": "from tests import helper\ndef test_half():\n    assert helper.half(4)\n",
        "tests/test_far.py": "import xmr_e2e.a.far\nfrom xmr_e2e.a.endless import count\n"
        "def test_count():\n    assert count(3) == 0\n",
        "tests/test_heavy.py": "import time\nfrom xmr_e2e.a.heavy import third\n"
        "def test_third():\n    assert third(3)\n    while time.process_time() < 2.5:\n        pass\n",
        "pyproject.toml": "[tool.pytest.ini_options]\nmarkers = ['slow']\n",
        **{f"benchmarks/{name}.py": (ROOT / f"benchmarks/{name}.py").read_text() for name in COMMAND_FILES},
        **dict.fromkeys(("benchmarks/__init__.py", "xmr_e2e/__init__.py", "xmr_e2e/a/__init__.py"), ""),
        **{f"xmr_e2e/{name}.py": (ROOT / f"xmr_e2e/{name}.py").read_text() for name in BESIDE},
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
    return root


COMMAND_FILES = ("mutation", "mutants", "bench")
BESIDE = ("console", "errors", "escape", "files", "received")
"""what the command needs of the program"""


COMMAND = "import sys; from benchmarks import bench, mutation; bench.PATIENCE = 1.0; sys.exit(mutation.main())"


def run(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(project), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, "-c", COMMAND, *arguments],
        capture_output=True, text=True, cwd=project, env=environment,
    )  # fmt: skip


def test_tests_named_after_a_file_are_asked_first_then_those_that_import_it(project: Path) -> None:
    assert bench.tests_of(project, "xmr_e2e/a/seen.py") == (("tests/test_seen.py",), (), ("tests/test_far.py",), ())
    assert bench.tests_of(project, "xmr_e2e/a/unseen.py") == ((), ("tests/test_other.py",), (), ())


def test_a_draw_is_one_of_its_seed_and_goes_on_where_a_smaller_one_ended() -> None:
    room = [Path("xmr_e2e/objectives")]
    first = draw(ROOT, room, 1, 30)
    assert draw(ROOT, room, 1, 10) == first[:10]
    assert draw(ROOT, room, 2, 10) != first[:10]
    for mutant in first:
        assert 1 <= mutant.line <= len((ROOT / mutant.file).read_text().splitlines())
        assert mutant.before != mutant.after
        assert mutant.source != ast.unparse(ast.parse((ROOT / mutant.file).read_text()))


def test_a_draw_of_too_many_places_or_of_a_missing_path_is_refused(project: Path) -> None:
    with pytest.raises(XmrError, match=r"--places 99: there are \d places to change below --paths"):
        draw(project, [Path("xmr_e2e/a/seen.py")], 0, 99)
    with pytest.raises(XmrError, match=r"--paths nowhere: there is no such file"):
        draw(project, [Path("nowhere")], 0, 1)


def test_what_no_test_sees_is_listed_and_the_tree_stays_as_it_was(project: Path) -> None:
    before = {path: path.read_bytes() for path in project.rglob("*.py")}
    done = run(project, "--places", "4", "--json", "out.json", "--paths", "xmr_e2e/a/seen.py", "xmr_e2e/a/unseen.py")
    found = json.loads((project / "out.json").read_text())
    assert done.returncode == 1, done.stderr
    fates = {(Path(each["file"]).stem, each["seen_by"]) for each in found}
    assert fates == {("seen", "tests/test_seen.py"), ("unseen", None)}
    assert "xmr_e2e/a/unseen.py:2" in done.stderr and "SURVIVED" in done.stderr
    assert {path: path.read_bytes() for path in project.rglob("*.py")} == before


def test_only_survivors_of_an_earlier_run_are_changed_again(project: Path) -> None:
    rooms = ["--places", "4", "--paths", "xmr_e2e/a/seen.py", "xmr_e2e/a/unseen.py"]
    run(project, "--json", "out.json", *rooms)
    first = json.loads((project / "out.json").read_text())
    test = project / "tests" / "test_other.py"
    weak = test.read_text()
    test.write_text(weak.replace("helper.half(4)", "helper.half(6) == 3"))
    try:
        done = run(project, "--json", "again.json", "--again", "out.json", *rooms)
    finally:
        test.write_text(weak)
    assert done.returncode == 0, done.stderr
    second = json.loads((project / "again.json").read_text())
    lines = [(each["file"], each["before"], each["after"]) for each in first if each["seen_by"] is None]
    assert lines and [(each["file"], each["before"], each["after"]) for each in second] == lines
    assert {each["seen_by"] for each in second} == {"tests/test_other.py"}


@pytest.mark.parametrize("remembered", [None, 0.1])
def test_a_test_that_takes_longer_than_was_known_is_not_taken_for_one_that_hangs(
    project: Path, remembered: float | None
) -> None:
    memory = project / "build" / "test_seconds.json"
    memory.parent.mkdir(exist_ok=True)
    memory.write_text(json.dumps({} if remembered is None else {"tests/test_heavy.py": remembered}))
    done = run(project, "--places", "1", "--json", "out.json", "--paths", "xmr_e2e/a/heavy.py")
    (found,) = json.loads((project / "out.json").read_text())
    assert found["seen_by"] is None, done.stderr
    assert json.loads(memory.read_text())["tests/test_heavy.py"] > 2


def test_a_test_that_is_known_to_take_longer_than_a_change_may_cost_is_not_asked(project: Path) -> None:
    memory = project / "build" / "test_seconds.json"
    memory.parent.mkdir(exist_ok=True)
    memory.write_text(json.dumps({"tests/test_seen.py": 9.0, "tests/test_far.py": 0.1}))
    run(project, "--places", "1", "--most", "2", "--json", "out.json", "--paths", "xmr_e2e/a/seen.py")
    assert json.loads((project / "out.json").read_text())[0]["seen_by"] is None
    run(project, "--places", "1", "--most", "3", "--json", "out.json", "--paths", "xmr_e2e/a/seen.py")
    assert json.loads((project / "out.json").read_text())[0]["seen_by"] == "tests/test_seen.py"
    assert json.loads(memory.read_text())["tests/test_seen.py"] < 9


def test_a_test_that_does_not_end_has_seen_the_change(project: Path) -> None:
    done = run(project, "--places", "4", "--json", "out.json", "--paths", "xmr_e2e/a/endless.py")
    found = json.loads((project / "out.json").read_text())
    assert done.returncode in (0, 1), done.stderr
    endless = [each for each in found if each["kind"] == "statement dropped"]
    assert endless and all("ended by SIG" in each["seen_by"] for each in endless)


def test_a_test_that_fails_without_any_change_is_named_and_not_asked(project: Path) -> None:
    test = project / "tests" / "test_seen.py"
    good = test.read_text()
    test.write_text(good.replace("6", "7"))
    try:
        done = run(project, "--places", "1", "--json", "out.json", "--paths", "xmr_e2e/a/seen.py")
    finally:
        test.write_text(good)
    assert done.returncode == 1
    assert "tests/test_seen.py fails without any change, and is not asked" in done.stderr
    assert json.loads((project / "out.json").read_text())[0]["seen_by"] is None
