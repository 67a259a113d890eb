"""Web Queries' layout, in miniature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.helpers.built import image_bytes, write

META = """<?xml version="1.0" encoding="utf-8"?>
<documentmeta>
<concept> {concept} </concept> <rank> {rank} </rank> <language> en </language>
<referer> http://example.org/?a=1&b=2 </referer> <imageUrl> http://example.org/{rank}.jpg </imageUrl>
<before> {before} </before> <after> </after>
<ptitle> {title} </ptitle> <alt> {alt} </alt>
</documentmeta>
"""


def xml_of(raw: Path, query: int, number: int) -> Path:
    return raw / "metadata" / f"query_{query}_document_{number}_textmeta.xml"


def image_of(raw: Path, query: int, number: int) -> Path:
    return raw / "images" / f"query_{query}_document_{number}_imagethumb.jpg"


RELEVANCE = {3: [1] * 20, 11: [1, 0] + [1] * 9, 150: [1] * 10 + [0] * 3}
"""of three queries' documents: 20, 10 and 10 are relevant, and 4 between them are not"""


def websearch_raw(raw: Path, relevance: Mapping[int, Sequence[int]] = RELEVANCE) -> Path:
    """As published: queries, each with the relevance of its documents 0, 1, 2, …"""
    labels = []
    for query, row in relevance.items():
        for number, relevant in enumerate(row):
            labels.append(f"{query} {number} {relevant}\n")
            words = {"before": f"words before {number}", "title": f"page {query}", "alt": "a picture"}
            write(xml_of(raw, query, number), META.format(concept=f"requête {query}", rank=number + 1, **words))
            write(image_of(raw, query, number), image_bytes())
    write(raw / "labels.txt", "".join(labels))
    write(raw / "queries_en_trans.txt", "".join(f'{query} "query {query}"\n' for query in relevance))
    write(raw / "queries_fr_orig.txt", "".join(f'{query} "requête {query}"\n' for query in relevance))
    return raw
