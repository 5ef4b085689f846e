"""InfiniBand and Ethernet adapters: mlx5 link, module and health, and links that the network daemon lost. Joined by
`catalogue.py`. Message forms: Linux drivers/net/ethernet/mellanox/mlx5/core and captured lines.
"""

from __future__ import annotations

import re

from ostler.faults.entry import NETWORK_DAEMONS, Entry, text
from ostler.faults.model import EMPTY, Action, Fault, Kind, Severity

_MLX5 = rb"mlx5_core (?P<device>[0-9a-fA-F]{4}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-7])"
_PORT = rb"(?: (?P<port>[\w.-]{1,20}))?"
_WHERE = rb"(?:[\w]{1,48}:\d{1,6}:)?(?:\(pid \d{1,9}\): )?"


def _link(match: re.Match[bytes], message: str, _driver: str | None) -> Fault:
    down = match["state"].lower() == b"down"
    port = match["port"] or match["number"]
    return Fault(
        Kind.IB_LINK,
        "down" if down else "up",
        text(match["device"]),
        "nic",
        Severity.WARNING if down else Severity.INFO,
        Action.WATCH if down else Action.NONE,
        message,
        "a network link went down" if down else "a network link came up",
        detail={"port": text(port)} if port else EMPTY,
    )


def _module(match: re.Match[bytes], message: str, _driver: str | None) -> Fault:
    what = match["what"].lower()
    if b"high temperature" in what:
        code, meaning, action = "high-temperature", "the transceiver or cable is too hot", Action.TRIAGE
    elif b"unplugged" in what:
        code, meaning, action = "unplugged", "no cable or transceiver in the port", Action.WATCH
    else:
        code, meaning, action = "error", "the port reports a bad cable or transceiver", Action.TRIAGE
    return Fault(
        Kind.IB_MODULE,
        code,
        text(match["device"]),
        "nic",
        Severity.WARNING if code == "unplugged" else Severity.ERROR,
        action,
        message,
        meaning,
        detail={"module": text(match["module"])},
    )


def _health(
    name: str,
    anchors: tuple[bytes, ...],
    tail: bytes,
    severity: Severity,
    action: Action,
    meaning: str,
    *,
    code: str,
    port: bool = False,
) -> Entry:
    pattern = re.compile(_MLX5 + (_PORT if port else b"") + rb": " + _WHERE + tail)
    return Entry(name, anchors, pattern, Kind.IB_HEALTH, "nic", severity, action, meaning, code)


ENTRIES: tuple[Entry, ...] = (
    Entry(
        "mlx5-module", (b"Port module event",),
        re.compile(
            _MLX5 + rb": " + _WHERE + rb"Port module event(?:\[error\])?: module (?P<module>\d{1,3}), "
            rb"(?P<what>Cable unplugged|Cable error[^\n]{0,80}|High Temperature|Cable high temperature)"
        ),
        Kind.IB_MODULE, "nic", Severity.WARNING, Action.WATCH, "a cable or transceiver", build=_module,
    ),
    Entry(
        "mlx5-link", 
        (b" Link down", b" Link DOWN", b" Link Down", b" Link up", b" Link UP", b" Link Up", b" Link ACTIVE"),
        re.compile(_MLX5 + _PORT + rb": " + _WHERE + rb"(?:Port: (?P<number>\d{1,3}) )?Link "
            rb"(?P<state>[Dd]own|DOWN|[Uu]p|UP|ACTIVE)\b"),
        Kind.IB_LINK, "nic", Severity.WARNING, Action.WATCH, "a network link", build=_link,
    ),
    _health(
        "mlx5-health",
        (b"health compromised", b"ealth issue observed", b": Fatal error ", b"device is being reset",
         b"health recovery f", b"handling bad device here"),
        rb"(?:device's health compromised|Health issue observed|Fatal error \d|device is being reset|"
        rb"health recovery (?:flow aborted|failed)|handling bad device here)",
        Severity.FATAL, Action.REBOOT, "the adapter's firmware no longer answers properly", code="health-compromised",
    ),
    _health(
        "mlx5-syndrome", (b"synd 0x", b"syndrome 0x"), rb"synd(?:rome)? (?P<syndrome>0x[0-9a-fA-F]{1,4}): "
            rb"(?P<what>unrecoverable hardware error|firmware internal error"
        rb"|irrisc not responding|High temperature|[^\n]{1,60} error)",
        Severity.FATAL, Action.REBOOT, "the adapter reports an internal error", code="syndrome",
    ),
    _health(
        "mlx5-hot", (b"High temperature on sensors",),
        rb"(?:temp_warn: )?High temperature on sensors", Severity.ERROR, Action.TRIAGE,
        "the adapter is too hot", code="high-temperature",
    ),
    _health(
        "mlx5-command-timeout", (b") timeout.",), rb"(?P<command>[A-Z][A-Z0-9_]{2,40})\("
            rb"(?P<opcode>0x[0-9a-fA-F]{1,4})\) timeout\.",
        Severity.ERROR, Action.REBOOT, "the adapter did not answer a driver's command", code="command-timeout",
    ),
    _health(
        "mlx5-command-failed", (b" failed, status ",),
        rb"(?P<command>[A-Z][A-Z0-9_]{2,40})\((?P<opcode>0x[0-9a-fA-F]{1,4})\) op_mod\(0x[0-9a-fA-F]{1,4}\) "
        rb"failed, status (?P<status>[a-z ]{1,40})",
        Severity.INFO, Action.NONE, "the adapter refused a driver's command", code="command-failed",
    ),
    _health(
        "mlx5-slot-power", (b"insufficient power on the PCIe slot",), rb"Detected insufficient power on the "
            rb"PCIe slot \((?P<watts>\d{1,4})W\)",
        Severity.WARNING, Action.WATCH, "the slot offers less power than the adapter asks for", code="slot-power",
    ),
    _health(
        "mlx5-tx-timeout", (b"NETDEV WATCHDOG: ", b"TX timeout detected"), rb"(?:NETDEV WATCHDOG: "
            rb"[^\n]{0,40}?transmit queue (?P<queue>\d{1,5}) timed out|TX timeout detected)",
        Severity.ERROR, Action.WATCH, "the adapter stopped sending", code="tx-timeout", port=True,
    ),
    _health(
        "mlx5-rx-timeout", (b"RX timeout on channel",), rb"RX timeout on channel: (?P<channel>\d{1,5})",
        Severity.ERROR, Action.WATCH, "the adapter stopped receiving", code="rx-timeout", port=True,
    ),
    Entry(
        "netdev-watchdog", (b"NETDEV WATCHDOG: ",),
        re.compile(rb"NETDEV WATCHDOG: (?P<device>[\w.-]{1,20}) \((?P<driver>[\w.-]{1,20})\): transmit queue "
                   rb"(?P<queue>\d{1,5} )?timed out"),
        Kind.IB_HEALTH, "nic", Severity.ERROR, Action.WATCH, "the adapter stopped sending", "tx-timeout",
    ),
    Entry(
        "lost-carrier", (b": Lost carrier",),
        re.compile(rb"(?P<device>ib[\w.-]{1,20}): Lost carrier"),
        Kind.IB_LINK, "nic", Severity.WARNING, Action.WATCH, "a network link went down", "lost-carrier",
        programs=NETWORK_DAEMONS,
    ),
)  # fmt: skip
