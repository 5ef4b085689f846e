"""What counts as too much, in one place, each figure with its source. Read by the agent's monitors.

Where the field's tools disagree the reason for the choice stands beside it. Spans are seconds.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """One set of limits; the defaults are for data-centre GPU servers."""

    # ── the host: InfiniBand, Ethernet, clock, disks, filesystems, memory, services ──────────────────────────────────

    gone_looks: int = 3
    """Looks in a row without a part before it is gone, or unreadable (NVSentinel: NIC missing for 3 polls)."""
    settle_s: float = 600.0
    """After boot, what was there before it may still be coming up (UFM's netfix: a reboot explains 10 minutes)."""
    sticky_s: float = 3600.0
    """An error that was counted stands for an hour (NVSentinel escalates 3 degradations of a port within 1 h)."""

    ib_down_s: float = 25.0
    """A port not active for so long is down; what is shorter retrains (gpud's shortest outage of a flap)."""
    ib_flap_count: int = 3
    ib_flap_window_s: float = 12 * 3600.0
    """Outages of at least `ib_down_s` that ended, within the window (gpud: 3 in 12 h)."""
    ib_flap_grace_s: float = 1800.0
    """Outages in the first 30 minutes after boot do not count as flaps (OCI)."""
    ib_drop_s: float = 240.0
    """Down for so long while `link_downed` does not move: dropped (gpud: 4 min)."""
    ib_drop_sticky_s: float = 600.0
    """A drop stands for so long after the port came back (gpud: 10 min)."""
    ib_symbol_errors_h: float = 120.0
    """Symbol errors in an hour (IBTA's bit error rate 1e-12; NVSentinel: fatal). Its 10/s is far above this."""
    ib_recoveries_min: float = 5.0
    """Link error recoveries per minute (NVSentinel)."""
    ib_recoveries_day: float = 50.0
    """Link error recoveries in 24 h: half the rate of a reported port that failed after 505 in 5 days."""
    ib_rcv_errors_s: float = 10.0
    """Received errors per second over one interval (NVSentinel)."""
    ib_rcv_errors_10min: float = 600.0
    """Received errors in 10 minutes (SckyzO's rule: more than 1/s for 10 min)."""

    eth_down_s: float = 25.0
    """A carrier that is away for less was retrained; the same patience as for InfiniBand."""
    eth_losses: int = 3
    eth_losses_window_s: float = 6 * 3600.0
    """Losses of carrier within the window that OCI looks at; one more than Azure's NHC takes, since nothing acts on it.
    Losses in the first `ib_flap_grace_s` after boot do not count (OCI)."""

    clock_offset_s: float = 0.128
    """ntpd steps the clock beyond this (its step threshold, 128 ms)."""
    clock_max_error_s: float = 1.5
    """The clock's own bound; beyond it nobody takes it for a source (RFC 5905, MAXDIST)."""

    disk_used_percent: int = 100
    """NVMe `percentage used`: 100 is the endurance that the vendor rates (NVMe base specification, SMART log)."""
    disk_io_errors: int = 10
    """SCSI `ioerr_cnt` within `sticky_s`: single ones are refused commands."""
    fs_free_share: float = 0.05
    fs_free_inodes_share: float = 0.05
    """Less free than this is nearly full (kubelet evicts below 10 % of bytes, 5 % of inodes)."""
    fs_hysteresis: float = 0.02
    """So much more must be free before it is over."""

    memory_missing_gib: float = 4.0
    """Less than the smallest server DIMM, more than what kernels reserve differently; a quarter on small machines."""
    memory_corrected_day: int = 50
    """Corrected errors of one DIMM in 24 h (rasdaemon's default for a page: 50 in 24 h)."""

    # ── GPUs ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    looks: int = 2
    """Looks in a row that must agree before a noisy value of a GPU is a fault, or is over (own choice)."""
    cooled_c: float = 3.0
    """Degrees below the slowdown temperature at which `gpu-hot` ends (own choice: hysteresis)."""
    slowdown_per_min: float = 0.6
    """Share of `slowdown_window_s` in hardware slowdown (gpud looks once a minute: 0.6 events/min over 10 min)."""
    slowdown_window_s: float = 600.0
    replays_per_min: float = 8.0
    """PCIe replays (DCGM, dcgm_gpu_hardware_limits.h: 8 per minute is the most that is recommended)."""
    replay_window_s: float = 600.0
    nvlink_recoveries: int = 5
    """Replays and recoveries of one link in `nvlink_window_s` (Imbue's host checks: 5 NVLink errors; window: own)."""
    nvlink_window_s: float = 3600.0
    nvlink_crc_per_s: float = 100.0
    """CRC errors of one link (DCGM, the same file: they matter at rates of 100 a second and more)."""
    ecc_corrected: int = 10_000
    """Corrected errors in `ecc_window_s` (what Azure's node health check accepts of SRAM in all; window: own)."""
    ecc_window_s: float = 3600.0
    retired_pages: int = 60
    """Retired pages of a GPU that cannot remap rows (DCGM, the same file)."""
    loaded: float = 0.1
    """Share of time with work from which on a PCIe link must run at its generation (own choice)."""
    capped: float = 0.99
    """Share of the default power limit below which a GPU counts as capped (own choice: rounding)."""
    fabric_grace_s: float = 300.0
    """What a GPU may take to register with its fabric after its first look (own choice: fabric managers start late)."""
