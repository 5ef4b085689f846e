"""From a seed to an identity: the node's only unauthenticated words. Called by run.py before the first report.

1. The seed (wire/boot.py) comes from a file or from the boot server over plain HTTP.
2. The CA's certificate, from the seed or from the server itself, must have the SHA-256 that the seed (or `--ca-sha256`,
   from a place that is trusted more, such as the kernel command line) names. Only then is it trusted for anything.
3. A key (EC P-256) is made here, and never leaves. It is kept if the join has to be repeated.
4. The single-use token, the nonce and what the machine is (MAC, serial, UUID) go to the server over TLS, pinned to the
   CA. The certificate that comes back is stored beside the key; from then on no seed is needed.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import ssl
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ostler import __version__
from ostler.agent.transport import HttpsTransport, pinned_context
from ostler.core.errors import BadInput, NotFound, Unreachable
from ostler.wire.agent import ANSWER_LIMIT, AgentSettings, Inventory, JoinAnswer, JoinRequest
from ostler.wire.boot import SHA256_HEX, Seed
from ostler.wire.decode import decode, encode

JOIN_PATH = "/v1/agent/join"
CA_PATH = "/v1/agent/ca"
SEED_LIMIT = 128 * 1024
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this node is, and where that is kept. Stored as `identity.json`."""

    server: str
    node_id: str
    node_name: str


class IdentityStore:
    """The files of an identity in the agent's state folder; the key is readable by its owner alone."""

    def __init__(self, folder: Path) -> None:
        self.key = folder / "key.pem"
        self.certificate = folder / "certificate.pem"
        self.ca = folder / "ca.pem"
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

    def load_settings(self) -> AgentSettings:
        """What the server last said; the defaults where it never did."""
        try:
            return decode(AgentSettings, self._settings.read_bytes())
        except (OSError, BadInput):
            return AgentSettings()

    def save_settings(self, settings: AgentSettings) -> None:
        """Kept so that a restarted agent behaves before the server has answered. Raises OSError."""
        write_private(self._settings, encode(settings))

    def save(self, identity: Identity, answer: JoinAnswer) -> None:
        """Stores a join; `identity.json` comes last, so its presence means that the rest is there. Raises OSError."""
        write_private(self.certificate, answer.certificate_pem.encode())
        write_private(self.ca, answer.ca_pem.encode())
        self.save_settings(answer.settings)
        write_private(self._identity, json.dumps(asdict(identity)).encode())


def write_private(path: Path, data: bytes) -> None:
    """Replaces a file atomically, durable, for its owner's eyes only. Raises OSError."""
    new = path.with_name(path.name + ".new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


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
) -> Identity:
    """Joins once and stores the identity.

    `server` and `ca_sha256` win over the seed's. Raises BadInput, Unauthenticated (the token was used, has expired, or
    belongs to another machine), Temporary (try again with the same seed), OSError (the state folder).
    """
    if ca_sha256 is not None and re.fullmatch(SHA256_HEX, ca_sha256) is None:
        raise BadInput("expected 64 lower-case hexadecimal digits", where="--ca-sha256")
    address = server or seed.server
    pem = seed.ca_pem if seed.ca_pem is not None else _offered_ca(address, real)
    ca_pem = trusted_ca(pem, ca_sha256 or seed.ca_sha256)
    request = JoinRequest(
        token=seed.token,
        nonce=seed.nonce,
        mac=_own_mac(seed, inventory),
        serial=inventory.system.serial,
        uuid=inventory.system.uuid,
        csr_pem=_signing_request(store.key),
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
    identity = Identity(address, answer.node_id, answer.node_name)
    store.save(identity, answer)
    return identity


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


def _signing_request(key_file: Path) -> str:
    """A PKCS#10 request for the stored key, which is made if there is none. The server gives the name."""
    from cryptography import x509  # 10 MB that a joined agent never loads
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key: ec.EllipticCurvePrivateKey | None = None
    try:
        stored = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
        key = stored if isinstance(stored, ec.EllipticCurvePrivateKey) else None
    except (FileNotFoundError, ValueError):
        key = None
    if key is None:
        key = ec.generate_private_key(ec.SECP256R1())
        form = serialization.PrivateFormat.PKCS8
        write_private(key_file, key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode("ascii")
