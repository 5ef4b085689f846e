"""The configuration: every mistake names file, line and key; the environment overrides; no secret is ever shown."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostler.config import Config, load
from ostler.core.errors import BadInput
from ostler.nodes.model import OBSERVE_ONLY, Capability

SECRET = "hunter2-correct-horse"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "ostler.toml"


def refusal(file: Path, text: str | bytes, **environment: str) -> str:
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(BadInput) as caught:
        load(file, environment)
    said = str(caught.value)
    assert "\n" not in said
    return said.replace(str(file), "FILE")


def test_nothing_said_is_all_defaults(file: Path) -> None:
    file.write_text("")
    assert load(None, {}) == load(file, {}) == Config()
    assert load(None, {}).server.listen == "127.0.0.1:8470"
    (pool,) = load(None, {}).pool_list()
    assert (pool.name, pool.capabilities, pool.cluster) == ("default", OBSERVE_ONLY, "none")


def test_what_is_said_is_taken(file: Path) -> None:
    file.write_text(
        '[server]\nlisten = "0.0.0.0:80"\nnames = ["a", "b"]\n[remediation]\nsettle_s = 5\n'
        '[pools.train]\ncapabilities = ["reboot"]\nauto_certify = true\n'
    )
    config = load(file, {})
    assert (config.server.listen, config.server.names) == ("0.0.0.0:80", ("a", "b"))
    assert config.remediation.settle_s == 5.0 and isinstance(config.remediation.settle_s, float)
    assert {pool.name: pool.capabilities for pool in config.pool_list()} == {
        "default": OBSERVE_ONLY,
        "train": frozenset({Capability.OBSERVE, Capability.REBOOT}),
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[server\n", "FILE: This is no TOML:"),
        ("a = 1\n[server]\nb =\n", "line 3"),
        ("[server]\n\nlisen = 'x'\n", "FILE:3 [server] lisen: Unknown key; known are data_dir, listen"),
        ("[health]\n[sever]\n", "FILE:2 [sever]: Unknown section; known are [server]"),
        ("listen = 'x'\n", "FILE:1 [listen]: Unknown section"),
        ("server = 'x'\n", "FILE:1 [server]: A section [server] is expected"),
        ("[server]\nlisten = 8470\n", "FILE:2 [server] listen: text is expected, not a whole number"),
        ("[server]\nnames = 'a'\n", "FILE:2 [server] names: A list is expected, not text"),
        ("[server]\nnames = ['a', 1]\n", "FILE:2 [server] names: text is expected, not a whole number"),
        ("[console]\nopen = 'yes'\n", "FILE:2 [console] open: true or false is expected, not text"),
        ("[console]\nopen = 1\n", "true or false is expected"),
        ("[health]\n# silence\nsilent_after_s = '2m'\n", "FILE:3 [health] silent_after_s: a number is expected"),
        ("[health]\nstorm_nodes = 2.5\n", "FILE:2 [health] storm_nodes: a whole number is expected, not a number"),
        ("[health]\nwindow_s = true\n", "FILE:2 [health] window_s: a number is expected, not true or false"),
        ("[health]\nwindow_s = -1\n", "FILE:2 [health] window_s: A number of 0 or more"),
        ("[health]\nwindow_s = nan\n", "FILE:2 [health] window_s: A number of 0 or more"),
        ("[health]\nwindow_s = inf\n", "FILE:2 [health] window_s: A number of 0 or more"),
        ("[health]\nsilent_share = 5\n", "FILE:2 [health] silent_share: A share of at most 1"),
        ("[health]\nwindow_s = 1\nheartbeat_s = 0\n", "FILE:3 [health] heartbeat_s: heartbeat_s is at least 0.1 s"),
        ("[pools.h100]\ncapabilties = []\n", "FILE:2 [pools.h100] capabilties: Unknown key"),
        ("[pools.h100]\ncapabilities = ['fly']\n", "FILE:2 [pools.h100] capabilities: 'fly' is not a valid Capability"),
        ("[pools]\nh100 = {cluster = 5}\n", "FILE:2 [pools.h100] cluster: text is expected"),
        ("[pools]\nh100 = 5\n", "FILE:2 [pools.h100]: A section [pools.h100] is expected"),
        ("[clusters.a]\nkind = []\n", "FILE:2 [clusters.a] kind: text is expected, not a list"),
        ("[server.deep]\nx = 1\n", "FILE:1 [server] deep: Unknown key"),
        ("[health]\nsettle_s = 1\n[remediation]\nsettle_s = 1\n", "FILE:2 [health] settle_s: Unknown key"),
        (b"\xff\xfe", "FILE: The configuration is not UTF-8 text."),
        ("a = " + "[" * 5000, "FILE: This is"),
    ],
)
def test_a_mistake_names_file_line_and_key(file: Path, text: str | bytes, says: str) -> None:
    assert says in refusal(file, text)


def test_a_file_that_is_not_there_or_no_file(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.toml", tmp_path):
        with pytest.raises(BadInput, match="cannot be read"):
            load(path, {})


def test_the_environment_overrides(file: Path) -> None:
    file.write_text("[server]\nlisten = 'a:1'\n[health]\nwindow_s = 1\n")
    config = load(
        file,
        {
            "OSTLER_SERVER__LISTEN": "b:2",
            "OSTLER_SERVER__DATA_DIR": "7",
            "OSTLER_HEALTH__WINDOW_S": "2",
            "OSTLER_CONSOLE__OPEN": "true",
            "OSTLER_POOLS__TRAIN__CAPABILITIES": '["reboot"]',
            "OSTLER_BMC__USERNAME": '"quoted"',
            "OSTLER_ADMIN_TOKEN": SECRET,
            "PATH": "/bin",
        },
    )
    assert (config.server.listen, config.server.data_dir, config.bmc.username) == ("b:2", "7", "quoted")
    assert (config.health.window_s, config.console.open) == (2.0, True)
    assert config.pools["train"].capabilities == ("reboot",)


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("OSTLER_HEALTH__WINDOW_S", "soon", "OSTLER_HEALTH__WINDOW_S: a number is expected, not text"),
        ("OSTLER_HEALTH__WIDNOW_S", "1", "OSTLER_HEALTH__WIDNOW_S: Unknown key"),
        ("OSTLER_HEALHT__WINDOW_S", "1", "OSTLER_HEALHT__WINDOW_S: Unknown section"),
        ("OSTLER_POOLS__H100", "1", "OSTLER_POOLS__H100: A section [pools.h100] is expected"),
        ("OSTLER_SERVER__LISTEN__DEEP", "1", "'listen' is no section of the configuration"),
    ],
)
def test_a_mistake_in_the_environment_names_the_variable(file: Path, variable: str, value: str, says: str) -> None:
    assert says in refusal(file, "[health]\nwindow_s = 1\n[server]\nlisten = 'x:1'\n", **{variable: value})


@pytest.mark.parametrize(
    "text",
    [
        f"[bmc]\npassword = ['{SECRET}']\n",
        f"[bmc]\npassword = {{is = '{SECRET}'}}\n",
        f"[bmc]\npasword = '{SECRET}'\n",
        f"[console]\nopen = '{SECRET}'\n",
        f"bmc = '{SECRET}'\n",
        f"[bmc\npassword = '{SECRET}'\n",
        f"[bmc]\npassword = '{SECRET}\n",
    ],
)
def test_a_secret_in_the_wrong_place_is_not_repeated(file: Path, text: str) -> None:
    assert SECRET not in refusal(file, text)
    assert SECRET not in refusal(file, "", OSTLER_CONSOLE__OPEN=SECRET)
    assert SECRET not in refusal(file, "", OSTLER_BMC=SECRET, OSTLER_BMC__PASWORD=SECRET)


@given(st.text(max_size=200))
def test_any_text_is_a_configuration_or_bad_input(text: str) -> None:
    with contextlib.suppress(BadInput):
        load(None, {"OSTLER_SERVER__LISTEN": text, "OSTLER_HEALTH__WINDOW_S": text})
