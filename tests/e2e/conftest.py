"""Fixtures of the console's tests, which several files share."""

from tests.e2e.console_site import browser, page, serve

__all__ = ["browser", "page", "serve"]
