"""Who is asking: bearer tokens for the API, a sign-in cookie for the console. Built once by `app.py`.

The API reads the Authorization header only, so that no page of another site can act through a browser's cookie. The
console takes the cookie too, and its few forms are refused unless the browser says that they come from this very site.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.requests import Request
from starlette.responses import Response

from ostler.access import policy
from ostler.access.model import Principal, Role
from ostler.access.service import authenticate_header
from ostler.core.errors import Forbidden, Unauthenticated
from ostler.db.engine import Database

COOKIE = "ostler_session"
_COOKIE_SECONDS = 12 * 3600
"""A shift; then the token is pasted again."""

_GUEST = Principal("guest:loopback", Role.VIEWER)
_bearer = HTTPBearer(auto_error=False, scheme_name="token", description="An API token: 'ostler token create'.")


@dataclass(frozen=True)
class Doorkeeper:
    """Recognises principals. `open_to_loopback` lets anyone on this machine look, never act (the demo)."""

    db: Database
    admin_secret: str | None = None
    open_to_loopback: bool = False

    def authorize(self, needed: Role) -> Callable[..., Principal]:
        """The `Authorize` of `access/api.py`: a FastAPI dependency that yields the principal, or 401, or 403."""

        def dependency(
            request: Request,
            _documented: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)] = None,
        ) -> Principal:
            return _checked(self._by_header(request), needed)

        return dependency

    def visitor(self, request: Request) -> Principal:
        """Who looks at a page of the console: by header, cookie, or because it is open. Raises `Unauthenticated`."""
        cookie = request.cookies.get(COOKIE)
        if cookie is not None and "authorization" not in request.headers:
            try:
                return _checked(self.by_token(cookie), Role.VIEWER)
            except Unauthenticated:
                if not self._open_for(request):
                    raise
        return _checked(self._by_header(request), Role.VIEWER)

    def by_token(self, token: str) -> Principal:
        """Who holds this token. Raises `Unauthenticated`."""
        return self.identify(f"Bearer {token}")

    def identify(self, header: str | None) -> Principal:
        """Who sent an Authorization header. Raises `Unauthenticated`."""
        return authenticate_header(self.db, header, self.admin_secret)

    def _by_header(self, request: Request) -> Principal:
        header = request.headers.get("authorization")
        if header is None and self._open_for(request):
            return _GUEST
        return self.identify(header)

    def _open_for(self, request: Request) -> bool:
        """A browser on this machine that knows us by a loopback name: another name would be DNS rebinding."""
        if not self.open_to_loopback or request.client is None:
            return False
        name = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
        return _is_loopback(request.client.host) and (name == "localhost" or _is_loopback(name))


def sign_in(response: Response, token: str, *, secure: bool) -> None:
    """Keep the token in the browser: out of reach of scripts, never sent along from another site."""
    response.set_cookie(
        COOKIE, token, max_age=_COOKIE_SECONDS, path="/", httponly=True, samesite="strict", secure=secure
    )


def sign_out(response: Response) -> None:
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")


def same_site_only(request: Request) -> None:
    """Let a form through only from our own pages. Raises `Forbidden`.

    Browsers send `Sec-Fetch-Site` (Fetch Metadata, W3C) and, with POST, `Origin`; a script or forged form elsewhere can
    set neither. What sends none of the two is no browser and carries no cookie it was not given.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None and site != "same-origin":
        raise Forbidden("This form was sent from another site.")
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        raise Forbidden("This form was sent from another site.")


def _checked(principal: Principal, needed: Role) -> Principal:
    if not policy.allowed(principal, needed):
        raise Forbidden(policy.refusal(principal, needed))
    return principal


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
