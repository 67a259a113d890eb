"""What README.md and docs/ show and name exists: tables, trees, files, recipes, commands, options, messages."""

from __future__ import annotations

import importlib
import importlib.util
import io
import pkgutil
import re
from collections.abc import Iterable, Iterator
from contextlib import redirect_stdout, suppress
from dataclasses import fields
from pathlib import Path

import pytest
import tyro
from accelerate.commands.launch import launch_command_parser
from torch.distributed.run import get_args_parser

from preprocessing.caption_labels import read_concepts
from preprocessing.folder.command import folder as build_folder
from preprocessing.folder.table_samples import samples_of_table
from tests import ROOT
from tests.helpers.drawn import draw_image
from tests.helpers.pages import PAGES, alternatives, blocks, commands, prose_and_code, spans, spans_of
from tests.helpers.project_folder import RAW
from tests.helpers.recipes import RECIPES, options_of, recipe
from xmr_e2e.cli import main
from xmr_e2e.configuration import document_type
from xmr_e2e.methods.discovery import all_methods, method_name
from xmr_e2e.shards.build import BuildOptions
from xmr_e2e.shards.manifest import load_manifest
from xmr_e2e.shards.schema import MODALITIES
from xmr_e2e.studies.files import find_studies
from xmr_e2e.studies.study_main import RUN
from xmr_e2e.towers.base import SequenceTower, TowerConfig
from xmr_e2e.towers.kinds import tower_kinds
from xmr_e2e.training.help import LONG

COMMANDS = commands()
FOREIGN = (
    "--account --array --batch --cpus-per-task --format --gpus-per-node --me --mem --no-requeue --nodes "
    "--ntasks-per-node --output --oversubscribe --partition --shm-size --signal --start --time "
    "--bind --container-image --gpus --ipc --user"
).split()
"""options of Slurm's commands, of Docker's and Apptainer's, that pages name"""


# ---- files that are shown


@pytest.mark.parametrize("language", ["csv", "jsonl"])
def test_the_tables_that_are_shown_become_shards(language: str, tmp_path: Path) -> None:
    (block,) = (block for block in blocks(language) if "label" in block.text)
    table = tmp_path / f"raw/table.{language}"
    table.parent.mkdir()
    table.write_text(block.text)
    for image in re.findall(r"photos/\w+\.jpg", block.text):
        draw_image(table.parent / image)
    build_folder(table.parent, tmp_path / "out", table=table, build=BuildOptions(workers=1))
    built = load_manifest(tmp_path / "out")
    assert {split: part.samples for split, part in built.splits.items()} == {"train": 1, "val": 1, "test": 1}
    assert set(built.classes) == {"beach", "dog", "sea"} and built.multi_label


def test_the_table_of_pictures_and_texts_that_is_shown_is_read(tmp_path: Path) -> None:
    (block,) = (block for block in blocks("csv") if "label" not in block.text)
    (tmp_path / "table.csv").write_text(block.text)
    found = samples_of_table(tmp_path, tmp_path / "table.csv")
    assert [(sample.source, len(sample.texts)) for sample in found.samples] == [
        ("photos/0001.jpg", 2), ("photos/0002.jpg", 1)
    ]  # fmt: skip
    assert not any(sample.labels or sample.split for sample in found.samples)


def test_the_word_lists_that_are_shown_are_read(tmp_path: Path) -> None:
    for block in blocks("json"):
        (tmp_path / "words.json").write_text(block.text)
        assert len(read_concepts(tmp_path / "words.json")) > 1


DATASETS = {"wikipedia": "Wikipedia", "pascal_sentence": "Pascal Sentence", "nuswide": "NUS-WIDE", "xmedia": "XMedia",
            "xmedianet": "XMediaNet", "websearch": "INRIA Web Queries", "mirflickr": "MIRFLICKR-25K",
            "mscoco": "MSCOCO", "flickr8k": "Flickr8k", "flickr30k": "Flickr30k"}  # fmt: skip
"""of the page on datasets: builder's files -> heading"""


@pytest.mark.parametrize("dataset", RAW)
def test_a_tree_shows_files_of_the_publishers_layout(dataset: str, tmp_path: Path) -> None:
    raw = RAW[dataset](tmp_path / "raw")
    (tree,) = (block for block in blocks("text") if block.heading == DATASETS[dataset])
    shown = [re.split(r"  +", line.strip())[0] for line in tree.text.splitlines()[1:]]
    assert shown
    for pattern in (one for line in shown for one in alternatives(line)):
        assert any(raw.glob(re.sub(r"<[^>]*>", "*", pattern))), pattern


def test_each_dataset_has_a_section_and_each_builder_a_command() -> None:
    lines = [line for line in COMMANDS if line.startswith("python -m preprocessing.")]
    tried = {line.split()[2].removeprefix("preprocessing.") for line in lines}
    assert tried == set(BUILDERS)


# ---- what is named


STARTED = {
    ".".join(("preprocessing", *path.relative_to(ROOT / "preprocessing").with_suffix("").parts)): path
    for path in (ROOT / "preprocessing").rglob("*.py")
    if "\n    run(" in path.read_text()
}
"""module -> file of those that are started: a builder's file, or the __main__ of its folder"""
BUILDERS = {name.removesuffix(".__main__").removeprefix("preprocessing."): name for name in STARTED}
"""builder -> the module that starts it"""


