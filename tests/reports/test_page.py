"""Names, numbers and nested values on a page."""

from __future__ import annotations

import pytest

from xmr_e2e.reports.page import data_uri, flattened, number


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.5, "0.500"), (0.0, "0.000"), (0.01, "0.010"), (0.00996, "0.01"), (0.001234, "0.0012"), (-0.002, "-0.002"),
     (9.99, "9.990"), (10.0, "10.0"), (-12.34, "-12.3"), (12345.67, "12,345.7")],
)  # fmt: skip
def test_numbers_have_as_many_decimals_as_say_something(value: float, shown: str) -> None:
    assert number(value) == shown


def test_nested_values_have_dotted_names() -> None:
    document = {
        "a": {"b": 1, "c": {"d": None, "e": {}}},
        "list": [1, 2.5, "x"],
        "tuple": (3, 4),
        "of mappings": [{"f": True}, 5],
        "tuple of mappings": ({"g": 6}, {"g": 7}),
        "none": [],
    }
    assert list(flattened(document)) == [
        ("a.b", "1"), ("a.c.d", "–"), ("a.c.e", "–"), ("list", "1 2.5 x"), ("tuple", "3 4"),
        ("of mappings.0.f", "True"), ("of mappings.1", "5"),
        ("tuple of mappings.0.g", "6"), ("tuple of mappings.1.g", "7"), ("none", ""),
    ]  # fmt: skip


def test_an_address_is_the_content() -> None:
    assert data_uri(b"\x00\xff", "png") == "data:image/png;base64,AP8="
    assert data_uri(b"a,b", "text/csv") == "data:text/csv;base64,YSxi"
