"""One spelling per value, and nothing stored that a database cannot give back."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostler.audit.canonical import canonical, clean, clean_text

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_a_trip_through_json_changes_nothing(value: object) -> None:
    cleaned = clean(value)
    assert canonical(json.loads(json.dumps(cleaned))) == canonical(cleaned)


def test_order_of_keys_and_kind_of_number_do_not_matter() -> None:
    assert canonical({"b": 1.0, "a": [1e20, -0.0]}) == canonical({"a": [10**20, 0], "b": 1})
    assert canonical({"a": 1.5}) != canonical({"a": 1})
    assert canonical([True]) != canonical([1])


@pytest.mark.parametrize("text", ["a\0b", "\ud800x", "ok", "\U0001f600", "x\udc00"])
def test_clean_text_can_be_stored(text: str) -> None:
    cleaned = clean_text(text)
    assert "\0" not in cleaned
    cleaned.encode()
    if text in ("ok", "\U0001f600"):
        assert cleaned == text


def test_what_is_no_json_is_a_bug() -> None:
    assert clean(math.inf) == "inf"
    assert clean({"s": {"b", "a"}, "t": (1, 2)}) == {"s": ["a", "b"], "t": [1, 2]}
    with pytest.raises(TypeError):
        clean({"x": object()})
    deep: list[object] = []
    for _ in range(100):
        deep = [deep]
    with pytest.raises(ValueError, match="nested"):
        clean(deep)
