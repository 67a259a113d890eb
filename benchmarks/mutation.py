"""Changes that the tests see: the program is changed at one place at a time, and the tests that look at it are run.

    python -m benchmarks.mutation --seed 1 --places 40
    python -m benchmarks.mutation --seed 1 --places 20 --paths xmr_e2e/methods --json build/mutation.json

Places are drawn with the seed; with the same seed and paths, more of them begin with those of fewer. A change that no
test saw is shown with its file and line: a test is missing, or the program does the same as before, which a person has
to decide. Works on a copy of the tree. Tests are imported and run in forks of one process that has torch and the like
already. Exit status: 0 if all changes were seen, 1 if some were not.
"""

from __future__ import annotations

import ast
import gc
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.table import Table

from benchmarks.bench import ROOT, Bench, copied, import_others
from benchmarks.mutants import places, same_code
from xmr_e2e.console import console, report_errors
from xmr_e2e.errors import XmrError
from xmr_e2e.files import write_atomically

STEP = "step gradcache checkpoints signals selection validation setup"
"""files of `training` that a step and an epoch rest on"""
DEFAULT = (
    *(Path(f"xmr_e2e/{room}") for room in "objectives methods data evaluation".split()),
    *(Path(f"xmr_e2e/training/{name}.py") for name in STEP.split()),
    Path("xmr_e2e/models/embed.py"),
)


@dataclass(frozen=True)
class Mutant:
    """A changed file."""

    file: str
    line: int
    kind: str
    before: str
    after: str
    source: str


@dataclass(frozen=True)
class Verdict:
    """The tests' verdict on a mutant: the file of tests that failed, or nothing."""

    file: str
    line: int
    kind: str
    before: str
    after: str
    seen_by: str | None
    seconds: float

    @property
    def room(self) -> str:
        return str(Path(self.file).parent)


def draw(root: Path, paths: Sequence[Path], seed: int, count: int) -> list[Mutant]:
    """So many mutants of the Python files below these paths.

    Raises:
        XmrError: a path that is not there, or fewer places than that.
    """
    found = []
    for file in _python_files(root, paths):
        tree = ast.parse((root / file).read_text())
        found += [(file, tree, place) for place in places(tree)]
    chance = random.Random(seed)
    chance.shuffle(found)
    mutants: list[Mutant] = []
    for file, tree, place in found:
        if len(mutants) == count:
            return mutants
        change = chance.choice(place.changes)
        source = place.source(tree, change)
        if not same_code(compile(source, file, "exec"), compile(ast.unparse(tree), file, "exec")):
            before, after = (shortened(ast.unparse(node)) for node in (place.node, change.node))
            line = getattr(place.node, "lineno", getattr(place.parent, "lineno", 0))
            mutants.append(Mutant(file, line, change.kind, before, after, source))
    if len(mutants) < count:
        raise XmrError(f"--places {count}: there are {len(mutants)} places to change below --paths")
    return mutants


def shortened(text: str) -> str:
    """One line of at most 160 characters."""
    line = " ".join(text.split())
    return line if len(line) <= 160 else f"{line[:159]}…"


def _python_files(root: Path, paths: Sequence[Path]) -> list[str]:
    files = set()
    for path in paths:
        if not (root / path).exists():
            raise XmrError(f"--paths {path}: there is no such file or folder in {root}")
        found = (root / path).rglob("*.py") if (root / path).is_dir() else [root / path]
        files |= {str(each.relative_to(root)) for each in found}
    return sorted(files)


# ---- the command


def mutate(
    seed: int = 0,
    places: int = 40,
    skip: int = 0,
    paths: tuple[Path, ...] = DEFAULT,
    slow: bool = False,
    most: float = 30.0,
    json: Path | None = None,
    again: Path | None = None,
) -> int:
    """Change places of the program, one at a time, and list the changes that no test sees.

    Args:
        seed: of the draw.
        places: how many are drawn.
        skip: those of the draw that are passed over, as an earlier run had them.
        paths: files and folders to draw from.
        slow: run tests marked slow, too.
        most: seconds of a core that the tests of one change may take; those nearest to it come first, then the
            quickest. Those named after its file may take four times as long.
        json: a file for the result.
        again: the result of an earlier run with the same seed, places and paths: only what no test saw then is changed.
    """
    mutants = sorted(draw(ROOT, paths, seed, skip + places)[skip:], key=lambda each: (each.file, each.line))
    if again is not None:
        survivors = {_change(each) for each in _read(again) if each["seen_by"] is None}
        mutants = [mutant for mutant in mutants if _change(asdict(mutant)) in survivors]
    import_others(ROOT)
    gc.collect()
    gc.freeze()  # so that forks do not copy what they do not change
    verdicts = []
    with copied(ROOT) as tree:
        for file in {mutant.file for mutant in mutants}:  # as the changed ones are written, for tests that read sources
            (tree / file).write_text(ast.unparse(ast.parse((tree / file).read_text())))
        bench = Bench(tree, slow=slow, most=most, memory=ROOT / "build" / "test_seconds.json")
        for number, mutant in enumerate(mutants, 1):
            began = time.monotonic()
            seen_by = bench.judge(mutant.file, mutant.source)
            own = {name: value for name, value in asdict(mutant).items() if name != "source"}
            verdicts.append(Verdict(**own, seen_by=seen_by, seconds=round(time.monotonic() - began, 1)))
            console.print(f"{number}/{len(mutants)} {_line(verdicts[-1])}")
            if json is not None:
                _write(json, verdicts)
    _show(verdicts)
    return int(any(verdict.seen_by is None for verdict in verdicts))


def _line(verdict: Verdict) -> str:
    fate = f"seen by {verdict.seen_by}" if verdict.seen_by else "SURVIVED"
    change = f"{verdict.kind}: {verdict.before} => {verdict.after}"
    return f"{verdict.file}:{verdict.line} {change} | {fate}, {verdict.seconds:.1f} s"


def _write(path: Path, verdicts: Sequence[Verdict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps([asdict(each) for each in verdicts], indent=1).encode())


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise XmrError(f"--again {path}: {error}") from error


def _change(found: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(found[name] for name in ("file", "line", "kind", "before", "after"))


def _show(verdicts: Sequence[Verdict]) -> None:
    table = Table("room", "changes", "seen", "share")
    drawn, seen = Counter(each.room for each in verdicts), Counter(each.room for each in verdicts if each.seen_by)
    for room in [*sorted(drawn), "all"]:
        one, other = (sum(each.values()) if room == "all" else each[room] for each in (drawn, seen))
        table.add_row(room, str(one), str(other), f"{other / one:.0%}")
    console.print(table)
    for verdict in verdicts:
        if not verdict.seen_by:
            console.print(_line(verdict))


def main() -> int:
    """The command; its exit status."""
    return report_errors(lambda: tyro.cli(mutate, prog="python -m benchmarks.mutation", description=__doc__))


if __name__ == "__main__":
    sys.exit(main())
