"""Front panels: InfiniBand port 35 of a twin-port switch is what stands as `18/1` beside the plug.

Readers of designs come here with what people wrote, the report and the tickets with what people will read. Only the
label differs: everywhere else a port keeps its InfiniBand number.

SX60xx, SB77xx, SB78xx: 12, 18 or 36 QSFP cages of one port.
    Hardware manuals of SX6012, SX6018, SX6036, SB7700, SB7800.
QM87xx (Quantum, HDR): 40 QSFP56 cages of one port; set to split 80, of which 2n-1 and 2n are in cage n.
    QM87xx hardware manual; MLNX-OS manual, "InfiniBand Interface"; sweeps whose port 81 is the aggregation node.
QM97xx (Quantum-2, NDR): 32 OSFP cages of two ports, port 35 is IB1/18/1; set to split four in a cage.
    QM97xx hardware manual; the table of an operator of such switches; a sweep of a split one, which has 129 ports.
Q3400, Q3401 (Quantum-X800, XDR): 72 OSFP cages of two ports, sw18p1; four ASICs, one plane of every cable each.
    Q3400-RA hardware manual; names in UFM and NVOS.
Q3450 (the same with co-packaged optics): 144 MPO connectors of one port, four planes.
    Linux, drivers/platform/mellanox, the change that brought Q3450-LD.

Directors (CS7500, CS8500, SX65xx) keep the name of the ASIC in front, `L11/U1/4`: leaf module 11 has two ASICs, whose
ports 1 to 18 (HDR: 1 to 20) are the plugs and whose others lead to the spines inside. How the two share the numbers
printed on the module is not known here, so nothing is made up.

A switch that is set to split ports numbers them anew, and its model does not tell: `locate` sees it by the number of
ports and writes `MQM9700-split`; whoever designs such a switch writes the same.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from ostler.core.errors import BadInput
from ostler.fabric.model import Port


class Panel(NamedTuple):
    """The plugs of one kind of switch."""

    cages: int
    per_cage: int = 1
    """InfiniBand ports behind one plug."""
    split: int = 1
    """Into how many each of those can be split."""
    planes: int = 1
    """ASICs that share every cable."""
    is_split: bool = False
    """Whether this one is set to split."""

    @property
    def ports(self) -> int:
        return self.cages * self.per_cage * (self.split if self.is_split else 1)

    @property
    def ports_split(self) -> int:
        return self.cages * self.per_cage * self.split


PANELS = {
    "SX6012": Panel(12), "SX6015": Panel(18), "SX6018": Panel(18), "SX6025": Panel(36), "SX6036": Panel(36),
    "SB7700": Panel(36), "SB7780": Panel(36), "SB7790": Panel(36),
    "SB7800": Panel(36), "SB7880": Panel(36), "SB7890": Panel(36),
    "QM8700": Panel(40, 1, 2), "QM8790": Panel(40, 1, 2),
    "QM9700": Panel(32, 2, 2), "QM9701": Panel(32, 2, 2), "QM9790": Panel(32, 2, 2),
    "Q3400": Panel(72, 2, 1, 4), "Q3401": Panel(72, 2, 1, 4), "Q3450": Panel(144, 1, 1, 4),
}  # fmt: skip
"""By the letters and digits of the model, without the M of Mellanox in front."""

DIRECTORS = frozenset(
    ("CS7500", "CS7510", "CS7520", "CS8500", "SX6506", "SX6512", "SX6518", "SX6536", "IS5100", "IS5200", "IS5300",
     "IS5600")
)  # fmt: skip

_MODEL = re.compile(r"M?([A-Z]{1,3}[0-9]{4})")
_MODULE = re.compile(r"([A-Z]{1,4}[0-9]{1,3}(?:/U[0-9]{1,2})?)/([0-9]{1,3})", re.IGNORECASE)
_SWITCH = re.compile(r"sw([0-9]{1,3})p([0-9]{1,3})(?:s([0-9]{1,2}))?", re.IGNORECASE)
_NUMBERS = re.compile(r"(ib|eth|port|p)?[ #]?([0-9]{1,3}(?:/[0-9]{1,3}){0,3})", re.IGNORECASE)


@lru_cache(maxsize=512)
def panel(model: str) -> Panel | None:
    """What is known of this model, by any of its spellings (`MQM9700-NS2F`, `Q3400_RA`, `MQM8700-split`)."""
    upper = model.strip().upper()
    found = _MODEL.match(upper)
    known = PANELS.get(found[1]) if found else None
    if known is not None and known.split > 1 and upper.endswith("-SPLIT"):
        return known._replace(is_split=True)
    return known


def director(model: str) -> bool:
    """Whether this model is a chassis with leaf and spine modules."""
    found = _MODEL.match(model.strip().upper())
    return found is not None and found[1] in DIRECTORS


def planes(model: str) -> int:
    """How many ASICs share every cable of this switch; 1 for all but the XDR ones."""
    known = panel(model)
    return known.planes if known else 1


def split_model(model: str, ports: int) -> str:
    """The model with `-split` behind it if a switch with so many InfiniBand ports must be one that is set to split."""
    known = panel(model)
    if known is None or known.is_split or known.split == 1 or ports < known.ports_split:
        return model
    return f"{model}-split"


def label(model: str, port: Port) -> str:
    """What stands beside the plug: `18/1` on twin-port cages, `1/18/1/2` where they are split; else the port's name."""
    known, name = panel(model), port.name
    if known is None or not name.isascii() or not name.isdigit():
        return name
    number = int(name)
    if known.is_split or known.ports < number:
        if known.split == 1 or not 1 <= number <= known.ports_split:
            return name
        whole, part = divmod(number - 1, known.split)
        cage, plug = divmod(whole, known.per_cage)
        middle = f"{cage + 1}/{plug + 1}" if known.per_cage > 1 else f"{cage + 1}"
        return f"1/{middle}/{part + 1}"
    if known.per_cage == 1 or number < 1:
        return name
    cage, plug = divmod(number - 1, known.per_cage)
    return f"{cage + 1}/{plug + 1}"


