"""`ostler scan` as a user meets it: exit status, table, JSON Lines, pipes, bad input in one line."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

XID = "NVRM: Xid (PCI:0000:3f:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."
PROGRAM = (
    "import typer; from ostler.cli.scan import scan_command; app = typer.Typer(pretty_exceptions_enable=False); "
    "app.callback()(lambda: None); app.command('scan')(scan_command); app()"
)


def scan(*arguments: str | Path, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-c", PROGRAM, "scan", *map(str, arguments)]
    return subprocess.run(command, input=data, capture_output=True, check=False)


def test_nothing_found_exits_0() -> None:
    done = scan(data=b"[1.5] all is well\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"No fault in 1 lines in 1 log.\n", b"")


def test_an_empty_file_exits_0(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert scan(tmp_path / "empty").stdout == b"No fault in 0 lines in 1 log.\n"
    done = scan("--json", tmp_path / "empty")
    assert (done.returncode, done.stdout) == (0, b"")


def test_json_lines_say_all(tmp_path: Path) -> None:
    log = tmp_path / "kern.log"
    log.write_text(f"[0.5] x\n[1.5] {XID}\n")
    done = scan("--json", log, "-", data=f"4,1,2500000,-;{XID}".encode())
    assert done.returncode == 1
    first, second = map(json.loads, done.stdout.splitlines())
    assert first == {
        "file": str(log), "line_no": 2, "time": "1.5", "kind": "xid", "code": "79", "device": "0000:3f:00",
        "component": "gpu", "severity": "fatal", "action": "reboot", "message": XID,
        "meaning": "the GPU no longer answers on the PCIe bus", "workflow": "", "recovery": "", "detail": {},
    }  # fmt: skip
    assert (second["file"], second["time"], second["line_no"]) == ("-", "2.500000", 1)


def test_the_table_folds_repeats_and_says_what_to_do(tmp_path: Path) -> None:
    log = tmp_path / "kern.log.gz"
    log.write_bytes(gzip.compress(f"[1.5] {XID}\n[2.5] {XID}\n[3.5] EXT4-fs error (device sda1): x\n".encode()))
    done = scan(log)
    table = done.stdout.decode()
    assert done.returncode == 1
    rows = [line for line in table.splitlines() if "xid 79" in line]
    assert len(rows) == 1
    assert "0000:3f:00" in rows[0] and "reboot" in rows[0] and "fatal" in rows[0]
    assert table.index("xid 79") < table.index("fs ext4")
    assert (
        "3 faults, 2 different, in 3 lines in 1 log. Recommended, by number of devices: reboot (1), watch (1)." in table
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("/no/such/file",), b"ostler scan: /no/such/file: No such file or directory\n"),
        (("/",), b"ostler scan: /: Is a directory\n"),
        (("\x1b[31m",), b"ostler scan: ?[31m: No such file or directory\n"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line_and_exit_2(arguments: tuple[str, ...], said: bytes) -> None:
    done = scan(*arguments)
    assert (done.returncode, done.stdout, done.stderr) == (2, b"", said)


def test_no_file_is_read_before_all_are_open(tmp_path: Path) -> None:
    log = tmp_path / "kern.log"
    log.write_text(f"[1.5] {XID}\n")
    done = scan("--json", log, tmp_path / "missing")
    assert (done.returncode, done.stdout) == (2, b"")


def test_an_unknown_format_exits_2() -> None:
    done = scan("--format", "klog")
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr


def test_hostile_input_is_a_warning_and_no_traceback() -> None:
    packed = gzip.compress(f"[1.5] {XID}\n".encode() * 5000)
    for data, found, said in (
        (b"\x00\xff\xfe" * 1000 + f"\n[1.5] {XID}\n".encode(), 1, b"not valid UTF-8"),
        (f"[1.5] {XID}".encode() + b"x" * (1 << 20), 1, b"longer than 64 KiB"),
        (packed[:-20], 1, b"gzip data is cut off"),
        (b"\x1f\x8b\x08" + b"\xff" * 100, 0, b"gzip data is corrupt"),
        (b"BZh91AY", 2, b"unpack it first"),  # not looked into: no all-clear
    ):
        done = scan("--json", data=data)
        assert done.returncode == found
        assert said in done.stderr
        assert b"Traceback" not in done.stderr
        assert done.stderr.startswith(b"ostler scan: standard input: warning: ")


def test_control_characters_do_not_reach_the_terminal() -> None:
    done = scan(data=b"[1.5] NVRM: Xid (PCI:0000:3f:00): 79, \x1b]0;owned\x07 [bold]x[/nope]\n")
    assert done.returncode == 1
    assert b"\x1b" not in done.stdout and b"\x07" not in done.stdout
    assert b"[bold]x[/nope]" in done.stdout


def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    log = tmp_path / "kern.log"
    log.write_text(f"[1.5] {XID}\n" * 20_000)
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "scan", "--json", str(log)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        assert running.stdout is not None and running.stderr is not None
        running.stdout.close()
        assert running.stderr.read() == b""
        assert running.wait() == 1


def test_it_starts_without_the_server() -> None:
    code = PROGRAM.replace("app()", "import sys; sys.argv = ['x', 'scan', '/dev/null']; app(standalone_mode=False)") + (
        "; bad = {'sqlalchemy', 'fastapi', 'httpx2', 'torch'} & set(sys.modules); sys.exit(str(bad) if bad else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_pipe_that_stays_open_is_answered_line_by_line() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "scan", "--json"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as running:
        assert running.stdin is not None and running.stdout is not None
        for number in (1, 2):
            running.stdin.write(f"[{number}.5] {XID}\n".encode())
            running.stdin.flush()
            assert json.loads(running.stdout.readline())["line_no"] == number
        running.stdin.close()
        assert running.wait() == 1
