"""The 20 metrics of a GPU that travel as readings, in their order. Written by the agent's GPU monitor; the server's
`health/fleet_watch.py` says which of them it compares. Raw metrics stay in the user's Prometheus: these are the newest.
"""

from __future__ import annotations

METRICS: tuple[str, ...] = (
    "temperature_c",
    "memory_temperature_c",
    "temperature_margin_c",
    "power_w",
    "power_limit_w",
    "sm_clock_mhz",
    "memory_clock_mhz",
    "utilisation",  # 0–1, of the last sample period
    "memory_utilisation",  # 0–1
    "memory_used",  # 0–1
    "pcie_tx_mb_s",
    "pcie_rx_mb_s",
    "pcie_replays_per_h",
    "nvlink_tx_mb_s",
    "nvlink_rx_mb_s",
    "nvlink_errors_per_h",
    "ecc_corrected_per_h",
    "ecc_uncorrected_per_h",
    "slowdown_share",  # 0–1 of the time in hardware slowdown
    "energy_w",  # mean power from the energy counter
)
"""Names with their units (MB = 10^6 bytes)."""
