"""Fixtures that several files share: the console's, and the desk of the fabric's files."""

from tests.e2e.console_site import browser, page, serve
from tests.e2e.fabric_desk import desk

__all__ = ["browser", "desk", "page", "serve"]
