"""The folder in which the shards of a build grow, and which the parts of a build share.

OUT/.building/FINGERPRINT/      of the build's whole input, so that a later start finds its own work and no other
    train-00000.tar  .index.safetensors  .result.json    the result comes last: it says that the shard is whole
    publisher                   which part moves the shards to OUT; it comes once all of them are made

Parts may run on several machines that share a file system, and any of them may be killed and started again.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from xmr_e2e.errors import XmrError
from xmr_e2e.files import naming
from xmr_e2e.received import read_bytes
from xmr_e2e.shards.index import index_path
from xmr_e2e.shards.manifest import BUILD_DIR, EXTEND_DIR, NAME, Manifest, own_folder

Item = TypeVar("Item")

PUBLISHER_BYTES = 100
PUBLISHED = "published"
"""What the folder of a fingerprint is called while it is removed."""


@dataclass(frozen=True)
class Partition:
    """The share of a build that one process makes."""

    index: int
    """from 0"""
    count: int

    @classmethod
    def parse(cls, text: str) -> Partition:
        """The part that "3/8" stands for; raises XmrError for what stands for none."""
        match = re.fullmatch(r"(\d+)/(\d+)", text, re.ASCII)
        if not match or int(match[1]) >= int(match[2]):
            raise XmrError(
                f"--part {text}: wanted is INDEX/COUNT, as 0/8 for the first of eight parts and 7/8 for the last"
            )
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @property
    def is_whole(self) -> bool:
        return self.count == 1

    def of(self, items: Sequence[Item]) -> Sequence[Item]:
        return items[self.index :: self.count]


@dataclass(frozen=True)
class BuildDirectory:
    """The working folder in which the shards of one build grow."""

    out: Path
    fingerprint: str
    part: Partition

    @property
    def folder(self) -> Path:
        return self.out / BUILD_DIR / self.fingerprint

    def open(self) -> None:
        """Make the folder; what an interrupted build of the same input left there is kept.

        Raises:
            XmrError: other parts may be at work there on another input. A whole build removes what they made. Or it is
                a link, and what they made would be somebody's files.
        """
        others = _names(own_folder(self.out, BUILD_DIR)) - {self.fingerprint}
        own_folder(self.folder.parent, self.fingerprint)
        if others and not self.part.is_whole:
            raise XmrError(
                f"{self.folder.parent} holds shards of another build, from other input or with other options; all "
                "parts need the same. Remove that folder if it is left over, or choose another place"
            )
        for path in (self.folder.parent / name for name in others):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        self.folder.mkdir(parents=True, exist_ok=True)
        if (self.out / NAME).exists():  # to be replaced: publishing had not begun, or was over
            self._publisher.unlink(missing_ok=True)

    def missing(self, shards: Sequence[Path]) -> list[Path]:
        """Those of the shards that are not made yet."""
        # Listed, not looked up one by one: a network file system may remember for a minute that a file was not there.
        present = _names(self.folder)
        if self._publisher.exists():  # and all were made, so what is not here has been moved; nothing is moved back
            present |= _names(self.out)
        return [shard for shard in shards if not _files(shard) <= present]

    def claim(self) -> bool:
        """True for the part that is to publish: the first that asks, and the same one after it was killed."""
        with suppress(FileNotFoundError):  # another part has published, and put the folder away
            try:
                with naming(self._publisher), open(self._publisher, "x") as stream:
                    stream.write(str(self.part))
            except FileExistsError:
                return self.part.is_whole or self._read_publisher() == str(self.part)
            except OSError:  # of a full disk: a file without a part's name would keep all parts from publishing
                self._publisher.unlink(missing_ok=True)
                raise
            return True
        return False

    def release(self) -> None:
        """Let another part publish."""
        self._publisher.unlink()

    def publish(self, manifest: Manifest) -> None:
        """Move the finished shards into place. The old manifest goes first and the new one comes last.

        After an interruption it is done again: shards that are no longer here lie in place.
        """
        (self.out / NAME).unlink(missing_ok=True)
        shutil.rmtree(self.out / EXTEND_DIR, ignore_errors=True)  # what was begun with the shards that are replaced
        names = [shard.name for split in manifest.splits.values() for shard in split.shards]
        for old in self.out.glob("*.tar"):
            if old.name not in names:
                old.unlink()
                index_path(old).unlink(missing_ok=True)
        for name in names:
            for path in (self.folder / name, index_path(self.folder / name)):
                with suppress(FileNotFoundError):
                    os.replace(path, self.out / path.name)
        manifest.save(self.out)
        # Away at once, so that no other part meets a folder that is half removed.
        published = self.folder.with_name(PUBLISHED)
        self.folder.rename(published)
        shutil.rmtree(published)
        with suppress(OSError):  # a part that comes late has just made its folder there
            self.folder.parent.rmdir()

    def _read_publisher(self) -> str:
        return read_bytes(self._publisher, most=PUBLISHER_BYTES).decode(errors="replace")

    @property
    def _publisher(self) -> Path:
        return self.folder / "publisher"


def result_path(shard: Path) -> Path:
    """Beside a shard that is whole: what the manifest says about it."""
    return shard.with_suffix(".result.json")


def _files(shard: Path) -> set[str]:
    """The names of what belongs to a shard that is made."""
    return {shard.name, index_path(shard).name, result_path(shard).name}


def _names(folder: Path) -> set[str]:
    with suppress(FileNotFoundError):
        return {path.name for path in folder.iterdir()}
    return set()
