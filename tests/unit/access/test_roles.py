"""Who may do what: the order of the roles, and the wall around a tenant."""

from __future__ import annotations

import itertools

import pytest

from ostler.access.model import Principal, Role
from ostler.access.policy import allowed, bad_token_request
from ostler.access.service import admin_from_environment

ORDER = [Role.TENANT, Role.VIEWER, Role.TECHNICIAN, Role.OPERATOR, Role.ADMIN]


@pytest.mark.parametrize(("has", "needs"), list(itertools.product(ORDER, ORDER)))
def test_a_role_may_what_lesser_roles_may(has: Role, needs: Role) -> None:
    assert allowed(Principal("token:x", has), needs) is (ORDER.index(has) >= ORDER.index(needs))


@pytest.mark.parametrize("has", ORDER)
def test_a_tenant_never_gets_past_its_own(has: Role) -> None:
    principal = Principal("token:x", has, tenant="blue")
    assert allowed(principal, Role.TENANT)
    assert not any(allowed(principal, needed) for needed in ORDER[1:])


def test_roles_compare_by_power_and_not_by_letter() -> None:
    assert sorted([Role.ADMIN, Role.VIEWER, Role.TENANT, Role.TECHNICIAN, Role.OPERATOR]) == ORDER
    assert max(Role.TENANT, Role.ADMIN) is Role.ADMIN
    assert Role.ADMIN >= Role.ADMIN
    assert Role.VIEWER <= Role.OPERATOR


@pytest.mark.parametrize(
    ("name", "role", "tenant", "expires_in"),
    [
        ("", Role.VIEWER, None, None),
        ("a b", Role.VIEWER, None, None),
        ("a\n", Role.VIEWER, None, None),
        ("x" * 65, Role.VIEWER, None, None),
        ("ci", Role.TENANT, None, None),
        ("ci", Role.ADMIN, "blue", None),
        ("ci", Role.TENANT, "b/ue", None),
        ("ci", Role.VIEWER, None, 59.0),
        ("ci", Role.VIEWER, None, float("inf")),
        ("ci", Role.VIEWER, None, float("nan")),
    ],
)
def test_what_is_no_token(name: str, role: Role, tenant: str | None, expires_in: float | None) -> None:
    assert bad_token_request(name, role, tenant, expires_in) is not None


def test_what_is_a_token() -> None:
    assert bad_token_request("ci", Role.VIEWER, None, None) is None
    assert bad_token_request("blue-ci", Role.TENANT, "blue", 3600.0) is None


@pytest.mark.parametrize("configured", [None, ""])
def test_no_admin_without_a_configured_secret(configured: str | None) -> None:
    assert admin_from_environment("", configured) is None
    assert admin_from_environment("x", configured) is None


def test_the_admin_from_the_environment() -> None:
    assert admin_from_environment("wrong", "right") is None
    found = admin_from_environment("right", "right")
    assert found is not None
    assert found.role is Role.ADMIN
    assert found.actor("r1").name == "token:OSTLER_ADMIN_TOKEN"
