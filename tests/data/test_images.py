"""Pictures of training: when the JPEG decoder scales."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from xmr_e2e.data.images import OVERSAMPLING, _decode

SIDE = 10


@pytest.mark.parametrize(
    ("height", "expected"),
    [(2 * OVERSAMPLING * SIDE, OVERSAMPLING * SIDE), (2 * OVERSAMPLING * SIDE - 1, 2 * OVERSAMPLING * SIDE - 1)],
)
def test_a_jpeg_is_scaled_as_it_is_decoded_from_a_factor_of_two_on(height: int, expected: int) -> None:
    stream = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (height, 2 * height, 3), np.uint8)
    Image.fromarray(pixels).save(stream, "JPEG", quality=90)
    assert _decode(stream.getvalue(), SIDE, 10**6).shape == (expected, 2 * expected, 3)
