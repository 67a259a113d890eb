"""`xmr shards from-hf` and `xmr shards from-parquet`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

from tyro.conf import OmitArgPrefixes, arg

from preprocessing.arrow.options import ColumnOptions, PackOptions, SplitOptions
from preprocessing.common.command import OutFolder, show_built
from xmr_e2e.errors import XmrError
from xmr_e2e.extras import require_extra


def from_hf_command(
    dataset: Annotated[str, arg(metavar="DATASET")],
    out: OutFolder,
    /,
    *,
    subset: str | None = None,
    revision: str | None = None,
    name: str = "",
    columns: Annotated[ColumnOptions, OmitArgPrefixes] = ColumnOptions(),
    splits: Annotated[SplitOptions, OmitArgPrefixes] = SplitOptions(),
    pack: Annotated[PackOptions, OmitArgPrefixes] = PackOptions(),
) -> None:
    """Build shards from a dataset of the Hugging Face hub, or from a folder that its library datasets reads: what
    save_to_disk has written, Parquet files, or folders of pictures (imagefolder). Pictures keep their bytes; sounds and
    videos do not come over.

    Example: xmr shards from-hf USER/NAME data/shards/mine

    Args:
        dataset: USER/NAME on the hub, or a folder
        out: the folder to write shards and manifest.json to
        subset: which of the dataset's configurations, where it has several
        revision: a commit, branch or tag of the hub; by default the newest, whose commit the manifest names
        name: the dataset's name in manifest.json; by default that of DATASET
        columns: by default those that can be nothing else
        splits: by default as they are published; drawn where there is one alone
        pack: the shards
    """
    require_extra("datasets", "xmr shards from-hf")
    from preprocessing.arrow.building import Table, build
    from preprocessing.arrow.hub import OnDisk, Published, common_schema, parts_of
    from xmr_e2e.shards.raw import RawTree

    folder = Path(dataset)
    if folder.is_dir():
        if revision:
            raise XmrError(f"--revision {revision}: {dataset} is a folder, which has none; leave out the option")
        source: OnDisk | Published = OnDisk(folder, subset, None if pack.outside else RawTree(folder))
    else:
        source = Published(dataset, subset, revision)
    own_name = folder.resolve().name if folder.is_dir() else dataset
    table = Table(name or own_name, source.origin, source.where, common_schema(source), parts_of(source), source.find)
    show_built(build(table, out, columns, splits, pack), out)


def from_parquet_command(
    files: Annotated[str, arg(metavar="FILES")],
    out: OutFolder,
    /,
    *,
    name: str = "",
    columns: Annotated[ColumnOptions, OmitArgPrefixes] = ColumnOptions(),
    splits: Annotated[SplitOptions, OmitArgPrefixes] = SplitOptions(),
    pack: Annotated[PackOptions, OmitArgPrefixes] = PackOptions(),
) -> None:
    """Build shards from Parquet files with a column of pictures (bytes, {bytes, path} as datasets writes it, or paths
    beside the file), texts and labels. The names of files or their folders begin with the split, or no splits are
    given. Pictures keep their bytes; sounds and videos do not come over.

    Example: xmr shards from-parquet exported data/shards/again

    Args:
        files: a file, a folder of .parquet files, or a pattern in quotes
        out: the folder to write shards and manifest.json to
        name: the dataset's name in manifest.json; by default that of FILES
        columns: by default those that can be nothing else
        splits: by default as the files are called; drawn where there is one alone
        pack: the shards
    """
    require_extra("parquet", "xmr shards from-parquet")
    from preprocessing.arrow.building import Table, build
    from preprocessing.arrow.parquet_files import common_schema, find_files, find_picture, parts_of
    from xmr_e2e.shards.raw import RawTree

    found = find_files(files)
    schema, written = common_schema(found)
    folder = Path(files) if Path(files).is_dir() else found[0].parent
    own_name = written or (Path(files) if Path(files).exists() else folder).resolve().stem
    origin = found[0].name if len(found) == 1 else f"{len(found)} Parquet files, such as {found[0].name}"
    find = partial(find_picture, folder, None if pack.outside else RawTree(folder))
    table = Table(name or own_name, origin, files, schema, parts_of(found), find)
    show_built(build(table, out, columns, splits, pack), out)
