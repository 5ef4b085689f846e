"""From a seed to an identity: the node's only unauthenticated words. Called by run.py before the first report.

1. The seed (wire/boot.py) comes from a file or from the boot server over plain HTTP.
2. The CA's certificate, from the seed or from the server itself, must have the SHA-256 that the seed (or `--ca-sha256`,
   from a place that is trusted more, such as the kernel command line) names. Only then is it trusted for anything.
3. A key (EC P-256) is made here, and never leaves.
4. The single-use token, the nonce and what the machine is (MAC, serial, UUID) go to the server over TLS, pinned to the
   CA. The certificate that comes back is stored together with the key; from then on no seed is needed.

An identity is one file, replaced as a whole: whenever the agent is killed, key, certificate and CA belong together.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from ostler import __version__
from ostler.agent import keys
from ostler.agent.keys import KeyRequest
from ostler.agent.transport import HttpsTransport, identity_context, pinned_context
from ostler.core.errors import BadInput, NotFound, Unreachable
from ostler.wire.agent import ANSWER_LIMIT, AgentSettings, Inventory, JoinAnswer, JoinRequest, Pem
from ostler.wire.boot import SHA256_HEX, Seed
from ostler.wire.decode import decode, encode

JOIN_PATH = "/v1/agent/join"
CA_PATH = "/v1/agent/ca"
SEED_LIMIT = 128 * 1024
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this node is, to whom, and how it proves that. Stored as `identity.json`, readable by its owner alone."""

    server: str
    node_id: str
    node_name: str
    key_pem: Pem = field(repr=False)
    certificate_pem: Pem = field(repr=False)
    ca_pem: Pem = field(repr=False)
    token_sha256: str = ""
    """SHA-256 of the join token that was spent on it, lower-case hex: a seed with this token joins no more."""

    def context(self) -> ssl.SSLContext:
        """Mutual TLS as this node. Raises BadInput when key and certificate do not work together."""
        return identity_context(self.ca_pem, self.certificate_pem, self.key_pem)


class IdentityStore:
    """The files in the agent's state folder that say who this node is."""

    def __init__(self, folder: Path) -> None:
        self._identity = folder / "identity.json"
        self._settings = folder / "settings.json"

    def load(self) -> Identity | None:
        """The identity of an earlier join. Raises BadInput when its file is damaged."""
        try:
            return decode(Identity, self._identity.read_bytes())
        except FileNotFoundError:
            return None
        except BadInput as error:
            raise BadInput(f"{error}; remove it and join again", where=str(self._identity)) from None

    def save(self, identity: Identity) -> None:
        """All of it at once, or nothing. Raises OSError."""
        write_private(self._identity, encode(identity))

    def load_settings(self) -> AgentSettings:
        """What the server last said; the defaults where it never did."""
        try:
            return decode(AgentSettings, self._settings.read_bytes())
        except (OSError, BadInput):
            return AgentSettings()

    def save_settings(self, settings: AgentSettings) -> None:
        """Kept so that a restarted agent behaves before the server has answered. Raises OSError."""
        write_private(self._settings, encode(settings))


