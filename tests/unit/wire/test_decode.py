"""The strict decoder: what it takes, what it says, and that nothing but BadInput ever comes out of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostler.core.errors import BadInput
from ostler.wire.agent import JoinAnswer, JoinRequest, Report, ReportAnswer, Signal
from ostler.wire.boot import Seed
from ostler.wire.decode import Items, JsonValue, Range, Text, decode, encode, fit


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True, slots=True)
class Inner:
    n: Annotated[int, Range(1, 10)]


@dataclass(frozen=True, slots=True)
class Outer:
    name: Annotated[str, Text(8)]
    count: int = 0
    share: float = 0.0
    on: bool = False
    colour: Colour = Colour.RED
    inner: Inner | None = None
    many: Annotated[tuple[Inner, ...], Items(3)] = ()
    table: Mapping[str, Annotated[float, Range(0, 1)]] = field(default_factory=dict)
    free: Mapping[str, JsonValue] = field(default_factory=dict)


def test_a_full_message_survives_the_way_there_and_back() -> None:
    outer = Outer("n", 3, 0.5, True, Colour.BLUE, Inner(2), (Inner(1), Inner(9)), {"a": 1.0}, {"x": [1, {"y": None}]})
    assert decode(Outer, encode(outer)) == outer


def test_defaults_stay_at_home() -> None:
    assert encode(Outer("n")) == b'{"name":"n"}'
    assert encode(Outer("n", inner=Inner(1))) == b'{"name":"n","inner":{"n":1}}'


def test_an_integer_is_taken_for_a_number_and_becomes_one() -> None:
    share = decode(Outer, b'{"name":"n","share":2}').share
    assert (share, type(share)) == (2.0, float)


def test_a_key_of_the_next_version_is_ignored() -> None:
    assert decode(Outer, b'{"name":"n","novelty":{"deep":[1]}}') == Outer("n")


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ("{}", "name: is missing"),
        ('{"name":1}', "name: expected text, found an integer"),
        ('{"name":"123456789"}', "name: text of 9 characters; at most 8 are taken"),
        ('{"name":"a\\u0000"}', "name: text with a NUL or a lone surrogate"),
        ('{"name":"\\ud800"}', "name: text with a NUL or a lone surrogate"),
        ('{"name":"n","count":true}', "count: expected an integer, found a boolean"),
        ('{"name":"n","count":1.0}', "count: expected an integer, found a number"),
        ('{"name":"n","count":"1"}', "count: expected an integer, found text"),
        ('{"name":"n","count":9007199254740993}', "count: must be between"),
        ('{"name":"n","share":"1"}', "share: expected a number, found text"),
        ('{"name":"n","share":true}', "share: expected a number, found a boolean"),
        ('{"name":"n","share":1e999}', "share: a number out of range"),
        ('{"name":"n","share":NaN}', "NaN is no JSON number"),
        ('{"name":"n","share":1' + "0" * 400 + "}", "share: a number out of range"),
        ('{"name":"n","on":1}', "on: expected true or false, found an integer"),
        ('{"name":"n","on":null}', "on: expected true or false, found null"),
        ('{"name":"n","colour":"green"}', "colour: must be one of red, blue"),
        ('{"name":"n","colour":["red"]}', "colour: expected text, found a list"),
        ('{"name":"n","inner":[]}', "inner: expected an object, found a list"),
        ('{"name":"n","inner":{"n":11}}', "inner.n: must be between 1 and 10"),
        ('{"name":"n","many":[{"n":1},{"n":"x"}]}', "many[1].n: expected an integer, found text"),
        ('{"name":"n","many":[{"n":1},{}]}', "many[1].n: is missing"),
        ('{"name":"n","many":{}}', "many: expected a list, found an object"),
        ('{"name":"n","many":[1,2,3,4]}', "many: a list of 4 items; at most 3 are taken"),
        ('{"name":"n","table":{"k":2}}', "table.k: must be between 0 and 1"),
        ('{"name":"n","table":{"\\u001b[31m":2}}', "table[…]: must be between 0 and 1"),
        ('{"name":"n","free":{"a":[[[[[[1]]]]]]}}', "free.a: nested deeper than 5 levels"),
        ('{"name":"n","free":{"a":[' + "1," * 600 + "1]}}", "free.a: more than 512 values"),
        ('{"name":"n","free":{"a":"\\ud800"}}', "free.a: text with a NUL"),
        ("[]", "expected an object, found a list"),
        ("", "this is no JSON document"),
        ("{", "this is no JSON document"),
        ("[" * 100_000, "the JSON is nested too deeply"),
        ("1" * 5000, "this is no JSON document"),
    ],
)
def test_the_message_says_what_and_where(raw: str, says: str) -> None:
    with pytest.raises(BadInput) as caught:
        decode(Outer, raw.encode())
    assert str(caught.value).startswith(says)


def test_too_many_bytes_are_not_even_parsed() -> None:
    with pytest.raises(BadInput, match="a message of 101 bytes; at most 100 are taken"):
        decode(Outer, b"x" * 101, limit=100)


def test_what_cannot_travel_is_the_programmers_mistake() -> None:
    @dataclass
    class Wrong:
        value: bytes

    with pytest.raises(TypeError):
        decode(Wrong, b'{"value":""}')
    unfit: Any = object()
    with pytest.raises(TypeError):
        encode(Outer("n", free={"a": unfit}))


def test_fit_makes_any_text_acceptable() -> None:
    assert fit("a\x00b\ud800c", 4) == "a\ufffdb\ufffd"


MESSAGES = (Report, ReportAnswer, JoinRequest, JoinAnswer, Seed, Signal, Outer)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(st.sampled_from(MESSAGES), st.binary(max_size=200))
def test_no_bytes_break_it(cls: type[Any], raw: bytes) -> None:
    with pytest.raises(BadInput):
        decode(cls, raw)


REPORT: dict[str, Any] = {
    "boot_id": "b",
    "sent_at": 1.5,
    "first_seq": 1,
    "signals": [
        dict.fromkeys(("source", "kind", "code", "device", "component", "severity", "action", "message"), "x")
        | {"seq": 1, "at": 2.0, "detail": {"pid": "1"}}
    ],
    "lost": [{"from_seq": 2, "to_seq": 3, "reason": "overflow"}],
    "heartbeat": {"uptime_s": 1.0, "monitors": {"kmsg": 0.1}},
    "inventory": {"nics": [{"name": "eth0", "mac": "02:00:00:00:00:01"}]},
    "results": [{"order_id": "o", "verdict": "passed", "measured": {"n": 1}}],
}


def paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value."""
    below: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at] + [path for key, item in below for path in paths(item, (*at, key))]


@given(st.sampled_from(paths(REPORT)), JSON)
def test_a_report_with_anything_anywhere_is_read_or_refused(path: tuple[Any, ...], value: Any) -> None:
    """A whole valid report in which one place holds something else."""
    document = json.loads(json.dumps(REPORT))
    if path:
        spot = document
        for key in path[:-1]:
            spot = spot[key]
        spot[path[-1]] = value
    else:
        document = value
    try:
        report = decode(Report, json.dumps(document).encode())
    except BadInput:
        return
    assert decode(Report, encode(report)) == report
    json.dumps(json.loads(encode(report)), ensure_ascii=False).encode("utf-8")  # what was taken can be stored


@given(st.text(), st.integers(0, 50))
def test_fit_is_always_taken(text: str, limit: int) -> None:
    assert decode(Outer, encode(Outer(fit(text, min(limit, 8)))))
