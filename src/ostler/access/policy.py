"""What a role may do: pure decisions. Called by `http/auth.py` for every request and by `service.py`."""

from __future__ import annotations

import re

from ostler.access.model import Principal, Role

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
"""Names of tokens and tenants: they stand in log lines, paths and audit entries."""


def allowed(principal: Principal, needed: Role) -> bool:
    """Whether the principal may do what asks for `needed`.

    A principal bound to a tenant never gets past what is open to tenants, whatever else its role says.
    """
    if principal.tenant is not None:
        return needed is Role.TENANT
    return principal.role >= needed


def refusal(principal: Principal, needed: Role) -> str:
    """Why not, in a sentence for the person."""
    who = f"{principal.name} has the role '{principal.role}'"
    if principal.tenant is not None:
        return f"{who} for the tenant '{principal.tenant}'; this is about the whole fleet."
    return f"{who}; this needs '{needed}' or more."


def bad_token_request(name: str, role: Role, tenant: str | None, expires_in: float | None) -> str | None:
    """What is wrong with a wish for a token; None if nothing is."""
    if not NAME.fullmatch(name):
        return "a token's name has 1 to 64 letters, digits, '.', '_', '@' or '-' and begins with a letter or digit"
    if (role is Role.TENANT) != (tenant is not None):
        return "a tenant goes with the role 'tenant', and only with it"
    if tenant is not None and not NAME.fullmatch(tenant):
        return "a tenant's name has 1 to 64 letters, digits, '.', '_', '@' or '-'"
    if expires_in is not None and not 60 <= expires_in <= 10 * 365 * 86400:
        return "a token lives between 60 seconds and 10 years"
    return None
