"""The seed: what a node is told at power-on so that its agent can join. Written by provisioning, read by the agent.

The boot network is plain HTTP, so the seed holds nothing that is worth stealing: the token joins once, soon, and only
the machine with the MAC, serial and nonce of one boot request (DESIGN section 4, reference on netboot). Whoever
controls the boot network controls the node; `ca_sha256` can also be given on the kernel command line or by hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from ostler.wire.decode import Text

SHA256_HEX = r"[0-9a-f]{64}"
PEM_LIMIT = 65_536
"""Characters of PEM: a chain of certificates."""


@dataclass(frozen=True, slots=True)
class Seed:
    """One JSON file or HTTP answer. `ca_pem` may be left out: then it is fetched from the server and must match."""

    server: Annotated[str, Text(512, r"https://[^\s/?#@]+")]
    """Base URL of the agents' listener, without a path: `https://ostler.example:8472`."""
    token: Annotated[str, Text(256, r"[A-Za-z0-9_.~-]+")]
    nonce: Annotated[str, Text(256)]
    """Names the boot request that this token belongs to."""
    ca_sha256: Annotated[str, Text(64, SHA256_HEX)]
    """SHA-256 of the CA certificate's DER form, lower-case hex."""
    ca_pem: Annotated[str | None, Text(PEM_LIMIT)] = None
    mac: Annotated[str | None, Text(17, r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")] = None
    """The interface that asked; another machine that finds this seed says so instead of burning the token."""
