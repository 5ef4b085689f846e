"""Reads iPXE scripts the way the boot loader does: a small interpreter that asks `netboot.py` for the network.

Knows what boot servers of GPU fleets write: labels, goto, `||`, echo, sleep, chain, kernel, initrd, boot, imgfree, set,
exit, and `${setting}` with `:uristring`. A command that it does not know fails, as it does in iPXE (ipxe.org/cmd).
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import quote

from ostler.core.errors import BadInput

MAGIC = "#!ipxe"
MOST_COMMANDS = 10_000
"""Commands of one script before it is taken for an endless loop without a sleep."""

_VARIABLE = re.compile(r"\$\{([A-Za-z0-9_./-]+)(?::([a-z]+))?\}")


@dataclass(frozen=True, slots=True)
class Fetch:
    """Download `url`; the answer is its text, or None when that failed. `body` False: only that it is there matters."""

    url: str
    body: bool


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait so many real seconds; the answer is ignored."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Boot:
    """The end: start this kernel with this command line."""

    kernel: str
    initrd: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Local:
    """The end: go on with the machine's own next boot device."""


Ask: TypeAlias = Fetch | Sleep
End: TypeAlias = Boot | Local


class _Chained(Exception):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text


def interpret(text: str, settings: Mapping[str, str]) -> Generator[Ask, str | None, End]:
    """Runs a script: yields what it needs, is sent the answers, returns how it ended. Raises `BadInput`: no script."""
    known = dict(settings)
    while True:
        try:
            return (yield from _script(text, known))
        except _Chained as chained:
            text = chained.text


def _script(text: str, known: dict[str, str]) -> Generator[Ask, str | None, End]:
    lines = text.splitlines()
    if not lines or lines[0].strip() != MAGIC:
        raise BadInput(f"this is no iPXE script: it does not begin with {MAGIC}", where="boot script")
    labels = {line.strip()[1:]: number for number, line in enumerate(lines) if line.strip().startswith(":")}
    state = _State(known)
    at, done = 1, 0
    while at < len(lines):
        done += 1
        if done > MOST_COMMANDS:
            raise BadInput("the script goes round and round without a sleep", where=f"boot script line {at + 1}")
        line = lines[at].strip()
        at += 1
        if not line or line.startswith(("#", ":")):
            continue
        for command in line.split("||"):
            words = _expand(command, known).split()
            if not words:
                continue
            if words[0] == "goto":
                label = words[1] if len(words) > 1 else ""
                if label not in labels:
                    raise BadInput(f"there is no label '{label[:40]}'", where=f"boot script line {at}")
                at = labels[label]
                break
            outcome = yield from state.run(words)
            if isinstance(outcome, Boot | Local):
                return outcome
            if outcome:
                break
        else:
            return Local()  # a command failed and nothing caught it: iPXE gives up, the machine goes on
    return Local()


class _State:
    """Images that were fetched so far."""

    def __init__(self, known: dict[str, str]) -> None:
        self._known = known
        self._kernel: tuple[str, str] | None = None
        self._initrd = ""

    def run(self, words: list[str]) -> Generator[Ask, str | None, Boot | Local | bool]:
        """One command: how the boot ends, or whether the command succeeded."""
        name, arguments = words[0], _operands(words[1:])
        match name:
            case "echo":
                return True
            case "set":
                if arguments:
                    self._known[arguments[0]] = " ".join(arguments[1:])
                return bool(arguments)
            case "sleep":
                yield Sleep(_seconds(arguments))
                return True
            case "imgfree":
                self._kernel, self._initrd = None, ""
                return True
            case "exit":
                return Local()
            case "chain" if arguments:
                text = yield Fetch(arguments[0], body=True)
                if text is None or not text.startswith(MAGIC):
                    return False
                raise _Chained(text)
            case "kernel" | "initrd" if arguments:
                if (yield Fetch(arguments[0], body=False)) is None:
                    return False
                if name == "kernel":
                    self._kernel = (arguments[0], " ".join(arguments[1:]))
                else:
                    self._initrd = arguments[0]
                return True
            case "boot" if self._kernel is not None:
                return Boot(self._kernel[0], self._initrd, self._kernel[1])
        return False


def _operands(words: list[str]) -> list[str]:
    """The words without options; `--name` takes a value, the others used here take none."""
    operands: list[str] = []
    skip = False
    for word in words:
        if skip:
            skip = False
        elif not operands and word.startswith("--"):
            skip = word in ("--name", "--timeout")
        else:
            operands.append(word)
    return operands


def _seconds(arguments: list[str]) -> float:
    try:
        return min(max(float(arguments[0]), 0.0), 3600.0)
    except (IndexError, ValueError):
        return 0.0


def _expand(text: str, known: Mapping[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        found = known.get(match[1], "")
        return quote(found, safe="") if match[2] == "uristring" else found

    return _VARIABLE.sub(value, text)
