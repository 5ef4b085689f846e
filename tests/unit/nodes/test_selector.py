"""Selectors (`-l pool=h100,rack=r1`): what they choose, and one line for what they are not."""

from __future__ import annotations

import contextlib

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from ostler.core.errors import BadInput
from ostler.nodes.selector import FIELDS, parse


def sql(selector: str) -> str:
    return str(parse(selector).compile(compile_kwargs={"literal_binds": True}))


def test_terms_are_joined_by_and() -> None:
    assert sql("pool=h100, state!=triage") == "node.pool = 'h100' AND node.state IS DISTINCT FROM 'triage'"


@pytest.mark.parametrize("empty", ["", " ", ",", " , ,"])
def test_no_terms_choose_everything(empty: str) -> None:
    assert sql(empty) in ("true", "1 = 1")


@pytest.mark.parametrize(
    ("selector", "says"),
    [
        ("pool", "'pool' is no FIELD=VALUE"),
        ("pool==x", "is no FIELD=VALUE"),
        ("pool=", "is no FIELD=VALUE"),
        ("colour=red", "No field 'colour'; known are name"),
        ("pool=a;drop table node", "is no FIELD=VALUE"),
        ("pool='x' or 1=1", "is no FIELD=VALUE"),
    ],
)
def test_what_is_no_selector_is_said(selector: str, says: str) -> None:
    with pytest.raises(BadInput, match=says) as caught:
        parse(selector)
    assert caught.value.where == "selector"


@given(st.text(max_size=200))
def test_any_text_is_a_selector_or_bad_input(text: str) -> None:
    with contextlib.suppress(BadInput):
        assert isinstance(parse(text), sa.ColumnElement)


@given(st.lists(st.tuples(st.sampled_from([*FIELDS, "x"]), st.sampled_from(["=", "!=", "~"]), st.text(max_size=9))))
def test_near_misses_too(terms: list[tuple[str, str, str]]) -> None:
    with contextlib.suppress(BadInput):
        parse(",".join("".join(term) for term in terms))
