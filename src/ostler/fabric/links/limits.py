"""When a link is ill: every number with its unit and its source. Called by the rules, and by `settings.py`, which lets
a fabric's configuration change any of them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Limits:
    """The limits of one fabric. A link at a limit is well; one beyond it is ill."""

    confidence: float = 0.95
    """Share. A count convicts only if the one-sided Poisson lower bound of its mean at this confidence is beyond what
    the limit allows in the same time. Ours."""
    symbol_errors_least: int = 3
    """Errors. Fewer never convict, however short the window: UFM's smallest limit (2.88) asks for as many."""
    ndr_burst_errors: float = 2.88
    """Errors after FEC in `ndr_burst_s` at 400 Gb/s: 1e-14 of the bits. UFM 6.15 PDR deterministic plugin."""
    ndr_burst_s: float = 720.0
    """Seconds (12 min). UFM PDR deterministic plugin."""
    ndr_lasting_errors: float = 3.0
    """Errors after FEC in `ndr_lasting_s` at 400 Gb/s: 1e-15 of the bits. UFM PDR deterministic plugin."""
    ndr_lasting_s: float = 7_500.0
    """Seconds (125 min). UFM PDR deterministic plugin."""
    clean_after_s: float = 7_560.0
    """Seconds (126 min) without one symbol error after which a convicted NDR link is clean again, and of quiet counters
    after which the cause of any ill link is over. UFM PDR plugin."""
    ibta_errors_per_hour: float = 120.0
    """Symbol errors per hour before NDR (1e-12 of the bits). IBTA, as Oracle and NVSentinel (fatal) have it."""

    raw_ber: float = 1e-5
    """Share of bits before FEC. NVIDIA field script (HyungKwang check_ib_link_errors)."""
    effective_ber: float = 1e-13
    """Share of bits after FEC. Same."""
    symbol_ber: float = 1e-13
    """Share. Same."""
    lane_ber_ratio: float = 10.0
    """Times: one lane's raw BER against the next worst. NVIDIA CVT 1.9.1 hierarchical anomalies."""
    lane_ber_floor: float = 1e-9
    """Share: below it lanes are not compared, a handful of errors makes any ratio. Ours."""
    rx_spread_db: float = 2.0
    """dB between the strongest and the weakest lane. CVT 1.9.1."""
    rx_margin_db: float = 1.0
    """dB inside the EEPROM's alarm limits at which received power is noted. sichek."""
    tx_well_dbm: float = -3.0
    """dBm on every lane at which a sender is well, so that the fibre is suspected first. Ours: 5 dB over the low alarm
    (-8.5 dBm) of the NDR modules whose EEPROMs have been published."""
    temperature_c: float = 70.0
    """Degrees Celsius of a module. UFM PDR deterministic plugin; sichek takes 65 and 75."""
    temperature_rise_c: float = 10.0
    """Degrees within `temperature_rise_s`. UFM PDR deterministic plugin."""
    temperature_rise_s: float = 300.0
    """Seconds. UFM PDR deterministic plugin."""

    recoveries_per_minute: float = 5.0
    """Link error recoveries. NVSentinel."""
    rcv_errors_per_s: float = 1.0
    """Packets received with errors, noted beyond. SckyzO infiniband_exporter rules (over 10 min)."""
    rcv_errors_severe_per_s: float = 10.0
    """Severe beyond. NVSentinel."""
    discards_per_s: float = 100.0
    """Packets that a port threw away because its link was down or congested. NVSentinel."""
    rate_window_s: float = 60.0
    """Seconds: rates per second and minute are not taken over less. Ours."""

    window_s: float = 43_200.0
    """Seconds (12 h) in which downs are added up. gpud."""
    flap_downs: int = 3
    """Downs in the window that make a flapping link. gpud."""
    flap_down_s: float = 25.0
    """Seconds that each of them lasted, to be severe. gpud."""
    burst_downs: float = 3.0
    """Downs per hour, however short, that are severe too. NVSentinel: 3 degradations of a port in 1 h."""
    drop_s: float = 240.0
    """Seconds (4 min) without its link. gpud."""
    restart_s: float = 600.0
    """Seconds: a down this near to a restart of either end's host or switch is no fault. UFM netfix."""
    restart_downs: int = 5
    """Downs that one restart explains: firmware, boot loader and driver each train the link anew. More are faults.
    Ours."""

    def __post_init__(self) -> None:
        for one in fields(self):
            if one.name != "tx_well_dbm" and not 0 < getattr(self, one.name) < float("inf"):
                raise ValueError(f"{one.name} must be a number above 0.")
        if self.confidence >= 1:
            raise ValueError("confidence must be below 1.")
