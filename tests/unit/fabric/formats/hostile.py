"""Files that nobody wrote in good faith, made from a good one. Called by the tests of the readers."""

from __future__ import annotations

from hypothesis import strategies as st

_BAD = [
    b"\0",
    b"\xff\xfe",
    b"9" * 5000,
    b'"',
    b"\n",
    b"[",
    b"]",
    b"{",
    b"-1",
    b"1e999",
    b"NaN",
    b":",
    b",",
    b"0x",
    b"\r\n",
]


@st.composite
def spoiled(draw: st.DrawFn, good: bytes) -> bytes:
    """The file cut, with parts twice or missing, and with bytes in it that do not belong there."""
    data = good
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        to = draw(st.integers(at, min(len(data), at + 60)))
        kind = draw(st.sampled_from(["cut", "drop", "twice", "bad", "bytes"]))
        if kind == "cut":
            data = data[:at]
        elif kind == "drop":
            data = data[:at] + data[to:]
        elif kind == "twice":
            data = data[:to] + data[at:]
        elif kind == "bad":
            data = data[:at] + draw(st.sampled_from(_BAD)) + data[to:]
        else:
            data = data[:at] + draw(st.binary(max_size=12)) + data[to:]
    return data


ENDLESS = [b"\n" * 65536, b" " * 65536, b'"' * 65536, b"#" * 65536, b"START_" * 11000, b'"a",' * 16384, b"[" * 65536]
"""What a careless expression takes minutes for: a test's timeout would tell."""
