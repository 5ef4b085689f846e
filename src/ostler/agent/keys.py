"""A new private key and the request that proves it, made in a process of its own. Called by `join.py`, `renewal.py`.

`cryptography` stays in a process's memory once it is loaded (10 MB), and an agent that runs for months needs it for
milliseconds. So `make_apart` lets `python -m ostler.agent.keys` do it and reads the answer from a pipe; the key touches
no disk and no command line on its way. `make` is the same without the process: for the twin's many nodes in one.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from typing import Annotated

from ostler.core.errors import BadInput, Unavailable
from ostler.wire.decode import Text, decode, encode

_PATIENCE_S = 120.0
"""Real seconds: a node under full load still starts an interpreter within them."""


@dataclass(frozen=True, slots=True)
class KeyRequest:
    """An EC P-256 key (PKCS#8, PEM) and a PKCS#10 request for it without a subject: the server gives the name."""

    key_pem: Annotated[str, Text(8192)] = field(repr=False)
    csr_pem: Annotated[str, Text(8192)]


def make() -> KeyRequest:
    """In this process, which keeps the library loaded."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    form = serialization.PrivateFormat.PKCS8
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return KeyRequest(
        key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode("ascii"),
        request.public_bytes(serialization.Encoding.PEM).decode("ascii"),
    )


def make_apart() -> KeyRequest:
    """In a short process of its own. Raises Unavailable when it fails: try again later."""
    words = (sys.executable, "-P", "-m", "ostler.agent.keys")
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"a key cannot be made ({error})") from None
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise Unavailable(f"a key cannot be made ({said[-1][:200] if said else f'exit status {done.returncode}'})")
    try:
        return decode(KeyRequest, done.stdout)
    except BadInput:
        raise Unavailable("a key cannot be made (the process answered something else)") from None


if __name__ == "__main__":
    sys.stdout.buffer.write(encode(make()))
