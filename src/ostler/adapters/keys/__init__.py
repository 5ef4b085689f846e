"""Secrets and certificates: `port` is what callers see; `file` and `fake` keep secrets, `authority` signs."""
