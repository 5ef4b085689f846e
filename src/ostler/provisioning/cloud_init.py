"""The four NoCloud documents of a node: rendered from its seed, and validated before anybody is served. Pure.

Called by `service.py` for `GET /seed/…` and for `ostler provision render`. cloud-init reports a bad document on a
console that nobody watches; so a document that it would not take is an error here, with the key that is wrong. The keys
are the small set that Ostler writes, from cloud-init's reference (cloudinit.readthedocs.io: "Cloud config examples",
"Networking config Version 2"), not all that cloud-init knows.

`ds=nocloud` asks for `network-config` first and, at a 404, tries eleven times: all four are always there.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import yaml

from ostler.core.errors import BadInput
from ostler.provisioning.model import ProvisioningSettings, SeedFacts, Trust
from ostler.wire.boot import Seed
from ostler.wire.decode import encode

SEED_PATH = "/etc/ostler/seed.json"
"""Where the node's agent finds its seed: `wire.boot.Seed` as JSON, readable by root only."""

KUBERNETES_PATH = "/etc/ostler/kubernetes.json"
"""`{apiserver, ca_cert_hash}`: what `kubeadm join` needs besides a token."""

AGENT_UNIT = "ostler-agent.service"

REDACTED = "REDACTED"

USER_DATA_KEYS = frozenset({"hostname", "fqdn", "preserve_hostname", "manage_etc_hosts", "write_files", "runcmd"})
_FILE_KEYS = frozenset({"path", "content", "permissions", "owner", "encoding"})
_NETWORK_KEYS = frozenset({"version", "renderer", "ethernets", "bonds", "bridges", "vlans"})
_INTERFACE_KEYS = frozenset(
    {
        "match",
        "set-name",
        "wakeonlan",
        "dhcp4",
        "dhcp6",
        "dhcp4-overrides",
        "dhcp6-overrides",
        "accept-ra",
        "addresses",
        "gateway4",
        "gateway6",
        "mtu",
        "nameservers",
        "optional",
        "routes",
        "interfaces",
        "parameters",
        "id",
        "link",
        "macaddress",
        "renderer",
    }
)
_HOSTNAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*", re.IGNORECASE)
_LINUX_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,14}")
_MTU = (576, 65535)


@dataclass(frozen=True)
class Documents:
    """What `GET /seed/{nonce}/NAME` answers, each valid."""

    meta_data: str
    user_data: str
    vendor_data: str
    network_config: str
    seed: str
    """The agent's part of the user-data alone, as JSON: for a machine that runs no cloud-init."""


def render(facts: SeedFacts, settings: ProvisioningSettings, trust: Trust) -> Documents:
    """The documents of one boot. Raises `BadInput` that names the document and the key when one would be no good."""
    if not settings.server_url:
        raise BadInput(
            "a seed cannot be rendered without the agents' URL; set it to https://HOST:PORT as the nodes reach it",
            where="[provisioning] server_url",
        )
    seed = Seed(
        server=settings.server_url.rstrip("/"),
        token=facts.token,
        nonce=facts.nonce,
        ca_sha256=trust.ca_sha256,
        ca_pem=trust.ca_pem,
        mac=facts.mac,
    )
    seed_text = encode(seed).decode()
    documents = Documents(
        meta_data=_dump({"instance-id": f"{facts.node_id}-{facts.nonce}", "local-hostname": facts.node_name}),
        user_data="#cloud-config\n" + _dump(_user_data(facts, settings, seed_text)),
        vendor_data="#cloud-config\n{}\n",
        network_config=_dump(_network_config(facts)),
        seed=seed_text,
    )
    check_meta_data(documents.meta_data)
    check_user_data(documents.user_data)
    check_network_config(documents.network_config)
    return documents


def redacted(facts: SeedFacts) -> SeedFacts:
    """The same boot without its secret: what people are shown."""
    return replace(facts, token=REDACTED)


