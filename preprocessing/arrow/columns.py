"""The columns of a table that are read: those that were chosen, or that can be nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from preprocessing.arrow.options import ColumnOptions
from preprocessing.arrow.schema import Schema
from preprocessing.folder.columns import LABEL_COLUMNS, numbered_texts
from xmr_e2e.errors import XmrError
from xmr_e2e.received import shortened

IMAGE_COLUMNS = ("image", "img", "picture", "jpg", "png")
NO_TEXTS = ("key", "source", "split", "id", "image_id", "file_name", "filename", "path", "url", "__key__", "__url__")
"""names of columns that are not taken for texts unless they are chosen"""
SHOWN = 60
"""columns, in an error"""


@dataclass(frozen=True)
class Columns:
    """Names of columns; empty where there is none."""

    image: str
    texts: tuple[str, ...]
    labels: tuple[str, ...]
    split: str = ""
    ids: tuple[str, ...] = ()
    """key and source, where the table has both: as `xmr shards to-parquet` writes them"""
    class_names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """column of labels -> the names that its numbers stand for"""

    @property
    def used(self) -> tuple[str, ...]:
        names = (self.image, *self.texts, *self.labels, self.split, *self.ids)
        return tuple(dict.fromkeys(filter(None, names)))

    @property
    def required(self) -> tuple[str, ...]:
        """The modalities that each sample must have: both, where there are both."""
        return ("image", "text") if self.image and self.texts else ()


def find_columns(
    schema: Schema, options: ColumnOptions, where: str, *, split_column: str | None = None, has_splits: bool = False
) -> Columns:
    """The columns to read.

    Who chooses the column of pictures, and none of texts, says that there are none where none is called so; the same
    the other way round.

    Raises:
        XmrError: a chosen column is missing or holds something else; or one is needed and cannot be told; with all
            columns and their types.
    """
    _check_chosen(schema, options, split_column, where)
    image = options.image or _guess_image(schema, options, where)
    texts = options.text or _guess_texts(schema, options, where, taken=(image, *options.label, split_column))
    labels = options.label or _guess_labels(schema, (image, *texts))
    split = split_column or ("split" if "split" in schema.types and schema.is_text("split") else "")
    if has_splits and split_column:
        raise XmrError(f"--split-column {split_column}: {where} comes in splits already; leave out the option")
    return Columns(
        image,
        tuple(texts),
        tuple(labels),
        "" if has_splits else split,
        ("key", "source") if {"key", "source"} <= schema.types.keys() else (),
        {name: names for name in labels if (names := schema.class_names(name))},
    )


def _check_chosen(schema: Schema, options: ColumnOptions, split_column: str | None, where: str) -> None:
    split = (split_column,) if split_column else ()
    image = (options.image,) if options.image else ()
    chosen = {"--image": image, "--text": options.text, "--label": options.label, "--split-column": split}
    for option, names in chosen.items():
        for name in names:
            if name not in schema.types:
                raise _error(f"{option}: {where} has no column {shortened(name)}", schema)
    fits = {"--text": schema.is_text, "--label": schema.is_label, "--split-column": schema.is_text}
    for option, is_fit in fits.items():
        for name in chosen[option]:
            if not is_fit(name) and not schema.class_names(name):
                raise _error(f"{option} {name}: the column holds {schema.types[name]}", schema)
    for name in image:
        if not schema.is_picture(name) and not schema.is_text(name):
            raise _error(f"--image {name}: the column holds {schema.types[name]}, no pictures", schema)


def _guess_image(schema: Schema, options: ColumnOptions, where: str) -> str:
    named = [name for name in schema.types if name.lower() in IMAGE_COLUMNS]
    pictures = [name for name in schema.types if schema.is_picture(name)]
    paths = [name for name in named if schema.is_text(name)]
    for found in ([name for name in named if name in pictures], pictures, paths):
        if len(found) == 1:
            return found[0]
    if options.text and not pictures:
        return ""
    what = "several columns of pictures" if pictures else "no column of pictures"
    raise _error(f"{where} has {what}: choose one with --image", schema)


def _guess_texts(schema: Schema, options: ColumnOptions, where: str, *, taken: Sequence[str | None]) -> Sequence[str]:
    texts = [name for name in schema.types if schema.is_text(name) and name not in taken]
    lowered = {name.lower(): name for name in texts}
    if named := numbered_texts(list(lowered)):
        return [lowered[name] for name in named]
    rest = [name for name in texts if name.lower() not in (*NO_TEXTS, *LABEL_COLUMNS)]
    if len(rest) == 1:
        return rest
    if options.image and not rest:
        return ()
    what = "several columns that may hold texts" if rest else "no column of texts"
    advice = "choose with --text" if rest else "choose one with --text; pictures alone are taken if you say --image"
    raise _error(f"{where} has {what}: {advice}", schema)


def _guess_labels(schema: Schema, taken: Sequence[str]) -> Sequence[str]:
    free = [name for name in schema.types if name not in taken and schema.is_label(name)]
    if named := [name for name in free if name in LABEL_COLUMNS]:
        return named
    classes = [name for name in free if schema.class_names(name)]
    return classes if len(classes) == 1 else ()


def _error(problem: str, schema: Schema) -> XmrError:
    names = [f"{shortened(name, quoted=False)} ({_type(schema, name)})" for name in schema.types]
    more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return XmrError(f"{problem}. Its columns are {', '.join(names[:SHOWN])}{more}")


def _type(schema: Schema, name: str) -> str:
    if schema.class_names(name):
        return f"{len(schema.class_names(name))} classes"
    return "pictures" if schema.is_picture(name) else shortened(str(schema.types[name]), quoted=False)


def notes_on_columns(schema: Schema, columns: Columns, where: str) -> list[str]:
    """Notes on what is read, and what is not."""
    read = {"pictures": [columns.image], "texts": columns.texts, "labels": columns.labels, "splits": [columns.split]}
    parts = [f"{what} of {', '.join(filter(None, names))}" for what, names in read.items() if any(names)]
    unused = [name for name in schema.types if name not in columns.used]
    notes = [f"from {where}: {', '.join(parts)}"]
    if unused:
        notes.append(f"columns not used: {', '.join(unused)}")
    if media := [name for name in unused if schema.is_other_media(name)]:
        notes.append(f"pictures and texts are read, no sounds, videos or shapes: not {', '.join(media)}")
    return notes