def port_name(model: str, label: str) -> str:
    """The name of a switch's port from what somebody wrote: `18/1`, `1/18/1`, `IB1/18/1`, `sw18p1`, `P35`, `Port 35`.

    A bare number is the InfiniBand port number. BadInput, in one line, for what cannot be a port of this model or can
    be read in two ways.
    """
    text = label.strip()
    known = panel(model)
    numbered = _NUMBERS.fullmatch(text)
    if numbered is None and (module := _MODULE.fullmatch(text)):
        if known is None:
            return f"{module[1].upper()}/{int(module[2])}"
        if module[1][0] in "UuAa" and "/" not in module[1]:  # the ASIC, which such a model has once or four times alike
            return port_name(model, module[2])
    if found := _SWITCH.fullmatch(text):
        return str(_named(model, known, text, [int(number) for number in found.groups() if number is not None]))
    if numbered is None:
        raise BadInput(f"{_shown(text)} is no name of a switch's port; write 18/1, IB1/18/1, sw18p1 or port 35")
    numbers = [int(number) for number in numbered[2].split("/")]
    if len(numbers) == 1:
        most = 254 if known is None else known.ports_split
        if not 1 <= numbers[0] <= most:
            raise BadInput(f"{_shown(text)}: {_shown(model) if model else 'a switch'} has ports 1 to {most}")
        return str(numbers[0])
    if known is None:
        raise BadInput(f"{_shown(text)}: {_unknown(model)}")
    return str(_numbered(model, known, text, numbers))


def _numbered(model: str, known: Panel, text: str, numbers: list[int]) -> int:
    """From two to four numbers: with the slot, always 1, in front wherever they are more than cage and plug need."""
    if known.per_cage > 1:
        if len(numbers) == 2:
            return _count(model, known, text, numbers[0], numbers[1], 0)
        if len(numbers) == 3 and numbers[0] == 1:
            return _count(model, known, text, numbers[1], numbers[2], 0)
        if len(numbers) == 4 and numbers[0] == 1:
            return _count(model, known, text, numbers[1], numbers[2], numbers[3])
    elif len(numbers) == 2 and numbers[0] == 1:
        return _count(model, known, text, numbers[1], 1, 0)
    elif len(numbers) == 3 and numbers[0] == 1:
        return _count(model, known, text, numbers[1], 1, numbers[2])
    raise BadInput(f"{_shown(text)} is no port of {_shown(model)}: its last is {_last(model, known)}")


def _named(model: str, known: Panel | None, text: str, numbers: list[int]) -> int:
    """`sw18p1`, `sw18p1s2`: cage, plug, part, as NVOS has it; `sw1p18s1`: slot, cage, plug if it is nothing else."""
    if known is None:
        raise BadInput(f"{_shown(text)}: {_unknown(model)}")
    if len(numbers) == 2:
        return _count(model, known, text, numbers[0], numbers[1], 0)
    if known.per_cage > 1 and numbers[0] == 1:
        if numbers[1] > known.per_cage:
            return _count(model, known, text, numbers[1], numbers[2], 0)
        one, other = f"{numbers[0]}/{numbers[1]}", f"{numbers[1]}/{numbers[2]}"
        raise BadInput(f"{_shown(text)} can be read in two ways, plug {one} or {other}; write the one meant")
    return _count(model, known, text, numbers[0], numbers[1], numbers[2])


def _count(model: str, known: Panel, text: str, cage: int, plug: int, part: int) -> int:
    """The InfiniBand port number. `part` 0: not said, the first of a split one."""
    parts = known.split if known.is_split or part else 1
    if not (1 <= cage <= known.cages and 1 <= plug <= known.per_cage and part <= known.split) or (
        part and known.split == 1
    ):
        raise BadInput(f"{_shown(text)} is no port of {_shown(model)}: its last is {_last(model, known)}")
    return ((cage - 1) * known.per_cage + plug - 1) * parts + max(part, 1)


def _unknown(model: str) -> str:
    what = f"the front panel of {_shown(model)}" if model else "no model is given, so the front panel"
    return f"{what} is not known; write the InfiniBand port number"


def _last(model: str, known: Panel) -> str:
    return label(model, Port("", str(known.ports)))


def _shown(text: str) -> str:
    """Safe to print: hostile text in quotes, cut."""
    return ascii(text if len(text) <= 40 else text[:40] + "…")