def _user_data(facts: SeedFacts, settings: ProvisioningSettings, seed: str) -> dict[str, Any]:
    files = [{"path": SEED_PATH, "permissions": "0600", "owner": "root:root", "content": seed + "\n"}]
    if settings.kubernetes_api:
        cluster = {"apiserver": settings.kubernetes_api, "ca_cert_hash": settings.kubernetes_ca_hash}
        files.append(
            {
                "path": KUBERNETES_PATH,
                "permissions": "0644",
                "owner": "root:root",
                "content": json.dumps(cluster, sort_keys=True) + "\n",
            }
        )
    return {
        "hostname": facts.node_name,
        "preserve_hostname": False,
        "write_files": files,
        "runcmd": [["systemctl", "enable", "--now", AGENT_UNIT]],
    }


def _network_config(facts: SeedFacts) -> dict[str, Any]:
    if facts.network:
        return {"version": 2, **facts.network}
    boot = {"match": {"macaddress": facts.mac}, "dhcp4": True}
    return {"version": 2, "ethernets": {"boot": boot}}


def _dump(document: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(document), sort_keys=False, default_flow_style=False, width=1_000_000)


# Validation -----------------------------------------------------------------------------------------------------------


def check_meta_data(text: str) -> None:
    """Raises `BadInput` unless cloud-init would take this as meta-data."""
    document = _mapping(_load(text, "meta-data"), "meta-data")
    _known(document, frozenset({"instance-id", "local-hostname"}), "meta-data")
    if not document.get("instance-id"):
        raise BadInput("is missing", where="meta-data: instance-id")
    check_host_name(document.get("local-hostname"), "meta-data: local-hostname")


def check_user_data(text: str) -> None:
    """Raises `BadInput` unless cloud-init would take this as `#cloud-config` and Ostler knows every key."""
    if text.partition("\n")[0] != "#cloud-config":
        raise BadInput("the first line must be exactly '#cloud-config'", where="user-data")
    document = _mapping(_load(text, "user-data"), "user-data")
    _known(document, USER_DATA_KEYS, "user-data")
    if "hostname" in document:
        check_host_name(document["hostname"], "user-data: hostname")
    for index, entry in enumerate(_list(document.get("write_files", []), "user-data: write_files")):
        where = f"user-data: write_files[{index}]"
        file = _mapping(entry, where)
        _known(file, _FILE_KEYS, where)
        if not str(file.get("path", "")).startswith("/"):
            raise BadInput("must be an absolute path", where=f"{where}.path")
        if not isinstance(file.get("content"), str):
            raise BadInput("must be text", where=f"{where}.content")
        if not re.fullmatch(r"0[0-7]{3}", str(file.get("permissions", "0644"))):
            raise BadInput("must be four octal digits in quotes, such as '0600'", where=f"{where}.permissions")
    for index, command in enumerate(_list(document.get("runcmd", []), "user-data: runcmd")):
        words = [command] if isinstance(command, str) else command
        if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
            raise BadInput("must be text or a list of texts", where=f"user-data: runcmd[{index}]")


def check_network_config(text: str) -> None:
    """Raises `BadInput` unless this is a network-config of version 2 that cloud-init's renderers can use."""
    document = _mapping(_load(text, "network-config"), "network-config")
    check_network(document, "network-config")


def check_network(document: Mapping[str, Any], where: str) -> None:
    """`check_network_config` for a document that is read already: called when a slot's network is saved, too."""
    _known(document, _NETWORK_KEYS, where)
    if document.get("version", 2) != 2 or isinstance(document.get("version"), bool):
        raise BadInput("must be 2", where=f"{where}: version")
    names: set[str] = set()
    for kind in ("ethernets", "bonds", "bridges", "vlans"):
        for name, entry in _mapping(document.get(kind, {}), f"{where}: {kind}").items():
            if name in names:
                raise BadInput("is named twice", where=f"{where}: {kind}.{name}")
            names.add(name)
            _interface(name, kind, _mapping(entry, f"{where}: {kind}.{name}"), f"{where}: {kind}.{name}")
    if not names:
        raise BadInput("no interface is configured; the node would come up without a network", where=where)
    for kind in ("bonds", "bridges"):
        for name, entry in document.get(kind, {}).items():
            if missing := [part for part in entry.get("interfaces", []) if part not in names]:
                raise BadInput(f"'{missing[0]}' is not configured here", where=f"{where}: {kind}.{name}.interfaces")
    for name, entry in document.get("vlans", {}).items():
        if entry.get("link") not in names:
            raise BadInput("must name an interface that is configured here", where=f"{where}: vlans.{name}.link")


