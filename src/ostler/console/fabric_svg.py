"""The strokes of the fabric's drawings: cells, boxes and lines with a shape, a class and a title for each verdict.

Colour is never the only difference: every verdict has a shape in a cell and a dash on a line. All text is escaped here.
Called by `fabric_drawing.py`, `fabric_lines.py` and `fabric_chassis.py`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import quote

from markupsafe import Markup, escape

LETTER = 5.6
"""Units of the drawing that a letter takes, at its small size."""


class Spot(NamedTuple):
    """A box: where and how big."""

    x: float
    y: float
    w: float
    h: float

    @property
    def middle(self) -> float:
        return self.x + self.w / 2

    @property
    def bottom(self) -> float:
        return self.y + self.h


def shape(word: str, x: float, y: float, w: float, h: float) -> str:
    """A verdict's shape in a cell, as a path: full, crossed, hollow, half, a dot."""
    if word == "wrong":
        return f"M{_n(x)} {_n(y)}l{_n(w)} {_n(h)}m{_n(-w)} 0l{_n(w)} {_n(-h)}"
    if word == "absent":
        return f"M{_n(x + 0.5)} {_n(y + 0.5)}h{_n(w - 1)}v{_n(h - 1)}h{_n(1 - w)}z"
    if word == "degraded":
        return f"M{_n(x)} {_n(y)}v{_n(h)}h{_n(w)}z"
    if word == "unknown":
        return f"M{_n(x + w / 3)} {_n(y + h / 3)}h{_n(w / 3)}v{_n(h / 3)}h{_n(-w / 3)}z"
    return f"M{_n(x)} {_n(y)}h{_n(w)}v{_n(h)}h{_n(-w)}z"


def swatch(word: str) -> Markup:
    """The same shape beside a word."""
    return Markup('<svg class="swatch w-{}" viewBox="-1 -1 12 12" aria-hidden="true"><path d="{}"/></svg>').format(
        word, shape(word, 0, 0, 10, 10)
    )


def path_of(fabric: str, *parts: str) -> str:
    """The address of a page of a fabric."""
    return "/fabric/" + "/".join(quote(part, safe="") for part in (fabric, *parts))


def fit(text: str, width: float, letter: float = LETTER) -> str:
    """What of a name fits; the end of it, which tells it from its neighbours."""
    most = int(width / letter)
    if len(text) <= most:
        return text
    return f"…{text[1 - most :]}" if most > 2 else ""


def labels(names: Sequence[str], width: float) -> list[str]:
    """What is written into a row of boxes: without what all begin with, where whole names do not fit."""
    if not names or max(map(len, names)) * LETTER <= width:
        return list(names)
    common = min(names)
    while common and not all(name.startswith(common) for name in names):
        common = common[:-1]
    while common and common[-1].isdigit():
        common = common[:-1]
    return [fit(name[len(common) :] or name, width) for name in names]


class Sheet:
    """A drawing while it grows: layers, of which the later lie on top."""

    def __init__(self) -> None:
        self._layers: dict[int, list[str]] = defaultdict(list)
        self.width = self.height = 0.0

    def reach(self, x: float, y: float) -> None:
        """The drawing is at least so big."""
        self.width, self.height = max(self.width, x), max(self.height, y)

    def raw(self, layer: int, markup: str) -> None:
        """Markup that was made here or in a module that draws; never text from outside."""
        self._layers[layer].append(markup)

    def box(self, spot: Spot, kind: str, title: str, href: str = "", text: str = "") -> None:
        """A chassis: a rectangle, maybe with its name, that leads to its page."""
        x, y, w, h = map(_n, spot)
        inner = f'<title>{escape(title)}</title><rect class="{kind}" x="{x}" y="{y}" width="{w}" height="{h}"/>'
        if text:
            inner += f'<text x="{_n(spot.middle)}" y="{_n(spot.y + spot.h / 2 + 3.2)}">{escape(text)}</text>'
        self.raw(2, f'<a href="{escape(href)}">{inner}</a>' if href else f"<g>{inner}</g>")
        self.reach(spot.x + spot.w, spot.bottom)

    def line(
        self, word: str, ends: tuple[float, float, float, float], title: str = "", layer: int = 1, *, sign: bool = True
    ) -> None:
        """A cable. What is not ok has its shape in the middle too, unless an end of it shows that."""
        x1, y1, x2, y2 = ends
        self.raw(
            layer,
            f'<g class="w-{word}"><title>{escape(title)}</title>'
            f'<path class="cable" d="M{_n(x1)} {_n(y1)}L{_n(x2)} {_n(y2)}"/></g>'
            if title
            else f'<path class="cable w-{word}" d="M{_n(x1)} {_n(y1)}L{_n(x2)} {_n(y2)}"/>',
        )
        if sign and word not in ("ok", "seen"):
            x, y = (x1 + x2) / 2 - 4, (y1 + y2) / 2 - 4
            self.raw(4, f'<path class="sign w-{word}" d="{shape(word, x, y, 8, 8)}"/>')

    def cells(self, layer: int, found: dict[str, list[str]]) -> None:
        """Shapes by verdict: one path for all of a kind, which is what keeps thousands of them light."""
        for word, shapes in found.items():
            self.raw(layer, f'<path class="cell w-{word}" d="{"".join(shapes)}"/>')

    def text(self, x: float, y: float, text: str, kind: str = "") -> None:
        self.raw(3, f'<text class="{kind}" x="{_n(x)}" y="{_n(y)}">{escape(text)}</text>')

    def svg(self, label: str) -> Markup:
        w, h = _n(self.width + 4), _n(self.height + 4)
        body = "".join(part for layer in sorted(self._layers) for part in self._layers[layer])
        return Markup(  # noqa: S704 - made of numbers, fixed words and what `escape` gave
            f'<svg class="fabric" viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img" '
            f'aria-label="{escape(label)}">{body}</svg>'
        )


def _n(value: float) -> str:
    """A number as short as it can be written."""
    return f"{value:.1f}".removesuffix(".0")
