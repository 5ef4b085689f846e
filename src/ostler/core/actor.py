"""Who does something, and why: carried from the face (HTTP, CLI, job) to the audit log and the transition record."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Actor:
    """A person, a program with a token, a node's agent, or Ostler itself."""

    name: str
    """`person:mara`, `token:ci`, `node:gpu-0001`, `ostler:remediation`."""
    request_id: str | None = None


def ostler(part: str) -> Actor:
    """Ostler acting by itself; `part` names the feature, e.g. `remediation`."""
    return Actor(f"ostler:{part}")
