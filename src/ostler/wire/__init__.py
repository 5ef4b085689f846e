"""Messages between agent, collectors and server: frozen stdlib dataclasses and one strict decoder (docs/wire.md).

Used by `agent/`, `twin/`, `sdk/` and the server's features. Imports core only, so that the agent stays light.
"""
