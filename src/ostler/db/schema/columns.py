"""The few kinds of column that all tables are made of, and the metadata they hang on. Used by this folder only."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Json = sa.JSON().with_variant(JSONB(), "postgresql")


def key(name: str = "id") -> sa.Column[str]:
    """A primary key from `core.ids.new_id`, or a natural name."""
    return sa.Column(name, sa.String, primary_key=True)


def text(name: str, default: str | None = None) -> sa.Column[str]:
    """A text that is always there; with a default, one that may be left out."""
    return sa.Column(name, sa.String, nullable=False, server_default=default)


def maybe(name: str) -> sa.Column[str]:
    """A text that may be missing."""
    return sa.Column(name, sa.String, nullable=True)


def at(name: str) -> sa.Column[float]:
    """A moment that is always known: UTC epoch seconds."""
    return sa.Column(name, sa.Double, nullable=False)


def maybe_at(name: str) -> sa.Column[float]:
    """A moment that may not have come."""
    return sa.Column(name, sa.Double, nullable=True)


def number(name: str, default: int = 0) -> sa.Column[int]:
    """An integer of 64 bits."""
    return sa.Column(name, sa.BigInteger, nullable=False, server_default=str(default))


def flag(name: str, default: bool = False) -> sa.Column[bool]:
    """True or false."""
    return sa.Column(name, sa.Boolean, nullable=False, server_default=sa.true() if default else sa.false())


def json(name: str) -> sa.Column[Any]:
    """A JSON object or list; always there."""
    return sa.Column(name, Json, nullable=False)


def leased() -> tuple[sa.Column[Any], ...]:
    """What makes a row claimable by one of many replicas: see `db/lease.py`."""
    return maybe("lease_owner"), maybe_at("lease_until"), number("fence")
