"""NUS-WIDE's layout, in miniature."""

from __future__ import annotations

import re
from pathlib import Path

from tests.helpers.built import image_bytes, write

TEN = ("animal", "clouds", "flowers", "food", "grass", "person", "sky", "toy", "water", "window")
CONCEPTS = tuple(sorted((*TEN, *(f"concept{i:02d}" for i in range(14)))))
Labels = dict[str, tuple[str, ...]]


def name_of(number: int) -> str:
    return f"folder{number % 3}/{number:04d}_{777000 + number}.jpg"


def lay_out(raw: Path, labels: Labels, tags: dict[str, str], *, concepts: tuple[str, ...] = CONCEPTS) -> Path:
    """The publisher's files, with the backslashes and line ends of Windows; two images of five are of the test part."""
    photograph = image_bytes()
    for image in labels:
        write(raw / "Flickr" / image, photograph)
    images = list(labels)
    lists = {
        "Imagelist": images,
        "TrainImagelist": [image for i, image in enumerate(images) if i % 5 < 3],
        "TestImagelist": [image for i, image in enumerate(images) if i % 5 >= 3],
    }
    for name, members in lists.items():
        write(raw / f"ImageList/{name}.txt", "".join(member.replace("/", "\\") + "\r\n" for member in members))
    write(raw / "ConceptsList/Concepts81.txt", "\n".join(concepts) + "\n")
    for concept in concepts:
        column = "".join(f"{int(concept in labels[image])}\r\n" for image in images)
        write(raw / f"Groundtruth/AllLabels/Labels_{concept}.txt", column)
    lines = [f"{re.sub(r'.*_|[.]jpg', '', image)}      {tags[image]}\n" for image in images]
    write(raw / "NUS_WID_Tags/All_Tags.txt", "".join(lines))
    return raw