def _interface(name: str, kind: str, entry: Mapping[str, Any], where: str) -> None:
    _known(entry, _INTERFACE_KEYS, where)
    if kind != "ethernets" and not _LINUX_NAME.fullmatch(name):
        raise BadInput("is no interface name: at most 15 letters, digits, '.', '_' or '-'", where=where)
    for key in ("dhcp4", "dhcp6", "optional", "wakeonlan", "accept-ra"):
        if key in entry and not isinstance(entry[key], bool):
            raise BadInput("must be true or false", where=f"{where}.{key}")
    mtu = entry.get("mtu", 1500)
    if isinstance(mtu, bool) or not isinstance(mtu, int) or not _MTU[0] <= mtu <= _MTU[1]:
        raise BadInput(f"must be a whole number from {_MTU[0]} to {_MTU[1]}", where=f"{where}.mtu")
    for index, address in enumerate(_list(entry.get("addresses", []), f"{where}.addresses")):
        if "/" not in str(address) or not _parses(ipaddress.ip_interface, address):
            raise BadInput("must be ADDRESS/PREFIX, such as 10.0.0.5/24", where=f"{where}.addresses[{index}]")
    for key in ("gateway4", "gateway6"):
        if key in entry and not _parses(ipaddress.ip_address, entry[key]):
            raise BadInput("must be an address", where=f"{where}.{key}")
    for index, value in enumerate(_list(entry.get("routes", []), f"{where}.routes")):
        route = _mapping(value, f"{where}.routes[{index}]")
        _known(route, frozenset({"to", "via", "metric", "mtu", "on-link", "table"}), f"{where}.routes[{index}]")
        if route.get("to") not in ("default", "0.0.0.0/0", "::/0") and not _parses(
            ipaddress.ip_network, route.get("to")
        ):
            raise BadInput("must be NETWORK/PREFIX or default", where=f"{where}.routes[{index}].to")
        if not _parses(ipaddress.ip_address, route.get("via")):
            raise BadInput("must be an address", where=f"{where}.routes[{index}].via")
    servers = _mapping(entry.get("nameservers", {}), f"{where}.nameservers")
    for index, server in enumerate(_list(servers.get("addresses", []), f"{where}.nameservers.addresses")):
        if not _parses(ipaddress.ip_address, server):
            raise BadInput("must be an address", where=f"{where}.nameservers.addresses[{index}]")


def _parses(parse: Any, value: Any) -> bool:
    try:
        parse(value if isinstance(value, str) else None)
    except ValueError:
        return False
    return True


def _load(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f" at line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
        raise BadInput(f"is no YAML{at}: {getattr(error, 'problem', None) or 'cannot be read'}", where=where) from None


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise BadInput("must be a mapping of names", where=where)
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise BadInput("must be a list", where=where)
    return value


def _known(document: Mapping[str, Any], keys: frozenset[str], where: str) -> None:
    for name in document:
        if name not in keys:
            raise BadInput(f"the key '{name[:64]}' is not one of {', '.join(sorted(keys))}", where=where)


def check_host_name(value: Any, where: str) -> None:
    """Raises `BadInput` for what the network would not take as a host name."""
    if not isinstance(value, str) or _HOSTNAME.fullmatch(value) is None:
        raise BadInput("must be a host name: letters, digits and '-', at most 63 between dots", where=where)
