"""In a checkout: the folder recipes/ at its top, under the name that it has where the package is installed.

A recipe that differs from another in its dataset imports it by this name, so that it runs from any folder, copied or
not, under any launcher. In a wheel the recipes themselves lie in this folder, without this file (pyproject.toml).
"""

from pathlib import Path

__path__ = [str(Path(__file__).resolve().parents[2] / "recipes")]
