"""Use cases of API tokens: make, recognise, revoke. `authenticate_header` is what `http/auth.py` calls per request.

A secret reads `ost_<26 characters naming the token>_<43 random characters>`: 256 random bits, so a plain SHA-256 is
enough to store (nothing can be guessed), and the fixed prefix lets secret scanners find a leaked one.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from typing import NoReturn

from ostler.access import policy, store
from ostler.access.model import NewToken, Principal, Role, Token
from ostler.audit import service as audit
from ostler.core.actor import Actor
from ostler.core.errors import BadInput, Conflict, NotFound, Unauthenticated
from ostler.core.ids import new_id
from ostler.db.engine import Database
from ostler.db.tx import Tx

_SECRET = re.compile(r"ost_([0-9a-z]{26})_[A-Za-z0-9_-]{43}")
_BEARER = re.compile(r"bearer +(\S{1,512})", re.IGNORECASE)
_NOBODY = hashlib.sha256(b"no token has this digest").hexdigest()
_REFUSED = "The token is not valid: unknown, expired or revoked. Make one with 'ostler token create'."

ADMIN_NAME = "token:OSTLER_ADMIN_TOKEN"
"""How the audit log names whoever holds the token from the server's environment."""


def create_token(
    tx: Tx,
    *,
    name: str,
    role: Role,
    actor: Actor,
    tenant: str | None = None,
    expires_in: float | None = None,
    reason: str = "",
) -> NewToken:
    """Make a token that lives `expires_in` real seconds (None: until revoked). Its secret is returned here only.

    Raises `BadInput`, or `Conflict` when a live token has the name.
    """
    wrong = policy.bad_token_request(name, role, tenant, expires_in)
    if wrong is not None:
        raise BadInput(f"{wrong[0].upper()}{wrong[1:]}.", where="token")
    tx.lock("token-names")
    if store.live_named(tx, name, tx.real) is not None:
        raise Conflict(f"A token named '{name}' is in use; revoke it first or choose another name.")
    token_id = new_id("token")
    secret = f"ost_{token_id.removeprefix('token_')}_{secrets.token_urlsafe(32)}"
    made = Token(
        id=token_id,
        name=name,
        role=role,
        tenant=tenant,
        created_by=actor.name,
        created_at=tx.real,
        expires_at=None if expires_in is None else tx.real + expires_in,
        revoked_at=None,
    )
    store.insert(tx, made, _digest(secret))
    detail = {"name": name, "role": role.value, "tenant": tenant, "expires_in": expires_in}
    audit.record(tx, actor, "token.create", token_id, reason=reason, detail=detail)
    return NewToken(made, secret)


def revoke(tx: Tx, token_id: str, *, actor: Actor, reason: str = "") -> Token:
    """From now on the token opens nothing. Revoking a revoked one changes nothing. Raises `NotFound`."""
    found = store.find(tx, token_id)
    if found is None:
        raise NotFound(f"No token has the id '{token_id}'; see 'ostler token list'.")
    if found[0].revoked_at is None:
        store.revoke(tx, token_id, tx.real)
        audit.record(tx, actor, "token.revoke", token_id, reason=reason, detail={"name": found[0].name})
    again = store.find(tx, token_id)
    return found[0] if again is None else again[0]


def tokens(tx: Tx, *, after: str | None = None, limit: int = 100) -> list[Token]:
    """Every token ever made, oldest first, from the first past the id `after`."""
    return store.page(tx, after=after, limit=limit)


def authenticate(tx: Tx, secret: str, now: float) -> Principal:
    """Who holds this secret at the real time `now`. Raises `Unauthenticated`, always with the same words.

    An unknown token costs the same comparison as a known one, so the time tells nothing about which part was wrong.
    """
    match = _SECRET.fullmatch(secret)
    found = store.find(tx, f"token_{match[1]}") if match else None
    token, digest = found if found is not None else (None, _NOBODY)
    same = hmac.compare_digest(_digest(secret), digest)
    if token is None or not same:
        _refuse()
    if token.revoked_at is not None or (token.expires_at is not None and token.expires_at <= now):
        _refuse()
    return Principal(f"token:{token.name}", token.role, token.tenant)


def admin_from_environment(presented: str, configured: str | None) -> Principal | None:
    """The admin whose token stands in the server's environment (`OSTLER_ADMIN_TOKEN`), if this is it. No database."""
    if not configured:
        return None
    if not hmac.compare_digest(_digest(presented), _digest(configured)):
        return None
    return Principal(ADMIN_NAME, Role.ADMIN)


def authenticate_header(db: Database, header: str | None, admin_secret: str | None) -> Principal:
    """Who sent an `Authorization` header. Raises `Unauthenticated` saying what to send."""
    if header is None:
        raise Unauthenticated("Send a token: 'Authorization: Bearer ost_…' (the CLI reads OSTLER_TOKEN).")
    match = _BEARER.fullmatch(header.strip())
    if match is None:
        raise Unauthenticated("The Authorization header is not of the form 'Bearer TOKEN'.")
    admin = admin_from_environment(match[1], admin_secret)
    if admin is not None:
        return admin
    if _SECRET.fullmatch(match[1]) is None:
        _refuse()  # what cannot be a token of ours costs no query
    return db.read(lambda tx: authenticate(tx, match[1], tx.real))


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def _refuse() -> NoReturn:
    raise Unauthenticated(_REFUSED)
