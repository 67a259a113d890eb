"""The command `xmr shards audit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from xmr_e2e.console import Console
from xmr_e2e.errors import XmrError
from xmr_e2e.escape import one_line
from xmr_e2e.files import write_atomically
from xmr_e2e.shards.parallel import CPUS


def audit_command(
    folders: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FOLDER [OTHER ...]")],
    /,
    *,
    texts: bool = True,
    sheet: Path | None = None,
    duplicates: Path | None = None,
    exclude: Path | None = None,
    workers: int = CPUS,
) -> int:
    """Look for duplicates within and across splits; exit with 1, and name them, where some lie in two splits.

    Pictures are compared byte by byte and by how they look (scaled or encoded again, not cropped or mirrored), files of
    sounds, videos and 3D shapes byte by byte, texts without regard to case and spaces: a sample's texts all together.

    Args:
        folders: the folder with manifest.json; further ones are compared with it and with each other
        texts: compare texts, too; --no-texts where texts are tags or titles that many samples share
        sheet: contact sheet of the first pairs to draw, such as duplicates.png
        duplicates: table of all duplicates to write, such as duplicates.csv: a group of samples that are the same, or
            look the same, is several rows with one number
        exclude: list to write of the samples to leave out, such as exclude.txt, for the builder's option --exclude;
            without them no duplicates lie in two splits. Of two splits, test stays as it is, and else val
        workers: processes
    """
    from xmr_e2e.shards.audit.audit import audit, counts_table, describe, draw_pairs
    from xmr_e2e.shards.audit.files import exclude_list, table_of_duplicates

    if not folders:
        raise XmrError("say which folder of shards to look through")
    if sheet and sheet.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise XmrError(f"{sheet}: the name must end in .png, .jpg or .webp")
    if duplicates and duplicates.suffix.lower() != ".csv":
        raise XmrError(f"{duplicates}: the name must end in .csv")
    for path in filter(None, (sheet, duplicates, exclude)):  # before all pictures are read
        if path.is_dir():
            raise XmrError(f"{path} is a folder; name a file in it")
        path.parent.mkdir(parents=True, exist_ok=True)
    result = audit(folders, texts=texts, workers=workers)
    console = Console(highlight=False, soft_wrap=True)
    console.print(counts_table(result))
    for line in describe(result):
        console.print(one_line(line))
    if sheet:
        draw_pairs(result, sheet)
        console.print(f"pairs drawn: {sheet}")
    if duplicates:
        _write(duplicates, table_of_duplicates(result))
        console.print(f"all duplicates: {duplicates}")
    if exclude:
        keys = exclude_list(result)
        _write(exclude, "".join(f"{key}\n" for key in keys))
        console.print(f"{len(keys):,} samples to leave out, for --exclude of the builder: {exclude}")
    return 1 if result.across else 0


def _write(path: Path, content: str) -> None:
    write_atomically(path, content.encode())
