"""Pictures made smaller; what happens to those that cannot be decoded stands in test_bad_input."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from xmr_e2e.shards.media import thumbnail


@pytest.mark.parametrize(("size", "expected"), [((400, 300), (160, 120)), ((3, 900), (1, 160)), ((50, 20), (50, 20))])
def test_thumbnails_are_jpegs_of_at_most_so_many_pixels(size: tuple[int, int], expected: tuple[int, int]) -> None:
    stream = io.BytesIO()
    Image.new("RGBA", size, (200, 10, 10, 128)).save(stream, "PNG")
    small = Image.open(io.BytesIO(thumbnail(stream.getvalue(), 160)))
    assert (small.format, small.size) == ("JPEG", expected)
