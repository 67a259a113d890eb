"""MS-COCO's layout, in miniature."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.helpers.built import write
from tests.helpers.drawn import draw_image

CATEGORIES = [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}]
SPLITS = ["train"] * 8 + ["val"] * 4 + ["test"] * 4


def coco(raw: Path) -> Path:
    """MSCOCO 2014 as published, with 16 pictures: persons on red, dogs on blue."""
    images: list[dict[str, Any]] = []
    for number, split in enumerate(SPLITS):
        folder = "train2014" if split == "train" else "val2014"
        name = f"COCO_{folder}_{number:012d}.jpg"
        draw_image(raw / folder / name, color=[(200, 40, 40), (40, 80, 200)][number % 2], size=(80, 64), seed=number)
        images.append({"filepath": folder, "filename": name, "cocoid": number, "split": split})
    write(raw / "dataset_coco.json", json.dumps({"images": images}))
    for folder in ("train2014", "val2014"):
        ids = [image["cocoid"] for image in images if image["filepath"] == folder]
        objects = [{"id": i, "image_id": i, "category_id": CATEGORIES[i % 2]["id"]} for i in ids]
        captions = [
            {"id": 5 * i + k, "image_id": i, "caption": f"a {CATEGORIES[i % 2]['name']}, said in way {k}"}
            for i in ids
            for k in range(5)
        ]
        documents = {
            "instances": {"images": [{"id": i} for i in ids], "annotations": objects, "categories": CATEGORIES},
            "captions": {"images": [{"id": i} for i in ids], "annotations": captions},
        }
        for kind, document in documents.items():
            write(raw / f"annotations/{kind}_{folder}.json", json.dumps(document))
    return raw