@pytest.mark.parametrize("page", PAGES)
def test_files_that_a_page_names_exist(page: str) -> None:
    prose = "\n".join(prose_and_code(page)[0])
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", prose) if "://" not in link]
    missing = [link for link in links if not (ROOT / page).parent.joinpath(link).exists()]
    named = re.findall(r"(?<![\w/.])(?:docs|recipes|slurm|preprocessing|xmr_e2e|benchmarks|tests)/[\w/.{},*-]*", prose)
    for name in (one for text in named for one in alternatives(text.rstrip(".,"))):
        missing += [] if any(ROOT.glob(name)) else [name]
    assert not missing


def test_names_of_the_architecture_exist() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    names = re.findall(r"`((?:[a-z_]+\.)+[A-Za-z_]\w*)(?:\(\))?`", page)
    names = [name for name in names if not name.endswith((".py", ".md", ".json"))]
    assert len(names) > 25
    for name in names:
        pkgutil.resolve_name(name if name.startswith("xmr_e2e.") else f"xmr_e2e.{name}")
    assert page.count("\n") < 90  # a screen and a half


def test_the_recipes_of_the_tables_exist() -> None:
    methods = "|".join(method_name(document_type(method)) for method in all_methods())
    for page in PAGES:
        names = [one for span in spans_of(page) for one in alternatives(span)]
        recipes = {name for name in names if re.fullmatch(rf"({methods})_[a-z]+\w*", name)}
        assert recipes <= set(RECIPES) | find_studies().keys(), page


@pytest.mark.parametrize("page", PAGES)
def test_commands_within_sentences_exist(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    builders = {match for span in spans_of(page) for match in re.findall(r"preprocessing\.(\w+)", span)}
    assert builders <= set(BUILDERS)
    for words in xmr_commands(spans_of(page)):
        with pytest.raises(SystemExit, match="0"):
            main([*words, "--help"])
    capsys.readouterr()


def xmr_commands(lines: Iterable[str]) -> set[tuple[str, ...]]:
    """The names of the commands in lines that begin with xmr."""
    found = [line.split()[1:] for line in lines if re.match(r"xmr \w", line)]
    return {tuple(words[: 2 if words[0] in ("shards", "study") else 1]) for words in found}


@pytest.fixture(scope="module")
def known_options() -> set[str]:
    """Of the recipes, study files, builders and commands here, of Accelerate's launcher and of torchrun."""
    experiments = [recipe(name).experiment() for name in RECIPES]
    parts = ("data", "method", "optimizer", "schedule", "train")
    own = {option for e in experiments for part in parts for option in options_of(getattr(e, part), f"--{part}")}
    own |= {option for modality, tower in towers_of_all_kinds() for option in tower_options(modality, tower)}
    parsers = (launch_command_parser(), get_args_parser())
    foreign = {option for parser in parsers for action in parser._actions for option in action.option_strings}
    return own | {RUN, LONG} | foreign | set(FOREIGN) | set(re.findall(r"--[a-z][\w-]*", all_help()))


def towers_of_all_kinds() -> Iterator[tuple[str, type[TowerConfig]]]:
    """Modality and class of what the command line may choose."""
    for modality in MODALITIES:
        for hint in (TowerConfig, SequenceTower):
            yield from ((modality, tower) for tower in tower_kinds(hint, modality).values())


def tower_options(modality: str, tower: type[TowerConfig]) -> set[str]:
    names = ["kind", *(field.name for field in fields(tower))]
    return {f"--method.{modality}.{name.replace('_', '-')}" for name in names}


def all_help() -> str:
    """The help of all commands and builders."""
    shown = io.StringIO()
    with redirect_stdout(shown):
        for words in {()} | xmr_commands([*COMMANDS, *(span for page in PAGES for span in spans_of(page))]):
            with suppress(SystemExit):
                main([*words, "--help"])
        for name, module_name in sorted(BUILDERS.items()):
            module = importlib.import_module(module_name)
            with suppress(SystemExit):
                tyro.cli(getattr(module, name), args=["--help"], config=(tyro.conf.OmitArgPrefixes,))
    return shown.getvalue()


@pytest.mark.parametrize("page", PAGES)
def test_options_that_a_page_names_exist(page: str, known_options: set[str]) -> None:
    named = {match for span in spans_of(page) for match in re.findall(r"(?<!\S)--[a-z][\w.-]*\w", span)}
    assert named <= known_options


def test_the_messages_that_are_explained_are_those_that_are_given() -> None:
    code = "".join(path.read_text() for room in ("xmr_e2e", "preprocessing") for path in (ROOT / room).rglob("*.py"))
    rows = [line for line in prose_and_code("docs/own_data.md")[0] if line.startswith("| `")]
    messages = [
        span
        for row in rows[rows.index(next(r for r in rows if "cannot be used" in r)) :]
        for span in spans(row.split("|")[1])
    ]
    assert len(messages) > 5
    for part in (part.strip() for message in messages for part in message.split("…")):
        assert part in code
