"""Where doubts about a blueprint are written down: so many of a kind, the rest counted. Lints and readers fill it."""

from __future__ import annotations

from ostler.fabric.model import Lint

KEPT = 50
"""Of a kind."""


class LintBook:
    """Collects `Lint`s by kind."""

    def __init__(self) -> None:
        self._kept: dict[str, list[Lint]] = {}
        self._more: dict[str, int] = {}

    def add(self, kind: str, message: str, line: int = 0, *, error: bool = False) -> None:
        """Note one; beyond `KEPT` of its kind it is only counted."""
        kept = self._kept.setdefault(kind, [])
        if len(kept) < KEPT:
            kept.append(Lint(kind, message[:400], line, error))
        else:
            self._more[kind] = self._more.get(kind, 0) + 1

    def first(self) -> Lint | None:
        """The first that was noted."""
        return next((items[0] for items in self._kept.values()), None)

    def all(self) -> list[Lint]:
        """Everything noted; where a kind had more than `KEPT`, a last one says how many."""
        found: list[Lint] = []
        for kind, items in self._kept.items():
            found += items
            if more := self._more.get(kind, 0):
                found.append(Lint(kind, f"and {more} more of this kind", 0, items[0].error))
        return found
