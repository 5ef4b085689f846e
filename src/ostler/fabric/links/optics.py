"""Rules on modules and bit error rates. Called by `judge`."""

from __future__ import annotations

from collections.abc import Iterator

from ostler.fabric.links.deltas import elapsed
from ostler.fabric.links.limits import Limits
from ostler.fabric.links.model import Candidate
from ostler.fabric.links.poisson import least_mean
from ostler.fabric.model import Port, Snapshot, TroubleKind
from ostler.fabric.sweep import Ber


def heat(
    after: Snapshot, before: Snapshot | None, port: Port, peer: Port | None, limits: Limits
) -> Iterator[Candidate]:
    """A module's temperature against its EEPROM's alarms, the field's limit, and what it was before."""
    module = after.modules[port]
    now = module.temperature_c
    if now is None:
        return
    measured = {"temperature_c": now, "limits_c": module.temperature_limits_c}
    bounds = module.temperature_limits_c
    if bounds is not None and not bounds[0] <= now <= bounds[1]:
        yield Candidate(
            TroubleKind.HOT,
            port,
            peer,
            True,
            f"{port}: its module has {now:g} C, outside its own alarm limits of {bounds[0]:g} to {bounds[1]:g} C.",
            measured,
            "alarm limits of the EEPROM",
            strong=True,
        )
    elif now > limits.temperature_c:
        yield Candidate(
            TroubleKind.HOT,
            port,
            peer,
            True,
            f"{port}: its module has {now:g} C; {limits.temperature_c:g} C are allowed.",
            measured,
            "UFM PDR: 70 C",
        )
    elif (rise := _rise(after, before, port, now, limits)) is not None:
        yield Candidate(
            TroubleKind.HOT,
            port,
            peer,
            False,
            f"{port}: its module went up by {rise:g} C to {now:g} C within a few minutes.",
            {**measured, "rise_c": rise},
            "UFM PDR: +10 C in 300 s",
        )


def _rise(after: Snapshot, before: Snapshot | None, port: Port, now: float, limits: Limits) -> float | None:
    """Degrees, if somewhere in between they must have come faster than allowed; None else."""
    then = before.modules.get(port) if before is not None else None
    if before is None or then is None or then.temperature_c is None or then.serial != after.modules[port].serial:
        return None
    seconds = elapsed(after, before)
    if seconds is None:
        return None
    rise = now - then.temperature_c
    return rise if rise > limits.temperature_rise_c * max(1.0, seconds / limits.temperature_rise_s) else None


def light(after: Snapshot, port: Port, peer: Port | None, limits: Limits) -> Iterator[Candidate]:
    """Received power of a port that has its link: against the EEPROM's alarms, and lane against lane."""
    module = after.modules[port]
    lanes = module.rx_power_dbm
    if not lanes or port not in after.links:
        return
    low, high = min(lanes), max(lanes)
    measured = {"rx_power_dbm": list(lanes), "limits_dbm": module.rx_limits_dbm, "receiver": str(port)}
    at, other, where = _sender(after, port, peer, limits)
    bounds = module.rx_limits_dbm
    if bounds is not None and (low < bounds[0] or high > bounds[1]):
        worst = low if low < bounds[0] else high
        yield Candidate(
            TroubleKind.RX_POWER,
            at,
            other,
            True,
            f"{port} receives {worst:g} dBm on a lane, outside its module's alarm limits of {bounds[0]:g} to "
            f"{bounds[1]:g} dBm: {where}.",
            measured,
            "alarm limits of the EEPROM",
            strong=True,
        )
    elif high - low > limits.rx_spread_db:
        ill = _raw(after.bers.get(port)) > limits.raw_ber
        yield Candidate(
            TroubleKind.RX_POWER,
            at,
            other,
            ill,
            f"{port} receives {low:g} to {high:g} dBm: its lanes are more than {limits.rx_spread_db:g} dB apart"
            f"{', and its raw bit error rate is too high' if ill else ''}: {where}.",
            measured,
            "CVT 1.9.1: lanes within 2 dB",
        )
    elif bounds is not None and (low < bounds[0] + limits.rx_margin_db or high > bounds[1] - limits.rx_margin_db):
        yield Candidate(
            TroubleKind.RX_POWER,
            at,
            other,
            False,
            f"{port} receives {low:g} to {high:g} dBm, less than {limits.rx_margin_db:g} dB from its module's alarm "
            f"limits of {bounds[0]:g} to {bounds[1]:g} dBm: {where}.",
            measured,
            "sichek: alarm limits and 1 dB",
        )


