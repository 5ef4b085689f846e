"""What a recognised machine is told to boot, and whether a join is believed. Pure; called by `service.py`."""

from __future__ import annotations

from dataclasses import dataclass

from ostler.nodes.model import Capability, Node, Pool, State
from ostler.provisioning.identity import clean_serial
from ostler.provisioning.model import Boot, BootDecision, JoinFault, JoinRefused
from ostler.wire.agent import JoinRequest


def decide_boot(node: Node, pool: Pool) -> BootDecision:
    """The pinned image where provisioning is granted, else the machine's own disk. The state does not matter: a node of
    the fleet that reboots, in production too, must come back the way it was."""
    if node.state is State.RETIRED:
        return BootDecision(Boot.LOCAL, f"{node.name} is retired; Ostler no longer boots it")
    if Capability.PROVISION not in pool.capabilities:
        return BootDecision(
            Boot.LOCAL,
            f"would boot the pinned image, but the pool {pool.name} does not grant {Capability.PROVISION}",
        )
    return BootDecision(Boot.IMAGE, f"the pool {pool.name} grants {Capability.PROVISION}")


_FRESH = "Boot the node again, or give it a fresh seed."


@dataclass(frozen=True)
class IssuedToken:
    """A join token as the books have it. Times are real time."""

    node_id: str
    node_name: str
    node_serial: str | None
    retired: bool
    mac: str
    """Empty in a seed by hand for a node whose books have no MAC: then its serial number must be right."""
    serial: str
    nonce: str
    expires_at: float
    used_at: float | None


def judge_join(request: JoinRequest, token: IssuedToken | None, real: float) -> JoinRefused | None:
    """None if the request may join; the first thing that is wrong otherwise. Wrong holders are told before worn tokens,
    so that a thief learns nothing about the token's state."""
    if token is None:
        return JoinRefused(
            JoinFault.UNKNOWN,
            "This join token was never issued here, or was withdrawn; boot the node again to get a fresh one.",
        )

    def no(fault: JoinFault, message: str) -> JoinRefused:
        return JoinRefused(fault, message, token.node_id)

    if request.nonce != token.nonce:
        return no(JoinFault.NONCE, "The nonce is not the one of the boot request that this join token belongs to.")
    if token.mac and request.mac != token.mac:
        return no(JoinFault.MAC, f"This join token is for the machine with another MAC than {request.mac or 'none'}.")
    said = clean_serial(request.serial)
    expected = token.serial or token.node_serial or ""
    if expected and said != expected:
        return no(
            JoinFault.SERIAL, f"This join token is for the machine with another serial number than {said or 'none'}."
        )
    if token.retired:
        return no(JoinFault.RETIRED, f"{token.node_name} is retired; a retired node does not join.")
    if token.used_at is not None:
        return no(
            JoinFault.USED,
            f"This join token of {token.node_name} was used already; a token joins once. {_FRESH}",
        )
    if real >= token.expires_at:
        return no(
            JoinFault.EXPIRED,
            f"This join token of {token.node_name} expired {real - token.expires_at:.0f} s ago. {_FRESH}",
        )
    return None
