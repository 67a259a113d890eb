"""A synthetic raw set of five modalities: drawn pictures, sentences, made sounds, moving drawings and meshes."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

from preprocessing.synthetic import GENERATOR, GENERATOR_FILE
from preprocessing.synthetic.film import make_film
from preprocessing.synthetic.mesh import make_mesh
from preprocessing.synthetic.picture import draw_picture
from preprocessing.synthetic.sentences import describe
from preprocessing.synthetic.sound import make_sound
from xmr_e2e.extras import require_extra
from xmr_e2e.shards.parallel import map_shards

CLASSES = ("bird", "boat", "car", "train")
ENDINGS = {"image": "jpg", "audio": "wav", "video": "mp4", "shape3d": "off"}
MODALITIES = (*ENDINGS, "text")
ABOUT = f"""{GENERATOR}
Pictures and films are drawn, sounds and meshes are computed: nothing here was photographed, recorded or scanned.
"""
Task = tuple[Path, str, str, range, tuple[int, int], int]
"""folder, modality, class, numbers of samples, width and height of pictures, seed"""


def write_five(folder: Path, *, per_class: int, size: tuple[int, int], seed: int, paired: bool, workers: int) -> int:
    """Write so many samples of each class and modality and the table of them; return the number of rows.

    paired: a row has all five modalities, rather than one; the object is the same in picture and sentences alone.

    Raises:
        XmrError: what writes films is not installed.
    """
    require_extra("media", "--five")
    # Unpaired sentences tell of other pictures than those that are there.
    first = {"text": 0 if paired else per_class}
    tasks: list[Task] = [
        (folder, modality, name, range(per_class + first.get(modality, 0))[-per_class:], size, seed)
        for modality in MODALITIES
        for name in CLASSES
    ]
    made = map_shards(_make, tasks, sizes=[per_class] * len(tasks), title="making samples", workers=workers)
    rows = [{**row, "split": split_of(number, per_class)} for rows in made for number, row in enumerate(rows)]
    if paired:
        joined: dict[tuple[str, int], dict[str, Any]] = {}
        for place, row in enumerate(rows):
            joined.setdefault((row["label"], place % per_class), {}).update(row)
        rows = [*joined.values()]
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "table.jsonl").write_text("".join(lines), encoding="utf-8")
    (folder / GENERATOR_FILE).write_text(ABOUT, encoding="utf-8")
    return len(rows)


def split_of(number: int, per_class: int) -> str:
    """Of each class, the first 60 % are train, then 15 % val and 25 % test; of three or more, at least one each."""
    val, test = (max(1, round(per_class * share)) if per_class > 2 else 0 for share in (0.15, 0.25))
    if number < per_class - val - test:
        return "train"
    return "val" if number < per_class - test else "test"


def _make(task: Task) -> list[dict[str, Any]]:
    """Write one class's files of one modality; return the rows of the table."""
    folder, modality, name, numbers, size, seed = task
    rows: list[dict[str, Any]] = []
    for number in numbers:
        if modality == "text":
            picture, _ = draw_picture(name, number, size=(48, 48), seed=seed)
            texts = describe(picture, Random(f"{seed}/{name}/{number}/text"))
            rows.append({"texts": list(texts), "label": name})
            continue
        path = f"{modality}/{name}/{number:05d}.{ENDINGS[modality]}"
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(_content(modality, name, number, size, seed))
        rows.append({modality: path, "label": name})
    return rows


def _content(modality: str, name: str, number: int, size: tuple[int, int], seed: int) -> bytes:
    rng = Random(f"{seed}/{name}/{number}/{modality}")
    if modality == "image":
        return draw_picture(name, number, size=size, seed=seed)[1]
    if modality == "audio":
        return make_sound(name, rng)
    if modality == "video":
        return make_film(name, rng, (size[0] // 2 * 2, size[1] // 2 * 2))
    return make_mesh(name, rng)
