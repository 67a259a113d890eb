"""INRIA Web Queries: pictures that a web search found, with the words around them; the 100 largest queries as classes.

J. Krapac, M. Allan, J. Verbeek, F. Jurie: Improving web image search results using query-relative classifiers. CVPR
2010: 71,478 images of 353 queries. Cross-modal retrieval uses the relevant ones of the 100 largest queries, 14,698
pairs, as in Y. Wei, Y. Zhao, C. Lu, S. Wei, L. Liu, Z. Zhu, S. Yan: Cross-modal retrieval with CNN visual features: a
new baseline. IEEE Transactions on Cybernetics 47(2), 2017. DRCL splits them 9,000/1,332/4,366. Which documents are in
which split was published only as features, without their ids.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from random import Random

from preprocessing.common.command import OutFolder, RawFolder, show_built
from preprocessing.websearch.files import (
    LABELS,
    LAYOUT,
    QUERIES,
    Document,
    read_documents,
    read_queries,
    read_words,
)
from xmr_e2e.errors import XmrError
from xmr_e2e.shards.build import BuildOptions, RawSample, build_shards
from xmr_e2e.shards.manifest import Skipped

LARGEST = 100
PUBLISHED = {"train": 9_000, "val": 1_332, "test": 4_366}


def websearch(
    raw: RawFolder,
    out: OutFolder,
    /,
    *,
    seed: int = 0,
    build: BuildOptions = BuildOptions(),
) -> None:
    """Build shards from INRIA Web Queries: the relevant documents of the 100 largest queries; the query is the class.

    RAW holds labels.txt, queries_en_trans.txt, images/ and metadata/. The text of a document is the words before and
    behind the image on its web page, the page's title and the image's alternative text. The splits are drawn,
    9,000/1,332/4,366 of 14,698 documents, or in these proportions where there are more or fewer.

    Example: python -m preprocessing.websearch data/raw/webqueries data/shards/websearch

    Args:
        raw: the folder with the publisher's files
        out: the folder to write shards and manifest.json to
        seed: another seed draws other splits; the publisher has none
    """
    LAYOUT.require_folder(raw)
    for name in (LABELS, QUERIES, "images", "metadata"):
        if not (raw / name).exists():
            raise LAYOUT.error(f"{raw} holds no {name}")
    queries = read_queries(raw / QUERIES)
    documents = read_documents(raw / LABELS, queries)
    chosen = select_documents(documents)
    classes = name_classes({document.query for document in chosen}, queries)
    samples, skipped = _read_samples(raw, draw_published_splits(chosen, seed=seed), classes)
    manifest = build_shards(
        out,
        dataset="websearch",
        classes=list(classes.values()),
        samples=samples,
        skipped=skipped,
        notes=_notes(chosen, documents, seed),
        raw=raw,
        options=build,
    )
    show_built(manifest, out)


def select_documents(documents: Mapping[Document, bool]) -> list[Document]:
    """The relevant documents of the 100 queries that have most of them; of equal queries, the smaller ids come first.

    Raises:
        XmrError: no document is relevant.
    """
    relevant = [document for document, is_relevant in documents.items() if is_relevant]
    if not relevant:
        raise XmrError(f"{LABELS} calls no document relevant: the third number of its lines is never 1")
    sizes = Counter(document.query for document in relevant)
    largest = set(sorted(sizes, key=lambda query: (-sizes[query], query))[:LARGEST])
    return [document for document in relevant if document.query in largest]


def name_classes(chosen: Iterable[int], queries: Mapping[int, str]) -> dict[int, str]:
    """Query id -> class name, in the order of the ids. Queries with one translation are told apart by their ids."""
    chosen = sorted(chosen)
    count = Counter(queries[query] for query in chosen)
    return {query: queries[query] if count[queries[query]] == 1 else f"{queries[query]} ({query})" for query in chosen}


def draw_published_splits(documents: Sequence[Document], *, seed: int) -> dict[Document, str]:
    """Splits of exactly 9,000, 1,332 and 4,366 of 14,698 documents, or in these proportions where there are more or
    fewer; each class is spread over the splits in the same proportions.

    Each class is shuffled and laid out evenly from 0 to 1, and the classes together are cut at the splits' sizes.
    """
    members: dict[int, list[Document]] = {}
    for document in sorted(documents):
        members.setdefault(document.query, []).append(document)
    places = {}
    for query, order in members.items():
        Random(f"{seed}/{query}").shuffle(order)
        places.update({document: (place + 0.5) / len(order) for place, document in enumerate(order)})
    total = sum(PUBLISHED.values())
    val, test = (round(len(places) * PUBLISHED[split] / total) for split in ("val", "test"))
    splits = ["train"] * (len(places) - val - test) + ["val"] * val + ["test"] * test
    return dict(zip(sorted(places, key=lambda document: (places[document], document)), splits))


def _read_samples(
    raw: Path, split_of: Mapping[Document, str], classes: Mapping[int, str]
) -> tuple[list[RawSample], list[Skipped]]:
    samples, skipped = [], []
    for document, split in split_of.items():
        source = document.source
        try:
            text = read_words(raw / "metadata" / f"{source}_textmeta.xml")
        except XmrError as error:
            skipped.append(Skipped(source, split, str(error)))
            continue
        image = raw / "images" / f"{source}_imagethumb.jpg"
        labels = (classes[document.query],)
        samples.append(RawSample(source=source, split=split, image=image, texts=(text,), labels=labels))
    return samples, skipped


def _notes(chosen: Sequence[Document], documents: Mapping[Document, bool], seed: int) -> list[str]:
    notes = [
        f"splits drawn with seed {seed}: which documents are in DRCL's is not published",
        f"{len(documents) - len(chosen)} documents are irrelevant or of smaller queries, not used",
    ]
    queries, total = len({document.query for document in chosen}), sum(PUBLISHED.values())
    if (len(chosen), queries) != (total, LARGEST):
        notes.append(f"{len(chosen)} documents of {queries} queries instead of {total} of {LARGEST}; the splits are in "
                     f"the proportions of {'/'.join(map(str, PUBLISHED.values()))}")  # fmt: skip
    return notes
