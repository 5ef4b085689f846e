"""What designers call a port → what `model.Port` calls it. Only what is certain is changed; the rest stays as written.

Called by `draft.py` for every end of every cable, so the usual forms take no regular expression.
"""

from __future__ import annotations

import re

from ostler.core.errors import BadInput
from ostler.fabric.model import ChassisKind
from ostler.fabric.places import front_panel

PORT_MOST = 254
"""Port 255 is reserved: InfiniBand Architecture Specification, volume 1."""
_NUMBERED = re.compile(r"(?:port|p)[ _#-]{0,2}(\d{1,3})", re.IGNORECASE)
_BLADE = re.compile(r"blade (\d{1,3})[_ ]port (\d{1,3})/(\d{1,3})", re.IGNORECASE)
"""UFM's names for ports of director switches: leaf, ASIC, port."""
_MODULE = re.compile(r"([LS]\d{1,3})/(?:(U\d{1,3})/)?P?(\d{1,3})", re.IGNORECASE)
_ASIC = re.compile(r"U1/P?(\d{1,3})", re.IGNORECASE)
_DEVICE_PORT = re.compile(r"(mlx[45]_\w{1,24}|HCA-\d{1,2})(?:[/: _]?(?:U1/)?(?:port |P)?(\d))?", re.IGNORECASE)
_HCA = re.compile(
    r"(?:mlx[45]_|hca|ib\d|ibp\d|ibs\d|hfi1|h\d+/p\d|nic|rail|mezz|cx\d|slot|qib|opa|ens\d|enp\d|eth\d|gpu)",
    re.IGNORECASE,
)
_PANEL = re.compile(r"(?:\d{1,3}/\d{1,3}(?:/\d{1,3})?|swp?\d.*|ib\d{1,3}/.*|[a-z]?\d{1,3}[ab])", re.IGNORECASE)
_WITH_DEVICE = re.compile(r"(\S.*?)[ :](mlx[45]_\w{1,24}|HCA-\d{1,2})", re.IGNORECASE)


def looks_like_hca(raw: str) -> bool:
    """Whether only a host has ports of this name."""
    return _HCA.match(raw) is not None


def looks_like_switch(raw: str) -> bool:
    """Whether only a switch has ports of this name. A bare number says nothing: sheets number HCAs too."""
    if raw.isdecimal():
        return int(raw[:4]) > 16
    found = _NUMBERED.fullmatch(raw)
    if found is not None:
        return int(found[1]) > 16
    return bool(_BLADE.fullmatch(raw) or _MODULE.fullmatch(raw) or _PANEL.fullmatch(raw))


def device_of(description: str) -> tuple[str, str]:
    """`gpu-0001 mlx5_0` → (`gpu-0001`, `mlx5_0`), a description for a chassis; anything else → (it, empty)."""
    found = _WITH_DEVICE.fullmatch(description)
    return (found[1].strip(), found[2]) if found else (description, "")


def host_port(raw: str) -> str:
    """`mlx5_0/1`, `mlx5_0/P1`, `mlx5_0 P1` → `mlx5_0`; `mlx5_0/2` stays; other words stay as they are."""
    if raw.startswith("mlx5_") and raw[5:].isdecimal():
        return raw
    found = _DEVICE_PORT.fullmatch(raw)
    if found is None:
        return raw
    device = found[1].upper() if found[1][0] in "hH" else found[1].lower()
    return device if found[2] in {None, "1"} else f"{device}/{found[2]}"


def is_switch(model: str) -> bool:
    """Whether it is the name of a switch or a director."""
    return front_panel.panel(model) is not None or front_panel.director(model)


def switch_port(raw: str, model: str) -> str:
    """The InfiniBand port number, behind the module where there is one; BadInput where the label is not understood."""
    found = None if raw.isdecimal() and raw.isascii() else _NUMBERED.fullmatch(raw) or _ASIC.fullmatch(raw)
    number = found[1] if found else raw
    if number.isdecimal() and number.isascii():
        if not 1 <= int(number[:4]) <= PORT_MOST:
            raise BadInput(f"InfiniBand ports of a switch are 1 to {PORT_MOST}")
        return str(int(number))
    if found := _BLADE.fullmatch(raw):
        return f"L{int(found[1])}/U{int(found[2])}/{int(found[3])}"
    if found := _MODULE.fullmatch(raw):
        return "/".join(part for part in (found[1].upper(), (found[2] or "").upper(), str(int(found[3]))) if part)
    if not model:
        raise BadInput(
            "what stands on a front panel needs the switch's model; list it, or name the model of all switches"
        )
    return front_panel.port_name(model, raw)


def port_of(kind: ChassisKind, raw: str, model: str) -> str:
    """The port's name by the contract of `model.Port`; BadInput where a switch's label is not understood."""
    if kind is ChassisKind.HOST:
        return host_port(raw)
    if kind is ChassisKind.SWITCH:
        return switch_port(raw, model)
    return raw
