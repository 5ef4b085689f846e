"""The scripts and documents that machines are given: what they hold, and what is refused before it is served."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
import yaml

from ostler.core.errors import BadInput
from ostler.provisioning import cloud_init, ipxe, tokens
from ostler.provisioning.model import (
    Boot,
    BootAsk,
    BootDecision,
    ProvisioningSettings,
    SeedFacts,
    Served,
    Trust,
)
from ostler.wire.boot import Seed
from ostler.wire.decode import decode

URL = "http://10.0.0.1:8471"
SETTINGS = ProvisioningSettings(
    server_url="https://ostler.example:8472",
    kubernetes_api="10.0.0.9:6443",
    kubernetes_ca_hash="sha256:" + "ab" * 32,
)
TRUST = Trust("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "cd" * 32, b"k" * 32)
FACTS = SeedFacts("node_a", "gpu-0001", "02:00:00:00:00:01", {}, "nonce-1", "token-1")
ASK = BootAsk("02:00:00:00:00:01", "SN 1", "4c4c4544-0042-3110-8052-b4c04f563933")
SERVED = Served(BootDecision(Boot.IMAGE, "granted"), ASK, "node_a", "gpu-0001", "nonce-1")


# Scripts --------------------------------------------------------------------------------------------------------------


def scripts() -> list[str]:
    wait = replace(SERVED, decision=BootDecision(Boot.WAIT, "held"))
    return [
        ipxe.first_stage(URL, 10),
        ipxe.script(SERVED, SETTINGS, URL),
        ipxe.script(wait, SETTINGS, URL),
        ipxe.script(replace(wait, ask=BootAsk("")), SETTINGS, URL),
    ]


@pytest.mark.parametrize("script", scripts(), ids=["first-stage", "image", "wait", "wait-for-nobody"])
def test_no_script_ever_ends(script: str) -> None:
    """Whatever fails, control reaches a sleep and another try: every line that may fail names where it goes then."""
    lines = script.splitlines()
    assert lines[0] == "#!ipxe"
    labels = {line[1:] for line in lines if line.startswith(":")}
    jumps = re.findall(r"goto (\w+)", script)
    assert set(jumps) <= labels
    for line in lines:
        if line.startswith(("kernel", "initrd", "boot", "chain")):
            assert "|| goto" in line, line
    assert any(line.startswith("sleep") for line in lines)
    assert lines[-1].startswith("goto") or "|| goto" in lines[-1]


def test_the_image_script_names_kernel_seed_and_the_way_back() -> None:
    script = ipxe.script(SERVED, SETTINGS, URL)
    assert f"kernel --name vmlinuz {URL}/images/vmlinuz initrd=initrd ds=nocloud;s={URL}/seed/nonce-1/ " in script
    assert f"{URL}/boot/ipxe?mac=02:00:00:00:00:01&serial=SN%201&uuid=" in script


def test_a_hostile_reason_cannot_break_out_of_its_line() -> None:
    text = "x\nshell\r\nboot http://evil || exit ${net0/mac} é"
    script = ipxe.wait(text, f"{URL}/boot/ipxe", 10)
    assert sum(line.startswith(("shell", "boot")) for line in script.splitlines()) == 0
    assert "${net0" not in script
    assert "|| exit" not in script
    assert script.isascii()


@pytest.mark.parametrize(
    "url", ["", "ftp://x", "http://", "http://a b", "http://a\nboot", "http://a?x=1", "http://${x}"]
)
def test_a_base_url_that_could_break_out_is_refused(url: str) -> None:
    with pytest.raises(BadInput):
        ipxe.base_url(url, "here")


# NoCloud --------------------------------------------------------------------------------------------------------------


def test_user_data_holds_the_agents_seed_and_the_cluster() -> None:
    documents = cloud_init.render(FACTS, SETTINGS, TRUST)
    assert documents.user_data.startswith("#cloud-config\n")
    user_data = yaml.safe_load(documents.user_data)
    files = {file["path"]: file for file in user_data["write_files"]}
    seed = files[cloud_init.SEED_PATH]
    assert seed["permissions"] == "0600"
    assert decode(Seed, seed["content"].encode()) == Seed(
        "https://ostler.example:8472", "token-1", "nonce-1", "cd" * 32, TRUST.ca_pem, "02:00:00:00:00:01"
    )
    assert json.loads(files[cloud_init.KUBERNETES_PATH]["content"]) == {
        "apiserver": "10.0.0.9:6443",
        "ca_cert_hash": "sha256:" + "ab" * 32,
    }
    assert user_data["hostname"] == "gpu-0001"
    assert decode(Seed, documents.seed.encode()).token == "token-1"


def test_every_boot_is_an_instance_of_its_own() -> None:
    """cloud-init runs its per-instance parts only when the instance-id changes."""
    one = yaml.safe_load(cloud_init.render(FACTS, SETTINGS, TRUST).meta_data)["instance-id"]
    two = yaml.safe_load(cloud_init.render(replace(FACTS, nonce="n2"), SETTINGS, TRUST).meta_data)["instance-id"]
    assert one != two


def test_a_node_without_a_slot_asks_dhcp_on_the_interface_that_booted() -> None:
    network = yaml.safe_load(cloud_init.render(FACTS, SETTINGS, TRUST).network_config)
    assert network == {
        "version": 2,
        "ethernets": {"boot": {"match": {"macaddress": "02:00:00:00:00:01"}, "dhcp4": True}},
    }


RAILS: dict[str, Any] = {
    "ethernets": {
        "rail0": {"match": {"macaddress": "02:00:00:00:00:01"}, "mtu": 9000, "addresses": ["10.1.0.5/24"]},
        "rail1": {"match": {"macaddress": "02:00:00:00:00:02"}, "mtu": 9000},
    },
    "bonds": {
        "bond0": {
            "interfaces": ["rail0", "rail1"],
            "parameters": {"mode": "802.3ad"},
            "routes": [{"to": "default", "via": "10.1.0.1"}],
            "nameservers": {"addresses": ["10.1.0.2"]},
        }
    },
    "vlans": {"storage": {"id": 7, "link": "bond0", "addresses": ["fd00::5/64"]}},
}


def test_a_slots_network_is_served_as_it_is() -> None:
    network = yaml.safe_load(cloud_init.render(replace(FACTS, network=RAILS), SETTINGS, TRUST).network_config)
    assert network == {**RAILS, "version": 2}


def changed(path: str, value: Any) -> dict[str, Any]:
    network: dict[str, Any] = json.loads(json.dumps(RAILS))
    *parents, last = path.split(".")
    table = network
    for part in parents:
        table = table[part]
    table[last] = value
    return network


@pytest.mark.parametrize(
    ("network", "says"),
    [
        (changed("version", 1), "version: must be 2"),
        (changed("ethernet", {}), "'ethernet' is not one of"),
        (changed("ethernets.rail0.mtu", "9000"), "rail0.mtu: must be a whole number"),
        (changed("ethernets.rail0.mtu", 90000), "rail0.mtu"),
        (changed("ethernets.rail0.addresses", ["10.1.0.5"]), "addresses[0]: must be ADDRESS/PREFIX"),
        (changed("ethernets.rail0.addresses", "10.1.0.5/24"), "addresses: must be a list"),
        (changed("ethernets.rail0.dhcp4", "yes"), "dhcp4: must be true or false"),
        (changed("ethernets.rail0.address", []), "'address' is not one of"),
        (changed("bonds.bond0.interfaces", ["rail0", "rail9"]), "'rail9' is not configured here"),
        (changed("bonds.bond0.routes", [{"to": "default", "via": "gw"}]), "routes[0].via: must be an address"),
        (changed("bonds.bond0.routes", [{"to": "somewhere", "via": "10.1.0.1"}]), "routes[0].to"),
        (changed("bonds.bond0.nameservers", {"addresses": ["dns"]}), "nameservers.addresses[0]"),
        (changed("vlans.storage.link", "bond9"), "vlans.storage.link"),
        (changed("bonds.a-name-that-is-too-long", {"interfaces": []}), "no interface name"),
        (changed("bonds.rail0", {"interfaces": []}), "is named twice"),
        (changed("ethernets", []), "ethernets: must be a mapping"),
        ({"ethernets": {}}, "without a network"),
    ],
)
def test_a_network_that_cloud_init_would_not_take_is_refused(network: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput, match=re.escape(says)):
        cloud_init.render(replace(FACTS, network=network), SETTINGS, TRUST)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("hostname: a\n", "first line"),
        ("#cloud-config \nhostname: a\n", "first line"),
        ("#cloud-config\nhostname: [a\n", "no YAML at line"),
        ("#cloud-config\n- a\n", "must be a mapping"),
        ("#cloud-config\nhostnam: a\n", "'hostnam' is not one of"),
        ("#cloud-config\nhostname: a_b\n", "host name"),
        ("#cloud-config\nwrite_files: {}\n", "must be a list"),
        ("#cloud-config\nwrite_files: [{path: etc/a, content: x}]\n", "absolute path"),
        ("#cloud-config\nwrite_files: [{path: /a, content: 5}]\n", "content: must be text"),
        ("#cloud-config\nwrite_files: [{path: /a, content: x, permissions: 600}]\n", "octal"),
        ("#cloud-config\nwrite_files: [{path: /a, content: x, mode: '0600'}]\n", "'mode' is not one of"),
        ("#cloud-config\nruncmd: [[1]]\n", "runcmd[0]"),
    ],
)
def test_user_data_that_cloud_init_would_not_take_is_refused(text: str, says: str) -> None:
    with pytest.raises(BadInput, match=re.escape(says)):
        cloud_init.check_user_data(text)


@pytest.mark.parametrize("name", ["gpu_1", "", "-a", "a" * 64, "a\nb"])
def test_a_name_that_is_no_host_name_is_refused(name: str) -> None:
    with pytest.raises(BadInput):
        cloud_init.render(replace(FACTS, node_name=name), SETTINGS, TRUST)


def test_no_seed_without_the_agents_url() -> None:
    with pytest.raises(BadInput, match="server_url"):
        cloud_init.render(FACTS, ProvisioningSettings(), TRUST)


def test_what_people_are_shown_has_no_token() -> None:
    shown = cloud_init.render(cloud_init.redacted(FACTS), SETTINGS, TRUST)
    assert "token-1" not in shown.user_data + shown.seed
    assert cloud_init.REDACTED in shown.user_data


# Tokens ---------------------------------------------------------------------------------------------------------------


def test_a_token_is_bound_to_all_it_is_derived_from() -> None:
    base = {"nonce": "n", "mac": "m", "serial": "s"}
    made = {tokens.derive(b"k" * 32, **base), tokens.derive(b"l" * 32, **base)}
    made |= {tokens.derive(b"k" * 32, **{**base, key: "x"}) for key in base}
    assert len(made) == 5
    assert tokens.derive(b"k" * 32, **base) in made, "and asked again it is the same"
    with pytest.raises(BadInput):
        tokens.derive(b"short", **base)


@pytest.mark.parametrize("settings", [{"server_url": "http://x"}, {"datasource": "ec2"}, {"retry_s": 0}])
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        ProvisioningSettings(**settings)