def write_private(path: Path, data: bytes) -> None:
    """Replaces a file atomically, durable, for its owner's eyes only. Raises OSError."""
    new = path.with_name(path.name + ".new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)  # or a power cut brings the former file back
    finally:
        os.close(folder)


def read_seed(source: str) -> Seed:
    """The seed at a path or an http:// URL. Raises BadInput, NotFound or Unreachable, each naming the source."""
    raw = _fetch_seed(source) if source.startswith("http://") else _read_seed_file(source)
    try:
        return decode(Seed, raw, limit=SEED_LIMIT)
    except BadInput as error:
        raise BadInput(f"this is no seed: {error}", where=source) from None


def _read_seed_file(source: str) -> bytes:
    try:
        with Path(source).open("rb") as file:
            return file.read(SEED_LIMIT + 1)
    except FileNotFoundError:
        raise NotFound("there is no seed; it comes with the node's cloud-init", where=source) from None
    except (OSError, ValueError) as error:
        raise BadInput(f"the seed cannot be read: {error}", where=source[:200]) from None


def _fetch_seed(source: str) -> bytes:
    try:
        parts = urlsplit(source)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise BadInput(f"no URL of a seed ({error})", where=source[:200]) from None
    if not host:
        raise BadInput("no URL of a seed", where=source[:200])
    connection = http.client.HTTPConnection(host, port, timeout=10.0)
    try:
        connection.request("GET", f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}")
        response = connection.getresponse()
        raw = response.read(SEED_LIMIT + 1)
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(f"the seed cannot be fetched: {error}", where=source) from None
    finally:
        connection.close()
    if response.status != 200:
        raise NotFound(f"the boot server answered {response.status} instead of a seed", where=source)
    return raw


def trusted_ca(pem: str, sha256: str) -> str:
    """The one certificate in `pem` whose DER form has this SHA-256. Raises BadInput when none has."""
    for block in _CERTIFICATE.findall(pem):
        try:
            der = ssl.PEM_cert_to_DER_cert(block)
        except ValueError:
            continue
        if hashlib.sha256(der).hexdigest() == sha256:
            return str(block) + "\n"
    raise BadInput(
        f"the CA certificate does not have the SHA-256 {sha256[:16]}… that it must have: this is another server, or "
        "someone in between",
        where="ca_sha256",
    )


def join(
    seed: Seed,
    store: IdentityStore,
    inventory: Inventory,
    *,
    real: Callable[[], float],
    server: str | None = None,
    ca_sha256: str | None = None,
    make: Callable[[], KeyRequest] = keys.make,
) -> Identity:
    """Joins once and stores the identity.

    `server` and `ca_sha256` win over the seed's; `make` makes the key. Raises BadInput, Unauthenticated or Conflict
    (the token was used, has expired, or is for another machine), Temporary (try again with the same seed), OSError (the
    state folder).
    """
    if ca_sha256 is not None and re.fullmatch(SHA256_HEX, ca_sha256) is None:
        raise BadInput("expected 64 lower-case hexadecimal digits", where="--ca-sha256")
    address = server or seed.server
    pem = seed.ca_pem if seed.ca_pem is not None else _offered_ca(address, real)
    ca_pem = trusted_ca(pem, ca_sha256 or seed.ca_sha256)
    made = make()
    request = JoinRequest(
        token=seed.token,
        nonce=seed.nonce,
        mac=_own_mac(seed, inventory),
        serial=inventory.system.serial,
        uuid=inventory.system.uuid,
        csr_pem=made.csr_pem,
        agent_version=__version__,
    )
    transport = HttpsTransport(address, pinned_context(ca_pem), real=real)
    try:
        raw = transport.post(JOIN_PATH, encode(request))
    finally:
        transport.close()
    try:
        answer = decode(JoinAnswer, raw, limit=ANSWER_LIMIT)
    except BadInput as error:
        raise Unreachable(f"the answer to the join cannot be understood ({error})", where=address) from None
    identity = Identity(
        address,
        answer.node_id,
        answer.node_name,
        made.key_pem,
        answer.certificate_pem,
        trusted_ca(answer.ca_pem, ca_sha256 or seed.ca_sha256),
        token_sha256(seed),
    )
    identity.context()
    store.save(identity)
    store.save_settings(answer.settings)
    return identity


def token_sha256(seed: Seed) -> str:
    """What an identity remembers of the token that made it."""
    return hashlib.sha256(seed.token.encode()).hexdigest()


def _own_mac(seed: Seed, inventory: Inventory) -> str:
    """The MAC of the boot request, which must be one of ours. Raises BadInput: a seed for another machine."""
    macs = [nic.mac for nic in inventory.nics if nic.mac]
    if seed.mac is None:
        return macs[0] if macs else ""
    if seed.mac not in macs:
        has = ", ".join(macs[:8]) or "none"
        raise BadInput(f"this seed is for the machine with MAC {seed.mac}; this one has {has}", where="seed")
    return seed.mac


def _offered_ca(server: str, real: Callable[[], float]) -> str:
    """The CA as whoever answers there offers it: worth nothing until its hash is checked."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    transport = HttpsTransport(server, context, real=real)
    try:
        return transport.get(CA_PATH).decode("ascii", "replace")
    finally:
        transport.close()
