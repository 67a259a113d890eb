"""Text of others, as it may stand in what is written for people: each place has characters that it obeys.

One function for each place; what it returns is seen there as the text was, and does nothing.
"""

from __future__ import annotations

import re
import shlex
import unicodedata
from typing import TypeVar

Value = TypeVar("Value")

_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")
"""by terminals, which colour, move and hide by control characters; and in any text, what changes its direction"""
_OBEYED_ON_PAGES = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""by browsers: of what changes a text's direction, only that which reaches beyond it; the marks belong to captions"""
_MARKDOWN = re.compile(
    r"[\\`*\[\]<>&|~$]"  # code, emphasis, links, HTML, entities, cells, strikes, formulas
    r"|(?<![^\W_])_|_(?![^\W_])"  # but not within a_name
    r"|:(?=//)|(?<=\bwww)\.|@(?=[\w.-]+\.\w)"  # addresses that become links by themselves
    r"|^[-+#=:](?=[-+#=\s]|$)"  # lists, headings, rules, rows of a table
)
_NUMBERED = re.compile(r"^(\d{1,9})([.)])(?=\s|$)")
"""the first item of a list"""
_GREEK = (
    *"alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu".split(),
    *"nu xi pi rho sigma tau upsilon phi chi psi omega".split(),
    *"Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega".split(),
)
"""names of LaTeX's Greek letters: of the capitals, those that do not look like Latin ones"""


def _greek(command: str) -> str:
    case = "SMALL" if command.islower() else "CAPITAL"
    return unicodedata.lookup(f"GREEK {case} LETTER {command.upper().replace('LAMBDA', 'LAMDA')}")


_LATEX = str.maketrans(
    {
        **{_greek(command): f"$\\{command}$" for command in _GREEK},
        "\\": r"\textbackslash{}",
        **{character: f"\\{character}" for character in "{}$&#%_"},
        # Behind the \\ of a row, or behind \midrule, these would be read as its arguments.
        **{character: f"{{{character}}}" for character in "[]*"},
        "^": r"\textasciicircum{}",
        "~": r"\textasciitilde{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "→": r"$\rightarrow$",
        "±": r"$\pm$",
        "–": "--",
    }
)
"""characters that have another meaning in LaTeX, or are in no font of its by default"""
_FORMULA = tuple("=+-@\t\r＝＋－＠")
"""first characters of cells that spreadsheets compute"""


def printable(text: str) -> str:
    r"""Text as a terminal may get it: its control characters are written out, as in "\x1b"; lines and tabs stay."""
    return _OBEYED.sub(_written_out, text)


def one_line(text: str) -> str:
    r"""`printable`, and line breaks and tabs are written out, too."""
    return printable(text).replace("\n", r"\n").replace("\t", r"\t")


def on_page(text: str) -> str:
    """Text for a page of HTML, in which jinja2 escapes what HTML itself obeys."""
    return _OBEYED_ON_PAGES.sub(_written_out, text)


def on_plot(text: str) -> str:
    """A text of matplotlib's, which sets what stands between two dollars as a formula, and leaves out of a legend what
    begins with an underscore."""
    shown = one_line(text).replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


def markdown(text: str) -> str:
    """Text within a paragraph, a heading, a list or a table's cell of Markdown, as CommonMark and GitHub have it."""
    escaped = _MARKDOWN.sub(lambda found: f"\\{found[0]}", one_line(text).strip())
    return _NUMBERED.sub(r"\1\\\2", escaped)


def latex(text: str) -> str:
    """Text within a paragraph or a table's cell of LaTeX."""
    return one_line(text).translate(_LATEX)


def csv_cell(value: Value) -> Value | str:
    """A cell of a CSV table that people open with a spreadsheet: no formula. Numbers stay numbers.

    Not for tables that are read back: a text that would be a formula gets an apostrophe before it.
    """
    if not isinstance(value, str):
        return value
    return f"'{one_line(value)}" if value.startswith(_FORMULA) and not _is_number(value) else one_line(value)


def shell(*words: object) -> str:
    """A command that can be handed to a shell, each of its words as it is."""
    return shlex.join(map(str, words))


def shell_comment(text: str) -> str:
    """A line of which a shell does nothing."""
    return f"# {one_line(text)}"


def _written_out(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
