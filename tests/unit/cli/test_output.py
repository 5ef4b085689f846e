"""What commands print: safe texts, times, and the question before something disruptive."""

from __future__ import annotations

import io
import sys

import pytest

from ostler.cli import output
from ostler.cli.brake import parse_span
from ostler.core.errors import BadInput


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        ("", "–"),
        (True, "yes"),
        (0, "0"),
        ([], "–"),
        (["a\n", 2], "a, 2"),
        ("a\nb", "a b"),
        ("\x1b[2Jgone\x07", "[2Jgone"),
        ("\u202egnp.exe", "gnp.exe"),
    ],
)
def test_cells_hold_nothing_that_moves_the_cursor(value: object, shown: str) -> None:
    assert output.clean(value) == shown


@pytest.mark.parametrize(
    ("at", "shown"),
    [
        ("2026-11-20T20:59:57.000Z", "3 s ago"),
        ("2026-11-20T20:30:00.000Z", "30 min ago"),
        ("2026-11-19T21:00:00.000Z", "24 h ago"),
        ("2026-11-10T21:00:00.000Z", "10 d ago"),
        ("2026-11-20T21:12:00.000Z", "in 12 min"),
        (None, "–"),
        ("soon", "soon"),
    ],
)
def test_relative_times(at: object, shown: str) -> None:
    assert output.when(at, now=1_795_208_400.0) == shown


def test_a_table_is_not_cut_when_piped(capsys: pytest.CaptureFixture[str]) -> None:
    long = "x" * 300
    assert output.table(("NAME", "REASON"), [("[red]gpu[/red]", long)], empty="none") == 1
    shown = capsys.readouterr().out
    assert long in shown and "[red]gpu[/red]" in shown


def test_an_empty_table_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert output.table(("NAME",), [], empty="No node yet.") == 0
    assert capsys.readouterr().out == "No node yet.\n"


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_person_types_the_count(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"gpu-{number}" for number in range(10)]
    monkeypatch.setattr(sys, "stdin", _Terminal("10\n"))
    output.confirm(names, "reboot", yes=False)
    assert "This will reboot 10 nodes: gpu-0, " in (said := capsys.readouterr().err) and "and 2 more" in said


@pytest.mark.parametrize("typed", ["y\n", "9\n", "", "\n"])
def test_anything_else_does_nothing(typed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", _Terminal(typed))
    with pytest.raises(BadInput, match="nothing was done"):
        output.confirm(["a"] * 10, "reboot", yes=False)


def test_a_program_must_say_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("1\n"))
    with pytest.raises(BadInput, match="would reboot 1 node; add --yes"):
        output.confirm(["a"], "reboot", yes=False)
    output.confirm(["a"], "reboot", yes=True)


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("1d", 86400)])
def test_spans(text: str, seconds: float) -> None:
    assert parse_span(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "0h", "-1h", "1w", "h", "1.5h", "１h"])
def test_no_spans(text: str) -> None:
    with pytest.raises(BadInput, match="no length of time"):
        parse_span(text)
