"""Everything Ostler raises on purpose. Two words matter: temporary (try again) and permanent (do not).

OstlerError
├── Temporary                  may pass by itself; carries the delay after which to try again
│   ├── Unreachable            no answer from a BMC, a cluster, an endpoint, the server
│   └── Unavailable            an answer, but not now: busy database, full disk, paused automation
└── Permanent                  the same call will fail the same way
    ├── BadInput               what, where, what to do                    HTTP 422   exit 2
    ├── NotFound               no such thing                              HTTP 404   exit 2
    ├── Conflict               it is already otherwise                    HTTP 409   exit 1
    │   └── Refused            the lifecycle, the brake or a lock says no HTTP 409   exit 1
    ├── Gone                   it was, and is no more: an expired cursor  HTTP 410   exit 1
    ├── Unauthenticated        who are you                                HTTP 401   exit 2
    ├── Forbidden              you may not                                HTTP 403   exit 2
    └── WrongVersion           a database or peer of another version      HTTP 500   exit 2

Messages are whole sentences: what happened, where, what to do. Faces print them as they are; `http/problems.py` turns
them into problem documents (RFC 9457) and `cli/` into one line and an exit status.
"""

from __future__ import annotations


class OstlerError(Exception):
    """Ostler could not do what was asked."""

    status = 500
    exit_code = 1
    title = "Internal error"

    def __init__(self, message: str = "", *, where: str = "") -> None:
        self.message = message or (self.__doc__ or "").strip().splitlines()[0]
        self.where = where
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message


class Temporary(OstlerError):
    """It may pass by itself; try again later."""

    status = 503
    title = "Temporarily unavailable"

    def __init__(self, message: str = "", *, where: str = "", delay: float = 10.0) -> None:
        super().__init__(message, where=where)
        self.delay = delay
        """Seconds after which another try makes sense."""


class Unreachable(Temporary):
    """No answer from the other side."""

    title = "Unreachable"


class Unavailable(Temporary):
    """The other side answers, but cannot do this now."""


class Permanent(OstlerError):
    """The same call will fail the same way."""


class BadInput(Permanent):
    """The input is not what this needs."""

    status = 422
    exit_code = 2
    title = "Bad input"


class NotFound(Permanent):
    """No such thing."""

    status = 404
    exit_code = 2
    title = "Not found"


class Conflict(Permanent):
    """It is already otherwise."""

    status = 409
    title = "Conflict"


class Refused(Conflict):
    """The lifecycle, the brake or a lock says no."""

    title = "Refused"


class Gone(Permanent):
    """It was, and is no more."""

    status = 410
    title = "Gone"


class Unauthenticated(Permanent):
    """Who are you? Send a valid token or certificate."""

    status = 401
    exit_code = 2
    title = "Unauthenticated"


class Forbidden(Permanent):
    """You may not do this."""

    status = 403
    exit_code = 2
    title = "Forbidden"


class WrongVersion(Permanent):
    """The database or the peer is of another version."""

    exit_code = 2
    title = "Wrong version"
