"""The twin's boot loader reads scripts as iPXE does, the server's own among them."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from ostler.core.errors import BadInput
from ostler.provisioning import ipxe as server
from ostler.provisioning.model import Boot, BootAsk, BootDecision, ProvisioningSettings, Served
from ostler.twin import ipxe

SETTINGS = {"net0/mac": "02:00:00:00:00:01", "serial": "S 1/2", "uuid": "abc"}


def run(text: str, network: Mapping[str, str | None], sleeps: int = 3) -> tuple[ipxe.End | None, list[str]]:
    """The end (None: still asking after so many sleeps) and everything that was asked for."""
    script = ipxe.interpret(text, SETTINGS)
    asked: list[str] = []
    answer: str | None = None
    while True:
        try:
            ask = script.send(answer)
        except StopIteration as stop:
            return stop.value, asked
        if isinstance(ask, ipxe.Sleep):
            asked.append(f"sleep {ask.seconds:g}")
            answer = None
            sleeps -= 1
            if not sleeps:
                return None, asked
        else:
            asked.append(ask.url)
            answer = network.get(ask.url)


def served(boot: Boot) -> Served:
    ask = BootAsk("02:00:00:00:00:01", "S1", "abc")
    return Served(BootDecision(boot, "why"), ask, "node_1", "gpu-1", "nonce")


def test_the_servers_first_stage_asks_with_the_machines_identity_quoted() -> None:
    url = "http://b/boot/ipxe?mac=02:00:00:00:00:01&serial=S%201%2F2&uuid=abc"
    end, asked = run(server.first_stage("http://b", 7), {url: "#!ipxe\nexit\n"})
    assert (end, asked) == (ipxe.Local(), [url])


def test_a_server_that_does_not_answer_is_asked_for_ever() -> None:
    end, asked = run(server.first_stage("http://b", 7), {})
    assert end is None
    assert [one for one in asked if one.startswith("sleep")] == ["sleep 7"] * 3


def test_the_servers_image_script_boots_with_its_seed() -> None:
    text = server.script(served(Boot.IMAGE), ProvisioningSettings(), "http://b")
    end, asked = run(text, {"http://b/images/vmlinuz": "", "http://b/images/initrd": ""})
    assert isinstance(end, ipxe.Boot)
    assert (end.kernel, end.initrd) == ("http://b/images/vmlinuz", "http://b/images/initrd")
    assert "ds=nocloud;s=http://b/seed/nonce/" in end.arguments
    assert asked == ["http://b/images/vmlinuz", "http://b/images/initrd"]


def test_without_its_image_the_machine_asks_again_from_the_start() -> None:
    text = server.script(served(Boot.IMAGE), ProvisioningSettings(retry_s=3), "http://b")
    end, asked = run(text, {})
    assert end is None
    assert asked[:3] == [
        "http://b/images/vmlinuz",
        "sleep 3",
        "http://b/boot/ipxe?mac=02:00:00:00:00:01&serial=S1&uuid=abc",
    ]


@pytest.mark.parametrize(("boot", "end"), [(Boot.LOCAL, ipxe.Local()), (Boot.WAIT, None)])
def test_the_servers_other_scripts(boot: Boot, end: ipxe.End | None) -> None:
    assert run(server.script(served(boot), ProvisioningSettings(), "http://b"), {})[0] == end


def test_a_command_that_fails_uncaught_gives_the_machine_to_its_disk() -> None:
    assert run("#!ipxe\nkernel http://b/k\nboot\n", {}) == (ipxe.Local(), ["http://b/k"])
    assert run("#!ipxe\nunheard of\nsleep 1\n", {}) == (ipxe.Local(), [])


def test_options_and_settings() -> None:
    text = "#!ipxe\nset name k1\nkernel --name vmlinuz http://b/${name} a=${nothing}b\nboot || exit\n"
    end, _ = run(text, {"http://b/k1": ""})
    assert end == ipxe.Boot("http://b/k1", "", "a=b")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no iPXE script"),
        ("<html>", "no iPXE script"),
        ("#!ipxe\ngoto nowhere\n", "no label 'nowhere'"),
        ("#!ipxe\n:a\ngoto a\n", "round and round"),
    ],
)
def test_what_is_no_script_is_one_clear_line(text: str, why: str) -> None:
    with pytest.raises(BadInput, match=why) as caught:
        run(text, {})
    assert "\n" not in str(caught.value)