def _sender(after: Snapshot, port: Port, peer: Port | None, limits: Limits) -> tuple[Port, Port | None, str]:
    """The end to look at first, the other one, and why: a sender that shows good power leaves the fibre."""
    sent = after.modules[peer].tx_power_dbm if peer is not None and peer in after.modules else ()
    if peer is None:
        return port, None, "its fibre, or the sender's module"
    if sent and min(sent) > limits.tx_well_dbm and max(sent) - min(sent) <= limits.rx_spread_db:
        return port, peer, f"{peer} sends well, so clean or change the fibre, here first"
    return peer, port, f"look first at the module in {peer}, which sends, then at the fibre"


def _raw(rates: Ber | None) -> float:
    return max((rates.raw or 0.0, *rates.raw_lanes)) if rates is not None else 0.0


def rates(after: Snapshot, port: Port, peer: Port | None, limits: Limits) -> Iterator[Candidate]:
    """Bit error rates of a port that has its link. The worst of them speaks."""
    found = after.bers[port]
    if port not in after.links:
        return
    effective = _proven(found.effective, found.effective_errors, limits)
    symbol = _proven(found.symbol, found.symbol_errors, limits)
    beyond = [
        f"{name} {value:.2g} (limit {limit:g})"
        for name, value, limit in (
            ("symbol", symbol, limits.symbol_ber),
            ("effective", effective, limits.effective_ber),
            ("raw", found.raw or 0.0, limits.raw_ber),
        )
        if value > limit
    ]
    uneven = _uneven(found.raw_lanes, limits)
    if not beyond and uneven is None:
        return
    what = "a bit error rate beyond its limit: " + ", ".join(beyond) if beyond else ""
    if uneven is not None:
        what += f"{'; ' if what else ''}lane {uneven} with {limits.lane_ber_ratio:g} times the errors of the next"
    measured = {
        "raw": found.raw,
        "effective": found.effective,
        "symbol": found.symbol,
        "raw_lanes": list(found.raw_lanes),
        "receiver": str(port),
    }
    where = f": look first at {peer}, which sends, and at the cable between" if peer is not None else ""
    yield Candidate(
        TroubleKind.BER,
        peer or port,
        port if peer is not None else None,
        bool(beyond),
        f"{port} receives {what}{where}.",
        measured,
        "NVIDIA field script: raw 1e-5, effective 1e-13, symbol 1e-13" if beyond else "CVT 1.9.1: a lane 10x the next",
    )


def _proven(rate: float | None, errors: int | None, limits: Limits) -> float:
    """A rate after error correction, as far as the errors behind it prove it; as it stands where they are not said."""
    if not rate:
        return 0.0
    if errors is None:
        return rate
    return rate * least_mean(errors, limits.confidence) / errors if errors >= limits.symbol_errors_least else 0.0


def _uneven(lanes: tuple[float, ...], limits: Limits) -> int | None:
    """Which lane, from 0, has so many more errors than the next worst; None where none has."""
    if len(lanes) < 2:
        return None
    worst, second = sorted(lanes)[-1], sorted(lanes)[-2]
    if worst <= limits.lane_ber_floor or worst <= limits.lane_ber_ratio * second:
        return None
    return lanes.index(worst)
