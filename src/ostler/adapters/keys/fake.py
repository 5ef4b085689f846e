"""Secrets in memory, for tests. Passes the same contract tests as the file store."""

from __future__ import annotations

from ostler.adapters.keys.port import check_name, check_value
from ostler.core.errors import NotFound


class FakeSecrets:
    """`SecretStore` over a dictionary."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    def put(self, name: str, value: str) -> None:
        check_value(check_name(name), value)
        self.values[name] = value

    def get(self, name: str) -> str:
        if check_name(name) not in self.values:
            raise NotFound(f"There is no secret {name!r}.")
        return self.values[name]

    def delete(self, name: str) -> None:
        self.values.pop(check_name(name), None)
