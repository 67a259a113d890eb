"""A run's model, or an exported one, on the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from xmr_e2e.errors import XmrError
from xmr_e2e.models.hub import require_uploads, upload
from xmr_e2e.models.model_card import Publication
from xmr_e2e.models.model_folder import CARD, RUN_DESCRIPTION, find_description
from xmr_e2e.runs.export import export
from xmr_e2e.runs.run import Run


def push(
    source: Path,
    name: str,
    *,
    private: bool = False,
    license: str | None = None,
    revision: str | None = None,
    checkpoint: str | None = None,
) -> str:
    """Upload a run as `export` writes it, or an exported model as it stands, with a card that may have been edited.

    Args:
        name: on the hub, USER/MODEL.
        license: for the card, by the hub's identifier.
        revision: a branch; main by default.
        checkpoint: one of the run's; by default the epoch that was selected on validation.

    Returns:
        the address of the commit.

    Raises:
        XmrError: no model there, or the hub does not take it; before anything is uploaded, where that can be known.
    """
    publication, described = Publication(license, name), find_description(source)
    if described.name != RUN_DESCRIPTION:
        _refuse_options(source, license, checkpoint)
    require_uploads(name)
    with _exported(source, described, publication, checkpoint) as folder:
        return upload(folder, name, private=private, revision=revision)


def _refuse_options(source: Path, license: str | None, checkpoint: str | None) -> None:
    ways = {"--license": license and f"write it into {source / CARD}", "--checkpoint": checkpoint and "name the run"}
    for option, way in ways.items():
        if way:
            raise XmrError(f"{option}: {source} is an exported model, which is uploaded as it stands; {way}")


@contextmanager
def _exported(source: Path, described: Path, publication: Publication, checkpoint: str | None) -> Iterator[Path]:
    """The exported model's own folder; that of a run is gone afterwards."""
    if described.name != RUN_DESCRIPTION:
        yield source
        return
    with TemporaryDirectory() as folder:
        export(Run(source), Path(folder), checkpoint, publication)
        yield Path(folder)
