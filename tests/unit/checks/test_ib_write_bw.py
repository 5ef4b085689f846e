"""perftest's reports: rates in any unit, from a run that ended well, at the size that was asked for, or no pass."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from ostler.checks import ib_write_bw
from ostler.checks.commands import Ran, run_command
from ostler.checks.model import CheckVerdict
from ostler.core.errors import BadInput

PASSED, FAILED, INCONCLUSIVE = CheckVerdict.PASSED, CheckVerdict.FAILED, CheckVerdict.INCONCLUSIVE
LINE = "-" * 87
HEAD = f"""{LINE}
                    RDMA_Write BW Test
 Dual-port       : OFF\t\tDevice         : mlx5_0
 Number of qps   : 1\t\tTransport type : IB
 Mtu             : 4096[B]
 Link type       : IB
{LINE}
 local address: LID 0x0a QPN 0x0127 PSN 0x9d1b3a RKey 0x1fffbd VAddr 0x007f2c3c600000
 remote address: LID 0x0b QPN 0x0129 PSN 0x2f3c1d RKey 0x1fffbe VAddr 0x007f5a1c600000
{LINE}
"""
GBITS = (
    HEAD
    + f""" #bytes     #iterations    BW peak[Gb/sec]    BW average[Gb/sec]   MsgRate[Mpps]
 1048576    467900           0.00               392.51             0.046791
{LINE}
"""
)
MIBS = GBITS.replace("[Gb/sec]", "[MB/sec]").replace("392.51", "46791.0")
DAMAGED = (
    HEAD
    + " #bytes     #iterations    BW peak[Gb/sec]    BW average[Gb/sec]   MsgRate[Mpps]\n 1048576  467900  0.00  \n"
)


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    for hca, state in (("mlx5_0", "4: ACTIVE"), ("mlx5_1", "1: DOWN")):
        folder = tmp_path / hca / "ports" / "1"
        folder.mkdir(parents=True)
        (folder / "state").write_text(f"{state}\n")
    return tmp_path


CLIENT = {"role": "client", "hca": "mlx5_0", "peer": "10.0.0.2", "min_gbit_s": "380"}


@pytest.mark.parametrize(
    ("ran", "least", "verdict", "says"),
    [
        (Ran(0, GBITS), "380", PASSED, ""),
        (Ran(0, GBITS), "400", FAILED, "392.5 Gbit/s, at least 400"),
        (Ran(0, MIBS), "380", PASSED, ""),
        (Ran(0, HEAD), "380", INCONCLUSIVE, "no report"),
        (Ran(0, DAMAGED), "380", INCONCLUSIVE, "no report"),
        (Ran(0, GBITS.replace("1048576 ", "65536 ")), "380", INCONCLUSIVE, "no report"),
        (Ran(0, GBITS.replace("392.51", "nan")), "380", INCONCLUSIVE, "no report"),
        (Ran(0, GBITS.replace("[Gb/sec]", "[furlongs]")), "380", INCONCLUSIVE, "no report"),
        (Ran(1, GBITS, "Completion with error at client\n"), "380", INCONCLUSIVE, "status 1: Completion with error"),
        (Ran(1, "", "Couldn't connect to 10.0.0.2:18515\n"), "380", INCONCLUSIVE, "Couldn't connect"),
        (Ran(None, GBITS), "380", INCONCLUSIVE, "not done in time"),
    ],
)
def test_a_report_is_read_honestly(ran: Ran, least: str, verdict: CheckVerdict, says: str, sysfs: Path) -> None:
    result = ib_write_bw.run({**CLIENT, "min_gbit_s": least}, 60.0, lambda argv, seconds: ran, sysfs)
    assert (result.verdict, says in result.message) == (verdict, True), result.message


def test_units_are_those_of_the_header() -> None:
    assert ib_write_bw.average_gbit_s(GBITS, 1 << 20) == 392.51
    assert ib_write_bw.average_gbit_s(MIBS, 1 << 20) == pytest.approx(46791 * 1048576 * 8 / 1e9)


def test_the_command_is_a_list_of_words(sysfs: Path) -> None:
    seen: list[Sequence[str]] = []

    def command(argv: Sequence[str], seconds: float) -> Ran:
        seen.append([*argv, f"{seconds:g}"])
        return Ran(0, GBITS)

    ib_write_bw.run({**CLIENT, "seconds": "5", "cuda": "3"}, 60.0, command, sysfs)
    ib_write_bw.run({"role": "server", "hca": "mlx5_0"}, 60.0, command, sysfs)
    common = "ib_write_bw -d mlx5_0 -i 1 -p 18515 -s 1048576 -D"
    assert " ".join(seen[0]) == f"{common} 5 -F --report_gbits --use_cuda=3 10.0.0.2 25"
    assert " ".join(seen[1]) == f"{common} 10 -F --report_gbits 60"


def test_a_server_that_saw_no_report_has_not_measured(sysfs: Path) -> None:
    result = ib_write_bw.run({"role": "server", "hca": "mlx5_0"}, 60.0, lambda argv, seconds: Ran(0, HEAD), sysfs)
    assert (result.verdict, "the client measures" in result.message) == (INCONCLUSIVE, True)


def test_a_port_that_is_down_is_a_failure_and_one_that_is_not_here_is_none(sysfs: Path) -> None:
    down = ib_write_bw.run({**CLIENT, "hca": "mlx5_1"}, 60.0, lambda argv, seconds: Ran(0, GBITS), sysfs)
    assert (down.verdict, down.message) == (FAILED, "mlx5_1 port 1 is DOWN, not ACTIVE")
    assert ib_write_bw.run({**CLIENT, "hca": "mlx5_7"}, 60.0, run_command, sysfs).verdict is INCONCLUSIVE


def test_a_tool_that_is_missing_is_inconclusive(sysfs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(sysfs))
    result = ib_write_bw.run(CLIENT, 60.0, sysfs=sysfs)
    assert (result.verdict, "not installed" in result.message) == (INCONCLUSIVE, True)


def test_a_real_command_that_hangs_is_ended() -> None:
    ran = run_command(("sleep", "1000"), 0.2)
    assert ran.status is None
    failed = run_command(("sh", "-c", "echo out; echo 'bad\x1b thing' >&2; exit 3"), 30.0)
    assert (failed.status, failed.last_words) == (3, "bad  thing")
    assert Ran(1, "x\n----\n").last_words == "x"


@pytest.mark.parametrize(
    "change", [{"role": "both"}, {"hca": "../x"}, {"peer": "-rf"}, {"peer": ""}, {"seconds": "1"}, {"ib_port": "0"}]
)
def test_bad_arguments_are_refused(change: dict[str, str], sysfs: Path) -> None:
    with pytest.raises(BadInput, match=next(iter(change))):
        ib_write_bw.run({**CLIENT, **change}, 60.0, run_command, sysfs)
