"""The words of Day 0 as types. Used by every file of this folder and by `config.py`, which reads the settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from ostler.nodes.model import State


@dataclass(frozen=True)
class ProvisioningSettings:
    """`[provisioning]` in the configuration file."""

    register_unknown: bool = True
    """An unknown machine that asks to boot is entered as `discovered`; false: it waits."""
    default_pool: str = "default"
    """The pool of machines that were unknown."""
    unjoined_limit: int = 5000
    """So many nodes may stand in `discovered`; then unknown machines wait."""
    boot_url: str = ""
    """Base URL of the boot listener as nodes reach it; empty: as the request named it."""
    server_url: str = ""
    """Base URL of the agents' listener as nodes reach it, https; needed to render a seed."""
    image_folder: str = ""
    """Folder whose files are served under /images/; empty: none."""
    kernel_url: str = "/images/vmlinuz"
    """The pinned kernel; a path is taken on the boot listener."""
    initrd_url: str = "/images/initrd"
    """The pinned initrd."""
    kernel_arguments: str = "console=ttyS0"
    """Appended to the kernel's command line."""
    datasource: str = "nocloud"
    """`nocloud` from cloud-init 24.1 on, `nocloud-net` before."""
    retry_s: int = 10
    """Real seconds that a machine which may not boot yet sleeps before it asks again."""
    join_token_s: float = 1800.0
    """Real seconds for which a join token and its seed are valid."""
    certificate_days: int = 30
    """Real days for which an agent's certificate is valid."""
    kubernetes_api: str = ""
    """The Kubernetes API server's address for the nodes; empty: no Kubernetes; HOST:PORT."""
    kubernetes_ca_hash: str = ""
    """`sha256:` and the hash of its CA's public key, as `kubeadm join` takes it."""

    def __post_init__(self) -> None:
        if self.server_url and not self.server_url.startswith("https://"):
            raise ValueError("server_url must begin with https://: agents speak mutual TLS")
        if self.datasource not in ("nocloud", "nocloud-net"):
            raise ValueError("datasource must be nocloud or nocloud-net")
        if self.retry_s < 1:
            raise ValueError("retry_s must be at least 1")


@dataclass(frozen=True)
class Trust:
    """What makes a seed worth believing: the CA that agents must see, and the key that join tokens are derived from."""

    ca_pem: str
    ca_sha256: str
    """SHA-256 of the CA certificate's DER form, lower-case hex."""
    token_key: bytes = field(repr=False)
    """At least 32 random bytes, the same on every replica, and never in the database."""


@dataclass(frozen=True)
class BootAsk:
    """What a machine says of itself when it asks to boot, cleaned: see `identity.clean`. Nothing here is proven."""

    mac: str
    """Lower case, colons."""
    serial: str = ""
    """Empty when the firmware has none worth the name."""
    uuid: str = ""
    address: str = ""


@dataclass(frozen=True)
class Candidate:
    """A node that a boot request may be about, as far as identity goes."""

    id: str
    name: str
    state: State
    serial: str | None
    uuid: str | None
    macs: tuple[str, ...]
    held: bool = False
    """A person still has to confirm who this is."""


@dataclass(frozen=True)
class Known:
    """It is this node; `learn_mac` and `learn_serial` are identity that the books did not have yet."""

    node_id: str
    learn_mac: bool = False
    learn_serial: bool = False


@dataclass(frozen=True)
class New:
    """Nobody we know. `held` says why it may be entered into the books but not boot yet."""

    held: str = ""


@dataclass(frozen=True)
class Held:
    """A person must say who this is. `node_ids`: whose identity is in doubt."""

    node_ids: tuple[str, ...]
    reason: str


class Boot(StrEnum):
    """What a machine is told."""

    IMAGE = "image"
    """The pinned image, with a fresh seed."""
    LOCAL = "local"
    """Go on with the next boot device: we may not provision it."""
    WAIT = "wait"
    """Sleep and ask again."""


@dataclass(frozen=True)
class BootDecision:
    """What a machine is told, and why."""

    boot: Boot
    why: str


@dataclass(frozen=True)
class Served:
    """The answer to one boot request: the decision, and for an image where its seed is."""

    decision: BootDecision
    ask: BootAsk
    node_id: str | None = None
    node_name: str = ""
    nonce: str = ""


@dataclass(frozen=True)
class SeedFacts:
    """Everything the NoCloud documents of one boot are rendered from."""

    node_id: str
    node_name: str
    mac: str
    network: Mapping[str, Any]
    """The slot's part of network-config v2; empty: DHCP on the interface that booted."""
    nonce: str
    token: str


@dataclass(frozen=True)
class Joined:
    """The join is done. `first`: the node was new and is in `onboard` now."""

    node_id: str
    node_name: str
    certificate_pem: str
    first: bool


class JoinFault(StrEnum):
    """Why a join is refused. `UNKNOWN` … `SERIAL` say that the caller is not who the token is for."""

    UNKNOWN = "unknown-token"
    NONCE = "wrong-nonce"
    MAC = "wrong-mac"
    SERIAL = "wrong-serial"
    EXPIRED = "expired-token"
    USED = "used-token"
    IDENTITY = "identity-conflict"
    RETIRED = "retired"


@dataclass(frozen=True)
class JoinRefused:
    """Nothing joined. `message` is one line for the agent's log and for people."""

    fault: JoinFault
    message: str
    node_id: str | None = None
