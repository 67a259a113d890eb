"""Constraints for pip with which the lowest versions that pyproject.toml allows are installed.

    python .ci/lowest.py > constraints-lowest.txt

Of torch, whose releases are not the same on every machine, the lowest that the package index here has to offer; which
torchvision goes with it is pip's to find.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
BY_RANGE = ("torch", "torchvision")
"""packages of which no single version is asked for"""


def lower_bounds(pyproject: Path = PYPROJECT) -> dict[str, str]:
    """Name -> lowest version, of all packages that the program, its tests and its documentation need.

    Raises:
        ValueError: a requirement that does not begin with a lower bound.
    """
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    bounds = {}
    for requirement in chain(project["dependencies"], *project["optional-dependencies"].values()):
        if requirement.startswith(f"{project['name']}["):  # of the extras, which come by themselves
            continue
        found = re.match(r"([\w-]+)(?:\[[\w,-]+\])?>=([\d.]+)", requirement)
        if not found:
            raise ValueError(f"{requirement}: every requirement is to begin as NAME>=VERSION")
        bounds[found[1]] = found[2]
    return bounds


def lowest_on_offer(name: str, bound: str) -> str | None:
    """The lowest version not below the bound that pip can get here; None if pip cannot tell."""
    command = [sys.executable, "-m", "pip", "index", "versions", name]
    listed = subprocess.run(command, capture_output=True, text=True).stdout
    line = re.search(r"^Available versions: (.*)$", listed, re.MULTILINE)
    versions = line[1].split(", ") if line else []
    fitting = [v for v in versions if re.fullmatch(r"[\d.]+", v) and as_numbers(v) >= as_numbers(bound)]
    return min(fitting, key=as_numbers, default=None)


def as_numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def main() -> None:
    bounds = lower_bounds()
    lines = [f"{name}=={version}" for name, version in bounds.items() if name not in BY_RANGE]
    torch = lowest_on_offer("torch", bounds["torch"])
    if torch is None:
        sys.exit("pip cannot tell which versions of torch there are; is there a network?")
    sys.stdout.write("\n".join([*lines, f"torch<={torch}", ""]))


if __name__ == "__main__":
    main()
