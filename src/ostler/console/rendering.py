"""Values into HTML: the templates and the few words and numbers that they use. Called by `pages.py` and `live.py`.

Everything is escaped; nothing that a node said is ever marked as safe.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from ostler.console import fabric_svg, sentences
from ostler.console.model import Fleet, Life
from ostler.core.clock import iso
from ostler.nodes.lifecycle import STATES, Phase
from ostler.nodes.model import UNMANAGED_NOTICE, Service

_STRIP = 1000
"""Width of the strip of a node's states, in units of its own drawing."""

BAR = (
    ("now", "Now", "/now"),
    ("fleet", "Fleet", "/"),
    ("tickets", "Tickets", "/tickets"),
    ("fabric", "Fabric", "/fabric"),
    ("would-act", "Would act", "/would-act"),
    ("maintenance", "Maintenance", "/maintenance"),
    ("rma", "RMA", "/rma"),
    ("checks", "Checks", "/checks"),
)
"""The rooms in the bar of every page: key, name, path."""


@dataclass(frozen=True)
class Stretch:
    """One state in the strip: where it begins and how wide it is."""

    state: str
    x: float
    width: float
    title: str


def environment(asset: Mapping[str, str]) -> Environment:
    """Jinja with our filters; `asset` maps a file's name to the path it is served at."""
    env = Environment(
        loader=PackageLoader("ostler.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {
        "iso": iso,
        "duration": sentences.duration,
        "clock": sentences.clock_time,
        "pretty": pretty,
        "reasons": sentences.reasons_of,
        "inventory": inventory_line,
        "count": sentences.count,
        "span": sentences.span,
        "swatch": fabric_svg.swatch,
    }
    env.globals |= {
        "asset": asset,
        "fabric_path": fabric_svg.path_of,
        "states": STATES,
        "rooms": BAR,
        "phases": [(phase, [s for s, row in STATES.items() if row.phase is phase]) for phase in Phase],
        "unmanaged": Service.UNMANAGED.value,
        "unmanaged_notice": UNMANAGED_NOTICE,
    }
    return env


def changed(env: Environment, fleet: Fleet, node_ids: Iterable[str]) -> str:
    """What a browser must replace after a change: tiles, their racks' counts, and all small parts."""
    wanted = frozenset(node_ids)
    racks = [
        (rack, [tile for tile in rack.tiles if tile.id in wanted])
        for rack in fleet.racks
        if any(tile.id in wanted for tile in rack.tiles)
    ]
    return env.get_template("changed.html").render(fleet=fleet, racks=racks)


def strip(life: Life) -> list[Stretch]:
    """The node's life as one bar, oldest left, each state as wide as it lasted, none too thin to see."""
    rows = list(reversed(life.transitions))
    if not rows:
        return []
    spans = [
        (row["to_state"], (rows[index + 1]["at"] if index + 1 < len(rows) else life.now) - row["at"])
        for index, row in enumerate(rows)
    ]
    total = sum(max(seconds, 0.0) for _, seconds in spans)
    least = min(0.012, 0.5 / len(spans))
    shares = [max(seconds / total if total else 0.0, least) for _, seconds in spans]
    scale = _STRIP / sum(shares)
    found: list[Stretch] = []
    x = 0.0
    for (state, seconds), share in zip(spans, shares, strict=True):
        width = share * scale
        found.append(Stretch(state, round(x, 2), round(width, 2), f"{state} for {sentences.duration(seconds)}"))
        x += width
    return found


def pretty(value: Any) -> str:
    """Evidence as people read it: indented JSON, in the order it was written."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


def inventory_line(inventory: Mapping[str, Any]) -> str:
    """`8 × H100 SXM5`, from what the agent reported; empty before the first report."""
    gpus = inventory.get("gpus") or ()
    models = {str(gpu.get("model") or "GPU") for gpu in gpus if isinstance(gpu, dict)}
    return f"{len(gpus)} × {', '.join(sorted(models))}" if gpus else ""
