"""NUS-WIDE in its publisher's layout, in the subsets and splits that papers use.

T.-S. Chua, J. Tang, R. Hong, H. Li, Z. Luo, Y. Zheng: NUS-WIDE: a real-world web image database from National
University of Singapore. CIVR 2009. 269,648 photographs with their Flickr tags and the ground truth of 81 concepts.
"""

from __future__ import annotations

from typing import Literal

from preprocessing.common.command import OutFolder, RawFolder, show_built
from preprocessing.nuswide.files import LAYOUT, Tags, read_published
from preprocessing.nuswide.subsets import SUBSETS, find_candidates, note_counts, split_images
from xmr_e2e.shards.build import BuildOptions, RawSample, build_shards

TEXT_NOTES = {
    "all": "texts: all tags of an image (All_Tags.txt)",
    "1k": "texts: those of an image's tags that are among the 1,000 most frequent (AllTags1k.txt)",
}


def nuswide(
    raw: RawFolder,
    out: OutFolder,
    /,
    *,
    subset: Literal["10k", "10-class", "tc21", "tc21-official"],
    tags: Tags = "all",
    val: int | None = None,
    seed: int = 0,
    build: BuildOptions = BuildOptions(),
) -> None:
    """Build shards from a subset of NUS-WIDE: a sample is a photograph, its tags as one text, and its concepts.

    10k: ten classes of 1,000 images, drawn among those with just one of the ten; 8,000/1,000/1,000 (DSCMR, DRCL).
    10-class: images with exactly one of the 10 most frequent concepts, in the publisher's train and test:
    42,941/28,661 (SDCMR). tc21: images with any of the 21 most frequent concepts, several labels each, drawn
    189,834/5,000/1,000 (Semantic Sharing). tc21-official: the same images in the publisher's train and test:
    114,117/76,303 (ALSCOR).

    Images without a tag cannot be used. Photographs that are missing in RAW are skipped and listed; many copies lack
    some, so --max-skipped may have to be raised.

    Example: python -m preprocessing.nuswide data/raw/nuswide data/shards/nuswide10k --subset 10k

    Args:
        raw: the folder with Flickr/, ImageList/, ConceptsList/, Groundtruth/ and NUS_WID_Tags/
        out: the folder to write shards and manifest.json to
        subset: which images, classes and splits
        tags: all tags of an image as its text, or only those among the 1,000 most frequent (DCMH, ALSCOR)
        val: so many images for val, in other subsets than 10k. By default 5,000, at most a fifth of what they are
            taken from: test for 10-class (as MRL does), train for both tc21. 0 leaves 10-class and tc21-official as
            published, without val
        seed: another seed draws other images for what has no published list of ids
    """
    published = read_published(raw, tags)
    candidates = find_candidates(published, SUBSETS[subset])
    split_of, drawn = split_images(subset, candidates, published, raw=raw, val=val, seed=seed)
    samples = [
        RawSample(
            source=image,
            split=split,
            image=published.folder / image,
            texts=(candidates.texts[image],),
            labels=candidates.labels[image],
        )
        for image, split in split_of.items()
    ]
    if samples and not any((published.folder / image).exists() for image in split_of):
        raise LAYOUT.error(f"{published.folder} holds none of the {len(samples)} images, such as {samples[0].source}")
    manifest = build_shards(
        out,
        dataset=f"nuswide_{subset.replace('-', '_')}",
        classes=candidates.classes,
        samples=samples,
        notes=[note_counts(SUBSETS[subset], split_of.values()), *drawn, TEXT_NOTES[tags], *candidates.notes],
        raw=raw,
        options=build,
    )
    show_built(manifest, out)
