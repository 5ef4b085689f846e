"""Ostler: a self-hosted control plane for GPU fleets.

The map of this package is docs/architecture.md. Imports point one way:
app > faces (http, console, cli) > features > jobs, adapters > db > wire, faults > core.
"""

__version__ = "0.1.0"
