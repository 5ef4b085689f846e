"""Rules on error counters: what was counted, over which time, against what is allowed in it. Called by `judge`.

What a port receives with errors was sent by the other end, through the fibre: that end is looked at first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ostler.fabric.links.deltas import Delta, elapsed, full
from ostler.fabric.links.limits import Limits
from ostler.fabric.links.model import Candidate, EventKind, LinkEvent
from ostler.fabric.links.poisson import least_mean
from ostler.fabric.model import Port, Snapshot, TroubleKind
from ostler.fabric.sweep import SPEEDS, Ber

_NDR_GBPS = 4 * SPEEDS["NDR"]
"""The link that UFM's limits are for."""
_AFTER_FEC = ("NDR", "XDR")
"""Speeds whose symbol errors are counted behind the error correction."""


def allowance(seconds: float, speed: str, width: int, limits: Limits) -> float:
    """Symbol errors that a link may have in so many seconds. It never falls with time, so quiet time convicts nobody.

    From NDR on: the rate of the lasting limit, and in short windows as much as the burst limit allows, in proportion to
    the link's bits a second. Before: IBTA's rate. A link whose speed is not known gets IBTA's, the more patient one.
    """
    if speed not in _AFTER_FEC:
        return limits.ibta_errors_per_hour * seconds / 3600
    share = (width or 4) * SPEEDS[speed] / _NDR_GBPS
    lasting = limits.ndr_lasting_errors * seconds / limits.ndr_lasting_s
    burst = limits.ndr_burst_errors * min(1.0, seconds / limits.ndr_burst_s)
    return share * max(lasting, burst)


def too_many(count: int, seconds: float, speed: str, width: int, limits: Limits) -> bool:
    """Whether so many symbol errors in so many seconds prove a rate beyond the limit."""
    if count < limits.symbol_errors_least or seconds <= 0:
        return False
    return least_mean(count, limits.confidence) > allowance(seconds, speed, width, limits)


def counted(
    after: Snapshot, port: Port, peer: Port | None, deltas: Mapping[str, Delta], limits: Limits
) -> Iterator[Candidate]:
    """What the counters of one port convict it of, symbol errors left to `symbols`."""
    integrity = deltas.get("local_link_integrity_errors")
    if integrity is not None:
        yield _received(
            TroubleKind.INTEGRITY,
            port,
            peer,
            integrity.seconds is not None,
            f"{integrity} local link integrity errors",
            {"local_link_integrity_errors": integrity.by},
            "NVSentinel: any",
        )
    overrun = deltas.get("excessive_buffer_overrun_errors")
    if overrun is not None:
        yield Candidate(
            TroubleKind.INTEGRITY,
            port,
            peer,
            overrun.seconds is not None,
            f"{port}: {overrun} excessive buffer overruns: it took in more than its buffers hold.",
            {"excessive_buffer_overrun_errors": overrun.by},
            "NVSentinel: any",
        )
    recovery = deltas.get("link_error_recovery")
    if recovery is not None and (seconds := _window(recovery, limits)):
        proven = least_mean(recovery.by, limits.confidence) * 60 / seconds
        if proven > limits.recoveries_per_minute:
            yield _received(
                TroubleKind.RECOVERIES,
                port,
                peer,
                True,
                f"{recovery} link error recoveries in {_span(seconds)}, over {limits.recoveries_per_minute:g} a min",
                {"link_error_recovery": recovery.by, "seconds": seconds},
                "NVSentinel: > 5/min",
            )
    errors = deltas.get("port_rcv_errors")
    if errors is not None and (seconds := _window(errors, limits)) and errors.by / seconds > limits.rcv_errors_per_s:
        rate = errors.by / seconds
        yield _received(
            TroubleKind.RCV_ERRORS,
            port,
            peer,
            rate > limits.rcv_errors_severe_per_s,
            f"{errors} packets with errors in {_span(seconds)}, {rate:.1f}/s",
            {"port_rcv_errors": errors.by, "seconds": seconds},
            "NVSentinel: > 10/s; SckyzO: > 1/s",
        )
    discards = deltas.get("port_xmit_discards")
    if discards is not None and port in after.links and (seconds := _window(discards, limits)):
        rate = discards.by / seconds
        if rate > limits.discards_per_s:
            yield Candidate(
                TroubleKind.DISCARDS,
                port,
                peer,
                False,
                f"{port} threw away {discards} packets in {_span(seconds)}, {rate:.0f}/s: {peer or 'the other end'} "
                "takes them too slowly.",
                {"port_xmit_discards": discards.by, "seconds": seconds},
                "NVSentinel: > 100/s",
                physical=False,
            )


