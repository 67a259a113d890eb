"""Tests: a folder for each of the program's packages, with what they share in `helpers`."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
"""the project's folder"""
