"""Pictures out of a table, as files: by these, copies are found and shards are built as from any folder."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from xmr_e2e.errors import XmrError
from xmr_e2e.files import naming
from xmr_e2e.shards.manifest import BUILD_DIR, own_folder

FOLDER = ".pictures"
"""within OUT, while a table is read and built"""

Find = Callable[[str, str], Path | bytes]
"""The file, or the bytes, at a path that stands in a table; called with the path and the row, for errors."""


@dataclass(frozen=True)
class PictureFolder:
    """Files of pictures, each called by its content."""

    folder: Path

    def add(self, content: bytes) -> Path:
        """The file of these bytes, the same one for the same bytes."""
        digest = hashlib.sha256(content)
        path = self.folder / digest.hexdigest()[:2] / digest.hexdigest()
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            with naming(path):
                path.write_bytes(content)
            # A build knows its files by size and time: the same table gives the same build, another never does.
            stamp = int.from_bytes(digest.digest()[:6])
            os.utime(path, ns=(stamp, stamp))
        return path

    def take(self, cell: object, find: Find, where: str) -> Path | None:
        """The file of a picture in a table; None for an empty cell.

        Args:
            cell: bytes, a path, or both in an object {"bytes", "path"}, of which the bytes count.
            find: what gives the picture at a path.
            where: file and row, for errors.

        Raises:
            XmrError: it is something else.
        """
        content, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, cell)
        if isinstance(content, bytes):
            return self.add(content)
        if path is None or path == "":
            return None
        if not isinstance(path, str):
            raise XmrError(f"{where}: the picture is neither bytes nor a path")
        found = find(path, where)
        return found if isinstance(found, Path) else self.add(found)


@contextmanager
def picture_folder(out: Path) -> Iterator[PictureFolder]:
    """A folder for pictures within OUT, which is gone afterwards.

    After an error, what a build has begun in OUT meanwhile goes, too; after Ctrl-C it stays, and the same command goes
    on with it.
    """
    folder = own_folder(out, FOLDER)
    had_begun = (out / BUILD_DIR).exists()
    with suppress(FileNotFoundError):  # of a command that was killed
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    try:
        yield PictureFolder(folder)
    except XmrError:
        if not had_begun:
            shutil.rmtree(out / BUILD_DIR, ignore_errors=True)
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # something is in it
            out.rmdir()
