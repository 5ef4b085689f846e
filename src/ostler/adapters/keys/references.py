"""`env:NAME`, `file:/path`, `store:NAME` to the secret it names. Called by `app.py` for each secret in its settings.

A value that is no reference is refused, so that nobody puts a password into the configuration by mistake; the refusal
does not repeat it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ostler.adapters.keys.port import MAX_VALUE, SecretStore
from ostler.core.errors import BadInput, NotFound


def resolve(reference: str, environment: Mapping[str, str], store: SecretStore | None = None) -> str:
    """The secret, without a trailing line end. Raises `BadInput` or `NotFound` with what to do; shows no value."""
    kind, colon, name = reference.partition(":")
    if not colon or not name:
        raise BadInput("A secret is given by reference: env:NAME, file:/path or store:NAME. This one is no reference.")
    match kind:
        case "env":
            value = environment.get(name, "")
            if not value:
                raise NotFound(f"The environment has no variable {name}; set it before the start.", where=f"env:{name}")
        case "file":
            value = _read(Path(name))
        case "store" if store is not None:
            value = store.get(name)
        case "store":
            raise BadInput("There is no secret store here.", where=f"store:{name}")
        case _:
            raise BadInput("The reference is of no known kind; use env:NAME, file:/path or store:NAME.")
    return value


def _read(path: Path) -> str:
    where = f"file:{path}"
    if not path.is_absolute():
        raise BadInput("Give the whole path of the secret's file, from the root.", where=where)
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_VALUE + 1)
        text = raw.decode().removesuffix("\n").removesuffix("\r")
    except FileNotFoundError:
        raise NotFound("There is no such file.", where=where) from None
    except OSError as error:
        raise BadInput(f"The secret's file cannot be read: {error.strerror}.", where=where) from None
    except UnicodeDecodeError:
        raise BadInput("The secret's file is no text (UTF-8).", where=where) from None
    if not text or len(raw) > MAX_VALUE:
        raise BadInput(f"The secret's file must have 1 to {MAX_VALUE} bytes.", where=where)
    return text