def symbols(
    after: Snapshot,
    before: Snapshot | None,
    port: Port,
    peer: Port | None,
    delta: Delta | None,
    events: Sequence[LinkEvent],
    limits: Limits,
) -> tuple[Candidate | None, LinkEvent | None]:
    """Symbol errors that a port received, from its counter or, where that says nothing, from its PHY's count.

    After a conviction an NDR link stays ill until it was clean for `clean_after_s`; the event returned starts that
    time anew.
    """
    facts = after.facts.get(port)
    speed, width = (facts.speed, facts.width) if facts else ("", 0)
    found = delta
    if found is None or found.seconds is None:
        found = _phy_delta(after, before, port) or found
    ill = found is not None and found.seconds is not None and too_many(found.by, found.seconds, speed, width, limits)
    last = max((event.at for event in events if event.kind == EventKind.ERRORS and event.port == port), default=None)
    now = after.taken_at
    probation = speed in _AFTER_FEC and last is not None and now is not None and 0 <= now - last < limits.clean_after_s
    unclean = (found is not None and found.by > 0) or (before is not None and full(after, before, port, "symbol_error"))
    if not ill and not probation:
        return None, None
    event = None
    if now is not None and (ill or unclean) and (last is None or last < now):
        event = LinkEvent(port, peer, EventKind.ERRORS, now, found.by if found else 0)
    if ill and found is not None and found.seconds is not None:
        allowed = allowance(found.seconds, speed, width, limits)
        what = f"{found} symbol errors in {_span(found.seconds)}, where {allowed:.3g} are allowed"
        measured = {
            "symbol_errors": found.by,
            "seconds": found.seconds,
            "allowed": allowed,
            "at_least": found.at_least,
        }
    else:
        assert last is not None and now is not None
        what = f"symbol errors, and is not clean for {limits.clean_after_s / 60:.0f} min since"
        measured = {"symbol_errors": found.by if found else 0, "since_s": now - last}
    source = "UFM PDR: 2.88 in 12 min, 3 in 125 min" if speed in _AFTER_FEC else "IBTA: 120 an hour"
    return _received(TroubleKind.SYMBOL_ERRORS, port, peer, True, what, measured, source), event


def _phy_delta(after: Snapshot, before: Snapshot | None, port: Port) -> Delta | None:
    """What the PHY counted since the look before, or since it was cleared where there is none to compare with."""
    now = after.bers.get(port)
    if now is None or now.symbol_errors is None:
        return None
    then = before.bers.get(port) if before is not None else None
    if then is None or before is None:
        return Delta(now.symbol_errors, now.seconds) if now.seconds else None
    if then.symbol_errors is None or not _goes_on(now, then) or now.symbol_errors < then.symbol_errors:
        return None
    seconds = elapsed(after, before)
    if seconds is None and now.seconds is not None and then.seconds is not None:
        seconds = now.seconds - then.seconds
    return Delta(now.symbol_errors - then.symbol_errors, seconds) if seconds else None


def _goes_on(now: Ber, then: Ber) -> bool:
    """Whether nobody cleared the PHY's counters in between."""
    return now.seconds is None or then.seconds is None or now.seconds >= then.seconds


def _window(delta: Delta, limits: Limits) -> float | None:
    """Seconds over which a rate may be taken; None where it may not."""
    if delta.seconds is None or delta.seconds < limits.rate_window_s:
        return None
    return delta.seconds


def _span(seconds: float) -> str:
    return (
        f"{seconds / 3600:.1f} h"
        if seconds >= 7200
        else f"{seconds / 60:.0f} min"
        if seconds >= 60
        else f"{seconds:.0f} s"
    )


def _received(
    kind: TroubleKind,
    port: Port,
    peer: Port | None,
    severe: bool,
    what: str,
    measured: Mapping[str, object],
    source: str,
) -> Candidate:
    """What `port` receives badly: the sender, and what lies between, come first."""
    if peer is None:
        return Candidate(kind, port, None, severe, f"{port} receives {what}.", measured, source)
    return Candidate(
        kind,
        peer,
        port,
        severe,
        f"{port} receives {what}: look first at {peer}, which sends, and at the cable between.",
        {**measured, "receiver": str(port)},
        source,
    )
