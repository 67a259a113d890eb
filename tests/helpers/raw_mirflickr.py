"""MIRFlickr's layout, in miniature."""

from __future__ import annotations

from pathlib import Path

from tests.helpers.built import image_bytes, write

LABELS = (
    "animals baby bird car clouds dog female flower food indoor lake male night people plant_life portrait river sea "
    "sky structures sunset transport tree water"
).split()
COUNT = 60
UNTAGGED = {10, 20}  # no tag at all, and only an uncommon one
UNLABELLED = {30}


def tags_of(number: int) -> list[str]:
    if number in UNTAGGED:
        return [] if number == 10 else ["myholiday"]
    return ["myholiday", "sunset", "nikon"] if number % 2 else ["water"]


def labels_of(number: int) -> set[str]:
    return set() if number in UNLABELLED else {LABELS[number % 24], *(["sky"] if number % 3 == 0 else [])}


def annotated(raw: Path) -> Path:
    return raw / "mirflickr25k_annotations_v080"


def mirflickr_raw(folder: Path) -> Path:
    """As published, with COUNT images."""
    photograph = image_bytes()
    for number in range(1, COUNT + 1):
        write(folder / f"mirflickr/im{number}.jpg", photograph)
        write(folder / f"mirflickr/meta/tags/tags{number}.txt", "".join(f"{tag}\r\n" for tag in tags_of(number)))
    write(folder / "mirflickr/doc/common_tags.txt", "sunset 120\nnikon 90\nwater 41\n")
    for label in LABELS:
        members = [number for number in range(1, COUNT + 1) if label in labels_of(number)]
        write(annotated(folder) / f"{label}.txt", "".join(f"{number}\r\n" for number in members))
    write(annotated(folder) / "sky_r1.txt", "30\n")
    write(annotated(folder) / "README.txt", "MIRFLICKR annotations\n")
    return folder
