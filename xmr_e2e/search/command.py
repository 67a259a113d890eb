"""`xmr search`, `xmr index` and `xmr serve`: the commands around this package."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from xmr_e2e.console import Console
from xmr_e2e.errors import XmrError
from xmr_e2e.escape import shell
from xmr_e2e.extras import require_extra
from xmr_e2e.received import own_path

TEXT_WIDTH = 100
"""characters of a hit's text that are printed; less where the console is narrow"""

_FOUND_BY = {"image": "picture", "text": "text", "audio": "sound", "video": "video", "shape3d": "shape"}
"""modality -> what an item is found by"""

if TYPE_CHECKING:
    from xmr_e2e.search.index import Index
    from xmr_e2e.search.query import Hit
    from xmr_e2e.search.serve import Endpoint


def search_command(
    run: Path,
    query: str,
    /,
    *,
    split: Literal["train", "val", "test"] | None = None,
    index: Path | None = None,
    k: int = 10,
    finds: tuple[Literal["image", "text", "audio", "video", "shape3d"], ...] = (),
    sheet: Path | None = None,
    shards: Path | None = None,
    full: bool = False,
) -> None:
    """Search with a sentence or with a file (a picture, a sound, a video or a 3D shape), which finds items of the other
    kinds: in the run's index if it has one, or else in the test split.

    Args:
        run: the run folder with the trained model; or USER/MODEL of the Hugging Face hub, with --index or --shards
        query: a sentence in quotes, or the path of a picture, a sound, a video or a 3D shape
        split: the split to search in, whether there is an index or not
        index: an index that lies elsewhere than in the run's folder
        k: how many hits
        finds: what is to be found, in one ranking; by default all but what the query is
        sheet: contact sheet of the hits to draw, such as hits.png; in the run folder by default, if there is one
        shards: where the shards lie now, if not where they lay in training
        full: show all texts of the hits, and whole; else of each its first one, on one line
    """
    require_extra("serve", "xmr search")
    from xmr_e2e.models.hub import is_hub_name
    from xmr_e2e.models.saved_model import load, require_shards
    from xmr_e2e.search.index import DEFAULT, find_index, search_index
    from xmr_e2e.search.query import HEADING, remark_on, save_sheet, search, shorten
    from xmr_e2e.search.store import NAME

    if index and (split or shards):
        raise XmrError("--index is searched without shards; leave out --split and --shards, or --index")
    published = is_hub_name(run)
    model = load(run, shards=shards)
    found = None if split or shards else find_index(run, index)
    if found:
        where, hits = "index", search_index(found, model, query, k, finds)
    else:
        where = split or "test"
        require_shards(model)
        hits = search(model, query, where, k, finds)
    console, remark = Console(highlight=False), remark_on(model, query)
    title = f"{shorten(query, HEADING)} ({where})"
    console.print(hits_table(hits, title=title, text_width=None if full else _text_width(hits, console.width)))
    if remark:
        console.print(Text(remark, style="yellow"), soft_wrap=True)
    if not published:
        sheet = sheet or own_path(run, f"search/{_sheet_name(query, where)}")
    if sheet:
        save_sheet(sheet, query, hits, remark)
        console.print(Text(f"contact sheet: {sheet}"), soft_wrap=True)
    if not found and not published and not (run / DEFAULT / NAME).is_file():
        console.print(
            Text(f"{run / DEFAULT} holds no index, so that the split was embedded for this search; "
                 f"`{shell('xmr', 'index', run, model.data.shards)}` makes one, in which a search takes no time"),
            soft_wrap=True,
        )  # fmt: skip


def index_command(
    run: Path,
    source: Path,
    /,
    *,
    split: tuple[Literal["train", "val", "test"], ...] = (),
    out: Path | None = None,
    add: bool = False,
    overwrite: bool = False,
) -> None:
    """Embed a folder of shards, or of media files, once, so that `xmr search` and `xmr serve` find in it at once.

    Interrupted, it leaves nothing, or the index that was there.

    Args:
        run: the run folder with the trained model; or USER/MODEL of the Hugging Face hub, with --out
        source: a folder of shards; or of pictures, sounds, videos and 3D shapes, as far as the model embeds them
        split: splits of the shards; all by default
        out: the index's folder; RUN/index by default
        add: add to the index that is there, without training anything; what it has already stays as it is
        overwrite: make the index that is there again
    """
    require_extra("serve", "xmr index")
    from xmr_e2e.allocation import keep_freed_memory
    from xmr_e2e.models.hub import require_place
    from xmr_e2e.models.saved_model import load
    from xmr_e2e.search.index import DEFAULT, Index
    from xmr_e2e.search.indexing import make_index
    from xmr_e2e.shards.unused import describe_unused

    if add and overwrite:
        raise XmrError("--add keeps what is there and --overwrite does not; leave out one of them")
    require_place(run, out, "--out")
    folder = out or own_path(run, DEFAULT)
    keep_freed_memory()
    result = make_index(load(run), run, source, folder, splits=split, add=add, overwrite=overwrite)
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{result.added:,} items added to {folder}")
    if result.present:
        console.print(f"{result.present:,} were there already and stay as they are")
    if result.unusable:
        console.print(f"{result.unusable:,} files cannot be read and are left out")
    if result.unused:
        console.print(describe_unused(result.unused))
    console.print(_summary(Index(folder)))
    where = shell(run, *(["--index", out] if out else []))
    console.print(f'search it: xmr search {where} "…"; xmr serve {where}')


