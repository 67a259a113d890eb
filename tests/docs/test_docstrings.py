"""Docstrings begin with a noun phrase or an imperative (PEP 257), and every public module has one."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import ROOT

PACKAGES = ("xmr_e2e", "preprocessing", "recipes", "benchmarks")
QUESTION = re.compile(
    r"((about|after|as|at|before|by|for|from|in|into|of|on|over|through|to|under|until|with) )?"
    r"(what|whether|where|how|why|who|whom|whose|which|when)\b",
    re.IGNORECASE,
)
"""an indirect question's first words"""


def parsed(package: str) -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted((ROOT / package).rglob("*.py")):
        yield path, ast.parse(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("package", PACKAGES)
def test_no_docstring_begins_with_a_question(package: str) -> None:
    found = []
    for path, module in parsed(package):
        for node in ast.walk(module):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node)
                if text and QUESTION.match(text):
                    found.append(f"{path.relative_to(ROOT)}:{node.body[0].lineno}: {text.splitlines()[0]}")
    assert not found, "\n".join(found)


@pytest.mark.slow
@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_module_has_a_docstring(package: str) -> None:
    modules = [(path, module) for path, module in parsed(package) if path.stem == "__init__" or path.stem[0] != "_"]
    assert modules
    bare = [str(path.relative_to(ROOT)) for path, module in modules if module.body and not ast.get_docstring(module)]
    assert not bare, "\n".join(bare)
