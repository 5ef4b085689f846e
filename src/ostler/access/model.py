"""Roles, principals and tokens. Used by every face and every router."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ostler.core.actor import Actor


class Role(StrEnum):
    """What somebody may do; each role may do all that the ones before it may. Compared with `<` in this order.

    `tenant` is for tenant-scoped tokens: it opens only what shows one tenant its own, which is why it is the least.
    """

    TENANT = "tenant"
    VIEWER = "viewer"
    TECHNICIAN = "technician"
    OPERATOR = "operator"
    ADMIN = "admin"

    @property
    def rank(self) -> int:
        return _ORDER.index(self)

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Role):
            return NotImplemented
        return self.rank < other.rank

    def __le__(self, other: object) -> bool:
        if not isinstance(other, Role):
            return NotImplemented
        return self.rank <= other.rank

    def __gt__(self, other: object) -> bool:
        if not isinstance(other, Role):
            return NotImplemented
        return self.rank > other.rank

    def __ge__(self, other: object) -> bool:
        if not isinstance(other, Role):
            return NotImplemented
        return self.rank >= other.rank


_ORDER = (Role.TENANT, Role.VIEWER, Role.TECHNICIAN, Role.OPERATOR, Role.ADMIN)


@dataclass(frozen=True)
class Principal:
    """Somebody who has shown who they are."""

    name: str
    """As the audit log shows it: `token:ci`, `person:mara`."""
    role: Role
    tenant: str | None = None
    """Set: sees and touches only what is this tenant's."""

    def actor(self, request_id: str | None = None) -> Actor:
        """Who acts, for the audit log, in which request."""
        return Actor(self.name, request_id)


@dataclass(frozen=True)
class Token:
    """An API token as it is stored: everything but its secret. Times are real UTC seconds."""

    id: str
    name: str
    role: Role
    tenant: str | None
    created_by: str
    created_at: float
    expires_at: float | None
    revoked_at: float | None


@dataclass(frozen=True)
class NewToken:
    """A token just made. `secret` is shown this once and is kept nowhere."""

    token: Token
    secret: str