def serve_command(
    path: Path,
    /,
    *,
    index: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    name: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
    root_path: str = "",
    token: tyro.conf.FlagCreatePairsOff[bool] = False,
    no_token: tyro.conf.FlagCreatePairsOff[bool] = False,
) -> None:
    """Serve an index as a page for a browser, and as a JSON API that /docs describes, until Ctrl-C.

    Who has the token sees texts, labels, file names, pictures, sounds and videos of all that is indexed. It is asked
    for where others than the users of this machine come to the server: with another --host, or with --name.

    Args:
        path: the run folder; an index's that lies in its run's; or USER/MODEL of the Hugging Face hub, with --index
        index: an index that lies elsewhere than in the run's folder
        host: the address to listen on; the default is reached from this machine alone
        port: the port to listen on; 0 chooses a free one
        name: a name by which the server is asked, as behind a proxy; may be given several times
        root_path: the path under which a proxy shows the server, such as /search
        token: ask for a token also on this machine, where others may work, too
        no_token: ask for none; a proxy does, or everybody may see all
    """
    require_extra("serve", "xmr serve")
    from xmr_e2e.models.hub import require_place
    from xmr_e2e.search.serve import open_endpoint, serve

    if token and no_token:
        raise XmrError("--token asks for a token and --no-token for none; leave out one of them")
    require_place(path, index, "--index")
    console = Console(highlight=False, soft_wrap=True)
    wanted = True if token else False if no_token else None
    endpoint = open_endpoint(host, port, names=name, root_path=root_path, token=wanted)

    def announce(found: Index) -> None:
        console.print(f"{_summary(found)}\nserving at {endpoint.address}")
        if endpoint.is_open:
            console.print(_describe_open(endpoint), style="yellow")

    with endpoint.listener:
        serve(path, index, endpoint, announce)


def hits_table(hits: Sequence[Hit], *, title: str, text_width: int | None = TEXT_WIDTH) -> Table:
    """Rank, score, modality, labels, source and first text of each hit; the modality where there are several.

    text_width: characters, to which the text is cut; None shows all texts.
    """
    from xmr_e2e.search.query import score_text

    table = Table(title=Text(title), title_justify="left")
    table.add_column("rank", justify="right")
    table.add_column("score", justify="right")
    several = len({hit.modality for hit in hits}) > 1
    if several:
        table.add_column("kind")
    table.add_column("labels")
    table.add_column("source", overflow="fold")
    table.add_column("text", overflow="fold")
    for rank, hit in enumerate(hits, start=1):
        cells = (", ".join(hit.labels), hit.source or hit.key, _shown(hit.texts, text_width))
        # Text: a caption in square brackets is no markup
        kind = [hit.modality] if several else []
        table.add_row(str(rank), score_text(hit.score), *kind, *map(Text, cells))
    return table


def _shown(texts: Sequence[str], width: int | None) -> str:
    from xmr_e2e.search.query import shorten

    if width is None or not texts:
        return "\n".join(texts)
    more = f" (+{len(texts) - 1})" if len(texts) > 1 else ""
    return shorten(texts[0], width - len(more)) + more


def _text_width(hits: Sequence[Hit], width: int) -> int:
    """The width that the other columns of a console leave to the texts."""
    labels = max([cell_len(", ".join(hit.labels)) for hit in hits], default=0)
    sources = max([cell_len(hit.source or hit.key) for hit in hits], default=0)
    kinds = {hit.modality for hit in hits}
    kind = 3 + max(map(len, kinds)) if len(kinds) > 1 else 0
    taken = len("rank") + len("-0.000") + kind + max(labels, len("labels")) + max(sources, len("source"))
    taken += 16  # borders
    return min(TEXT_WIDTH, max(24, width - taken))


def _summary(index: Index) -> str:
    size = index.store.path.stat().st_size
    search = "approximate search (HNSW)" if index.is_approximate else "exact search"
    counts = {noun: len(index.numbers(name)) for name, noun in _FOUND_BY.items()}
    found = [f"{count:,} to be found by their {noun}" for noun, count in counts.items() if count]
    return f"{index.folder}: {len(index):,} items, {' and '.join(found)}; {size / 1e6:,.1f} MB, {search}"


def _describe_open(endpoint: Endpoint) -> str:
    """A sentence on those who reach a server that is open to others, and on all that they see."""
    from xmr_e2e.search.access import is_loopback

    host, port = endpoint.listener.getsockname()[:2]
    through = f"through a proxy as {', '.join(sorted(endpoint.rules.also))}" if endpoint.rules.also else ""
    direct = "" if is_loopback(host) else f"at {host}, port {port}, over the network"
    who = " or ".join(filter(None, (direct, through)))
    having = "and has the address above, with its token," if endpoint.rules.token else "(no token is asked for)"
    return (
        f"whoever reaches this server {who} {having} can search, and sees the texts, labels, file names, small "
        "pictures, sounds and videos of all that is indexed; nothing is encrypted on the way, unless by a proxy"
    )


def _sheet_name(query: str, where: str) -> str:
    readable = re.sub(r"\W+", "_", query)[-60:].strip("_")
    return f"{readable or 'query'}-{where}.png"
