"""A pager in memory, for tests of everything above the port."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ostler.adapters.pager.port import Page
from ostler.core.errors import BadInput, Unreachable


@dataclass
class FakePager:
    """Remembers every page it was sent; `standing` is what it would ring for now."""

    name: str = "fake"
    repeat_s: float = 0.0
    most_at_once: int = 500
    unreachable: bool = False
    refuses: frozenset[str] = frozenset()
    """Keys of pages that it does not take."""
    sent: list[Page] = field(default_factory=list)

    @property
    def standing(self) -> dict[str, Page]:
        latest = {page.key: page for page in self.sent}
        return {key: page for key, page in latest.items() if not page.over}

    def send(self, pages: Sequence[Page]) -> None:
        if self.unreachable:
            raise Unreachable("It does not answer: connection refused.", where=self.name)
        if wrong := [page.key for page in pages if page.key in self.refuses]:
            raise BadInput(f"It does not take {wrong[0]}.", where=self.name)
        self.sent += pages

    def close(self) -> None:
        """Nothing is held."""
