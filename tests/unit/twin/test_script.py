"""Fault scripts: every key, and every mistake as one line with its line number."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostler.core.errors import BadInput
from ostler.twin import script
from ostler.twin.script import Start, parse, read, resolve

TOML = """
start = "production"

[[strike]]
at = 600
node = "gpu-0002"
workload = false

[[strike]]
at = 60
node = "rack:twin/a/r01"
kernel = ["NVRM: Xid (PCI:0000:18:00): 79, GPU has fallen off the bus."]
every_boot = 30
note = "a GPU is gone"

[[strike]]
at = 1
node = "*"
sensor = {id = "TEMP_INLET", reading = 44.5, health = "Critical"}
"""


def test_toml_in_the_order_of_time() -> None:
    said = parse(TOML, "s.toml", json_lines=False)
    assert said.start is Start.PRODUCTION
    assert [(one.at, one.deed, one.line) for one in said.strikes] == [
        (1.0, "sensor", 16),
        (60.0, "kernel", 9),
        (600.0, "workload", 4),
    ]
    assert said.strikes[1].every_boot == 30.0
    assert said.strikes[0].value == {"id": "TEMP_INLET", "reading": 44.5, "health": "Critical"}


def test_json_lines_with_and_without_a_start() -> None:
    rows = '{"start": "production"}\n\n{"at": 5, "node": "a", "silence": 30}\n'
    assert parse(rows, "s", json_lines=True).start is Start.PRODUCTION
    plain = parse('{"at": 5, "node": "a", "fail_check": ["cpu-arith", "reset-gpu"]}', "s", json_lines=True)
    assert plain.start is Start.FLEET
    assert plain.strikes[0].value == ("cpu-arith", "reset-gpu")


def test_what_monitors_find() -> None:
    rows = [
        '{"at": 1, "node": "a", "standing": [{"fault": "ib-port-down", "device": "mlx5_0/1", "message": "down"}]}',
        '{"at": 2, "node": "a", "standing": []}',
        '{"at": 3, "node": "a", "monitor_dead": "gpu"}',
        '{"at": 4, "node": "a", "readings": {"0000:18:00.0": {"sm_clock_mhz": 1230}}}',
        '{"at": 5, "node": "a", "kernel": ["x"], "every_repair": 60}',
    ]
    port, none, dead, slow, again = parse("\n".join(rows), "s", json_lines=True).strikes
    (found,) = port.value
    assert (found.kind.value, found.code, found.device, found.message) == ("ib", "port-down", "mlx5_0/1", "down")
    assert none.value == () and dead.value == "gpu" and slow.value == {"0000:18:00.0": {"sm_clock_mhz": 1230.0}}
    assert (again.every_repair, again.every_boot) == (60.0, None)


@pytest.mark.parametrize(
    ("row", "where", "why"),
    [
        ("nonsense", "s:2", "no JSON object"),
        ("[1]", "s:2", "no JSON object"),
        ('{"node": "a", "silence": 1}', "s:2 at", "number"),
        ('{"at": true, "node": "a", "silence": 1}', "s:2 at", "number"),
        ('{"at": -1, "node": "a", "silence": 1}', "s:2 at", "at least 0"),
        ('{"at": 1, "silence": 1}', "s:2 node", "name"),
        ('{"at": 1, "node": "a"}', "s:2", "exactly one"),
        ('{"at": 1, "node": "a", "silence": 1, "power": "on"}', "s:2", "exactly one"),
        ('{"at": 1, "node": "a", "bang": 1}', "s:2", "'bang'"),
        ('{"at": 1, "node": "a", "kernel": [1]}', "s:2 kernel", "list of texts"),
        ('{"at": 1, "node": "a", "kernel": []}', "s:2 kernel", "1 to 1000"),
        ('{"at": 1, "node": "a", "kernel": ["a\\nb"]}', "s:2 kernel", "lines"),
        ('{"at": 1, "node": "a", "silence": 1, "every_boot": 3}', "s:2 every_boot", "kernel only"),
        ('{"at": 1, "node": "a", "workload": "yes"}', "s:2 workload", "true or false"),
        ('{"at": 1, "node": "a", "fail_check": ["bogus"]}', "s:2 fail_check", "'bogus' is none of"),
        ('{"at": 1, "node": "a", "power": "explode"}', "s:2 power", "one of on"),
        ('{"at": 1, "node": "a", "sensor": {"reading": 1}}', "s:2 sensor", "table"),
        ('{"at": 1, "node": "a", "leak": {"id": "x", "state": "wet"}}', "s:2 leak.state", "one of OK"),
        ('{"at": 1, "node": "a", "note": 3, "silence": 1}', "s:2 note", "text"),
        ('{"at": 1, "node": "a", "swap_plugs": ["mlx5_0"]}', "s:2 swap_plugs", "two different HCAs"),
        ('{"at": 1, "node": "a", "swap_plugs": ["mlx5_0", "mlx5_0"]}', "s:2 swap_plugs", "two different HCAs"),
        ('{"at": 1, "node": "a", "swap_plugs": ["mlx5_0", "mlx5_8"]}', "s:2 swap_plugs", "two different HCAs"),
        ('{"at": 1, "node": "a", "silence": 1, "every_repair": 3}', "s:2 every_repair", "kernel only"),
        ('{"at": 1, "node": "a", "kernel": ["x"], "every_boot": 1, "every_repair": 3}', "s:2 every_boot", "leave out"),
        ('{"at": 1, "node": "a", "standing": {"fault": "gpu-hot"}}', "s:2 standing", "a list"),
        ('{"at": 1, "node": "a", "standing": [{"fault": "gpu-hot", "device": 1}]}', "s:2 standing", "text"),
        ('{"at": 1, "node": "a", "standing": [{"fault": "gpu-hot", "bang": "x"}]}', "s:2 standing", "device"),
        ('{"at": 1, "node": "a", "standing": [{"device": "x"}]}', "s:2 standing.fault", "'' is no fault"),
        ('{"at": 1, "node": "a", "standing": [{"fault": "bmc-leak"}]}', "s:2 standing.fault", "'bmc-leak' is no fault"),
        ('{"at": 1, "node": "a", "standing": [{"fault": "gpu-slower-than-peers"}]}', "s:2 standing.fault", "no fault"),
        ('{"at": 1, "node": "a", "monitor_dead": "gpus"}', "s:2 monitor_dead", "one of"),
        ('{"at": 1, "node": "a", "readings": {"x": 3}}', "s:2 readings", "table"),
        ('{"at": 1, "node": "a", "readings": {"x": {"speed": 3}}}', "s:2 readings.x", "'speed' is none of"),
        ('{"at": 1, "node": "a", "readings": {"x": {"power_w": "3"}}}', "s:2 readings.x.power_w", "number"),
        ('{"at": 1, "node": "a", "driver": "new"}', "s:2 driver", "version"),
        ('{"at": 1, "node": "a", "log": {"id": "x"}}', "s:2 log.message", "text"),
        ('{"at": 1, "node": "a", "log": {"id": "x", "message": "m", "severity": "bad"}}', "s:2 log.severity", "one of"),
    ],
)
def test_each_mistake_is_one_line_with_its_place(row: str, where: str, why: str) -> None:
    with pytest.raises(BadInput, match=why) as caught:
        parse(f'{{"at": 0, "node": "a", "silence": 1}}\n{row}\n', "s", json_lines=True)
    assert caught.value.where == where
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("start = 1\nstart 2\n", "s:2"),
        ("a = 1\n", "s"),
        ("strike = 3\n", "s"),
        ('start = "tomorrow"\n', "s start"),
        ('[[strike]]\nat = 1\nnode = "a"\nsilence = 1\n\n[[strike]]\nat = 1\nnode = "a"\nboom = 1\n', "s:6"),
    ],
)
def test_bad_toml_names_its_line(text: str, where: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse(text, "s", json_lines=False)
    assert caught.value.where == where


@given(st.text(max_size=200), st.booleans())
def test_any_text_is_a_script_or_one_line_about_it(text: str, json_lines: bool) -> None:
    try:
        parse(text, "s", json_lines=json_lines)
    except BadInput as error:
        assert "\n" not in error.where


def test_files(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text(TOML)
    assert len(read(file).strikes) == 3
    file.write_bytes(b'start = "fleet"\n\xff\xfe')
    with pytest.raises(BadInput, match=r"s\.toml:2: this is not UTF-8"):
        read(file)
    with pytest.raises(BadInput, match="cannot be read"):
        read(tmp_path / "absent.toml")


def test_who_is_meant() -> None:
    names = ["a", "b", "c"]
    racks = {"r1": ["a", "b"], "r2": ["c"]}
    assert resolve("b", names, racks) == ["b"]
    assert resolve("rack:r1", names, racks) == ["a", "b"]
    assert resolve("*", names, racks) == names
    for wrong in ("d", "rack:r3"):
        with pytest.raises(BadInput, match="there is no"):
            resolve(wrong, names, racks)


def test_the_table_in_the_docstring_names_every_key() -> None:
    assert script.__doc__ is not None
    for key in ("at", "node", "every_boot", "every_repair", "note", *script.DEEDS):
        assert f"| {key} |" in script.__doc__
