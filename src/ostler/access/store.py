"""SQL of API tokens. No decisions; called by `service.py` only."""

from __future__ import annotations

import sqlalchemy as sa

from ostler.access.model import Role, Token
from ostler.db.schema import token
from ostler.db.tx import Tx


def insert(tx: Tx, made: Token, digest: str) -> None:
    tx.execute(
        token.insert().values(
            id=made.id,
            name=made.name,
            role=made.role.value,
            tenant=made.tenant,
            digest=digest,
            created_by=made.created_by,
            created_at=made.created_at,
            expires_at=made.expires_at,
            revoked_at=made.revoked_at,
        )
    )


def find(tx: Tx, token_id: str) -> tuple[Token, str] | None:
    """The token and the digest of its secret."""
    row = tx.one(sa.select(token).where(token.c.id == token_id))
    return None if row is None else (_token(row), row["digest"])


def live_named(tx: Tx, name: str, real: float) -> Token | None:
    """The token of this name that still works."""
    row = tx.one(
        sa.select(token)
        .where(
            token.c.name == name,
            token.c.revoked_at.is_(None),
            sa.or_(token.c.expires_at.is_(None), token.c.expires_at > real),
        )
        .limit(1)
    )
    return None if row is None else _token(row)


def page(tx: Tx, *, after: str | None, limit: int) -> list[Token]:
    chosen = sa.select(token).order_by(token.c.id).limit(limit)
    if after is not None:
        chosen = chosen.where(token.c.id > after)
    return [_token(row) for row in tx.all(chosen)]


def revoke(tx: Tx, token_id: str, real: float) -> None:
    tx.execute(token.update().where(token.c.id == token_id, token.c.revoked_at.is_(None)).values(revoked_at=real))


def _token(row: sa.RowMapping) -> Token:
    return Token(
        id=row["id"],
        name=row["name"],
        role=Role(row["role"]),
        tenant=row["tenant"],
        created_by=row["created_by"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
    )
