"""`[fabrics.NAME]` of the configuration: how a fabric is looked at, how often, and for how long that is kept."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ostler.fabric.links.limits import Limits

_TIME = re.compile(r"([01]\d|2[0-3]):[0-5]\d")
COLLECTORS = ("push", "tools", "folder")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What a fabric may be called: it stands in addresses."""


@dataclass(frozen=True)
class FabricSettings:
    """One fabric. Spans are domain seconds unless they say otherwise."""

    collector: str = "push"
    """Who looks. `push`: another host sends what it saw (`ostler fabric collect`, on the subnet manager's host or any
    other with a umad device). `tools`: this server runs the field's tools itself. `folder`: dumps that somebody writes
    into `folder` are read."""
    ca: str = ""
    """tools: the HCA to use, `mlx5_0`; empty: the first active one."""
    ca_port: int = 0
    """tools: its port; 0: the first active one."""
    through: tuple[str, ...] = ()
    """tools: what the commands are run through, as words: `["ssh", "-o", "BatchMode=yes", "sm01"]`, `["sudo"]`."""
    remote: bool = False
    """tools: whether `through` leads to another host, with files of its own."""
    config: str = ""
    """tools: path of an ibdiag.conf instead of the system's, where an M_Key belongs."""
    subnet_list: str = ""
    """tools: path of opensm-subnet.lst, a second witness that costs nothing; empty: none."""
    folder: str = ""
    """folder: where the dumps are."""
    deadline_s: float = 300.0
    """Real seconds that one tool may take. A discovery of 98,304 ports takes 20 to 31 s on a simulated fabric."""
    sweep_at: tuple[str, ...] = ("00:30", "06:30", "12:30", "18:30")
    """UTC times of day at which the whole topology is compared with its design."""
    jitter_s: float = 600.0
    """Each sweep comes up to so much later, so that fabrics are not swept in step."""
    counters_every_s: float = 900.0
    """Error counters in between: the deltas that link health is judged by. UFM samples every 300 s."""
    repair_look_s: float = 30.0
    """After a technician says that a cable is done, a look is taken so soon."""
    second_look_s: float = 900.0
    """Another vantage point confirms what this one saw if it looked at most so long before or after."""
    keep_bodies: int = 12
    """Snapshots kept in full, for differences and deltas; of older ones the report stays."""
    keep_days: float = 400.0
    """Reports of snapshots."""
    events_days: float = 90.0
    """Downs and flaps of links."""
    round_every_s: float = 7 * 86_400.0
    """The validation by hand; 0: none is scheduled."""
    round_items: int = 20
    """Things to look at in one round."""
    limits: Limits = field(default_factory=Limits)
    """`[fabrics.NAME.limits]`: when a link is ill."""

    def __post_init__(self) -> None:
        if self.collector not in COLLECTORS:
            raise ValueError(f"'{self.collector}' is no collector; known are {', '.join(COLLECTORS)}")
        if strange := [one for one in self.sweep_at if not _TIME.fullmatch(one)]:
            raise ValueError(f"'{strange[0]}' is no time of day; write HH:MM, UTC")
        if self.collector == "folder" and not self.folder:
            raise ValueError("the collector 'folder' needs the key folder")
        if min(self.deadline_s, self.counters_every_s, self.repair_look_s, self.second_look_s) <= 0:
            raise ValueError("intervals and the deadline are above 0 s")
        if self.keep_bodies < 2:
            raise ValueError("keep_bodies is at least 2: deltas need the snapshot before")
