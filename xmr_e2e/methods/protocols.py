"""Protocols by name: those that belong to no paper, and what each method declares of its authors' released scripts."""

from __future__ import annotations

from collections.abc import Iterator

from xmr_e2e.configuration import document_type
from xmr_e2e.errors import XmrError
from xmr_e2e.evaluation.protocol import GENERAL, Protocol
from xmr_e2e.methods.discovery import imported_methods, method_name


def protocol_names() -> tuple[str, ...]:
    """Of all that there are."""
    return tuple(each.name for each in _all())


def protocol(name: str) -> Protocol:
    """The protocol of this name.

    Raises:
        XmrError: there is none; says which there are, and of which papers there cannot be one.
    """
    for each in _all():
        if each.name == name:
            return each
    without_code = {
        f"released:{method_name(document_type(method))}": method.title
        for method in imported_methods()
        if not method.has_released_code
    }
    reason = "its authors published no code, so there is no script to follow" if name in without_code else "unknown"
    raise XmrError(
        f"protocol {name!r}: {reason}. There are {', '.join(protocol_names())}; for "
        f"{' and '.join(without_code.values())}, whose authors published no code, clean is the one to use"
    )


def _all() -> Iterator[Protocol]:
    yield from GENERAL  # first, and one by one: methods take long to import
    for method in imported_methods():
        yield from method.protocols
