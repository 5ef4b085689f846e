"""Whether the audit log is still what it was: everything recomputed, the first bad position named.

`verify` reads the database (called by `ostler db check` and the API); `Checker` checks a stream of entries from
anywhere, so that the CLI verifies over the API, or from an exported file, without trusting the server's own arithmetic.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from ostler.audit import store
from ostler.audit.merkle import EMPTY, Frontier
from ostler.audit.model import Entry, Head, Verdict, leaf_of
from ostler.core.errors import BadInput
from ostler.db.tx import Tx

_PAGE = 1000


class Checker:
    """Takes sealed entries in order and says where they stop being consistent with themselves."""

    def __init__(self) -> None:
        self._frontier = Frontier()
        self.finished: list[tuple[int, int, bytes]] = []
        """The inner nodes that the last entry finished."""
        self.bad: int | None = None
        self.why = ""

    @property
    def size(self) -> int:
        return self._frontier.size

    @property
    def root(self) -> str:
        return self._frontier.root().hex()

    def add(self, entry: Entry) -> bool:
        """Check the next entry; False once something is wrong (`bad`, `why`)."""
        if self.bad is not None:
            return False
        expected = self.size + 1
        if entry.position != expected:
            return self._fail(expected, f"position {expected} is missing; the next entry is at {entry.position}")
        leaf = leaf_of(entry, expected)
        if leaf.hex() != entry.leaf:
            return self._fail(expected, f"entry {entry.id} does not match its leaf hash: it was changed after sealing")
        self.finished = self._frontier.append(leaf)
        return True

    def compare(self, head: Head, *, since: int = 0) -> bool:
        """Compare with a head of exactly this size; a mismatch lies somewhere after `since`, the last good head."""
        if self.bad is not None:
            return False
        if head.size != self.size or head.root != self.root:
            span = f"positions {since + 1} to {head.size}"
            return self._fail(since + 1, f"the root over {head.size} entries is not the recorded one: {span} changed")
        return True

    def compare_nodes(self, stored: Iterator[tuple[int, int, bytes]]) -> bool:
        """Compare the stored inner nodes with those that the last entry finished."""
        for node in self.finished:
            if next(stored, None) != node:
                return self._fail(self.size, f"the tree's inner node {node[0]}/{node[1]} was changed")
        return True

    def verdict(self) -> Verdict:
        return Verdict(self.size, self.root, self.bad, self.why)

    def _fail(self, position: int, why: str) -> bool:
        self.bad, self.why = position, why
        return False


def verify(tx: Tx) -> Verdict:
    """Recompute every leaf, every stored inner node and every head from the rows."""
    checker = Checker()
    heads, nodes = store.heads(tx), store.nodes(tx)
    pending = next(heads, None)
    good = 0
    for entry in _every(tx):
        if not checker.add(entry) or not checker.compare_nodes(nodes):
            return checker.verdict()
        if pending is not None and pending.size == checker.size:
            if not checker.compare(pending, since=good):
                return checker.verdict()
            good, pending = pending.size, next(heads, None)
    if pending is not None:
        why = f"the log ends at {checker.size}, but {pending.size} entries were sealed: the rest was removed"
        return Verdict(checker.size, checker.root, checker.size + 1, why)
    if good != checker.size:
        why = f"entries {good + 1} to {checker.size} have positions that no head covers"
        return Verdict(checker.size, checker.root, good + 1, why)
    return checker.verdict()


def _every(tx: Tx) -> Iterator[Entry]:
    after = 0
    while page := store.sealed(tx, after=after, limit=_PAGE):
        yield from page
        after = page[-1].position or after


def export_line(entry: Entry) -> str:
    """One entry as one line of JSON: what `ostler audit export` writes."""
    return json.dumps(asdict(entry), ensure_ascii=False, sort_keys=True)


def entry_from(document: Any, where: str) -> Entry:
    """An entry from an exported line or an API answer. Raises `BadInput`."""
    kinds: dict[str, Any] = {
        "id": str,
        "at": (int, float),
        "actor": str,
        "action": str,
        "subject": str,
        "reason": str,
        "request_id": (str, type(None)),
        "detail": dict,
        "position": int,
        "leaf": str,
    }
    if not isinstance(document, dict):
        raise BadInput("an audit entry is a JSON object", where=where)
    for name, kind in kinds.items():
        if name not in document or not isinstance(document[name], kind) or isinstance(document[name], bool):
            raise BadInput(f"'{name}' is missing or of the wrong type; this is no exported audit entry", where=where)
    return Entry(**{name: document[name] for name in kinds})


def verify_lines(lines: Iterable[bytes], *, name: str) -> Verdict:
    """Check an export, line by line. Raises `BadInput` naming the line for what is no export at all."""
    checker = Checker()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            document = json.loads(line)
        except (ValueError, RecursionError):
            raise BadInput("this line is no JSON", where=f"{name}:{number}") from None
        if not checker.add(entry_from(document, f"{name}:{number}")):
            break
    return checker.verdict()


def empty_root() -> str:
    """The root of a log without entries, in hex."""
    return EMPTY.hex()
