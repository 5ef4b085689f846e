"""The brake's decision, pure: from limits and live permits to yes, or to the limit that says no."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ostler.brake.model import Live, Request, Rule


def allowed_at_once(rule: Rule, size: int) -> int | None:
    """How many of a group of `size` nodes may be disrupted at a time: the stricter of share and count, at least one."""
    limits = []
    if rule.share is not None:
        limits.append(max(1, math.floor(rule.share * size)))
    if rule.at_once is not None:
        limits.append(rule.at_once)
    return min(limits, default=None)


def held_by(
    request: Request, rules: Sequence[Rule], permits: Sequence[Live], sizes: Mapping[str, int], now: float
) -> tuple[str, float] | None:
    """None when the action may go ahead; else why not, and in how many domain seconds to ask again.

    `permits` are those not yet released or granted within the longest window; `sizes` maps a group kind to the number
    of nodes in the requester's group of that kind.
    """
    for rule in rules:
        name = request.groups.get(rule.group)
        if name is None:
            continue
        label = "the fleet" if rule.group == "fleet" else f"{rule.group} {name}"
        mine = [permit for permit in permits if permit.groups.get(rule.group) == name]
        busy = {permit.unit for permit in mine if not permit.released} - {request.unit}
        limit = allowed_at_once(rule, 1 if rule.share is None else sizes.get(rule.group, 1))
        if limit is not None and len(busy) >= limit:
            return f"{len(busy)} of at most {limit} at a time are being disrupted in {label}", 30.0
        recent = {permit.unit: permit.granted_at for permit in mine if permit.granted_at > now - rule.window_s}
        recent.pop(request.unit, None)
        if rule.per_window is not None and len(recent) >= rule.per_window:
            wait = min(recent.values(), default=now) + rule.window_s - now
            return f"{len(recent)} of at most {rule.per_window} per {rule.window_s / 60:g} min in {label}", max(
                wait, 1.0
            )
    return None
