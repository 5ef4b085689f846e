"""Where secrets are kept by name, so that the database and the configuration hold references only (DESIGN, section 6).

Used by `references.resolve`, by webhooks (signing secrets) and by the join (the token key). Names are short and plain;
values are text. Raises `NotFound` for an unknown name, `BadInput` for a bad one, `Permanent` for a store that is
damaged or that others may read, `Unavailable` when it cannot be written now.
"""

from __future__ import annotations

import re
from typing import Protocol

from ostler.core.errors import BadInput

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,127}")
MAX_VALUE = 64 << 10


class SecretStore(Protocol):
    """Secrets by name."""

    def put(self, name: str, value: str) -> None:
        """Keep `value` under `name`, in place of what was there; durable when this returns."""
        ...

    def get(self, name: str) -> str: ...

    def delete(self, name: str) -> None:
        """Forget `name`; nothing happens when it is not there."""
        ...


def check_name(name: str) -> str:
    """`name`, when it is one: 1 to 128 letters, digits, `_ . @ -`, beginning with a letter or digit."""
    if not _NAME.fullmatch(name):
        raise BadInput(f"{name[:80]!r} is no name of a secret (1 to 128 letters, digits, or one of _ . @ -).")
    return name


def check_value(name: str, value: str) -> bytes:
    try:
        encoded = value.encode()
    except UnicodeEncodeError:
        raise BadInput(f"The secret {name!r} is no Unicode text.") from None
    if not encoded or len(encoded) > MAX_VALUE:
        raise BadInput(f"The secret {name!r} must have 1 to {MAX_VALUE} bytes; it has {len(encoded)}.")
    return encoded
