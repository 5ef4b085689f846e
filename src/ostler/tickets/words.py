"""A ticket's plugs and steps in words, and the code that leads a phone to its page. Pure; used by API, console and CLI.

Texts come from switches' descriptions and people: whoever prints them escapes them.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import segno


def plug(said: Mapping[str, Any]) -> str:
    """`gpu-0001 (R03 U17) mlx5_0`; the front panel's word for the port where it has one, `leaf01 (R10 U40) 18/1`."""
    place = f"({said['place']})" if said.get("place") else ""
    return " ".join(part for part in (said["chassis"], place, port(said)) if part)


def port(said: Mapping[str, Any]) -> str:
    """What stands beside the port."""
    return str(said.get("label") or said.get("port") or "")


def way(step: Mapping[str, Any]) -> str:
    """`gpu-0001 (R03 U17) mlx5_0 → mlx5_1`: which plug, and where it goes; empty where no plug is named."""
    at, to = step.get("at"), step.get("to")
    if not at:
        return plug(to) if to else ""
    if not to:
        return plug(at)
    return f"{plug(at)} → {port(to) if to['chassis'] == at['chassis'] and port(to) else plug(to)}"


def step(said: Mapping[str, Any]) -> str:
    """One step in one line."""
    parts = [str(said["do"])]
    if found := way(said):
        parts.append(found)
    if said.get("stays"):
        parts.append(f"({plug(said['stays'])} stays)")
    if said.get("cable_serial"):
        parts.append(f"cable {said['cable_serial']}")
    return " ".join(parts)


def safety(safe: Mapping[str, Any]) -> str:
    """Whether hands may go there, in words: they stand where a colour is not seen."""
    told = {True: "Safe to touch", False: "Do not touch", None: "Nobody can tell whether it is safe to touch"}
    why = str(safe.get("why") or "")
    return told[safe.get("safe")] + (f": {why}" if why else ".")


def address(console_url: str, ticket_id: str) -> str:
    """Where a ticket's page is."""
    return f"{console_url.rstrip('/')}/tickets/{quote(ticket_id, safe='')}"


def qr_svg(text: str) -> bytes:
    """The text as a QR code (ISO/IEC 18004, error correction M or better, its quiet zone of 4 modules), an SVG that
    scales. Black on white whatever the page's colours are, because scanners want it so.
    """
    out = io.BytesIO()
    code = segno.make(text, error="m", micro=False)
    code.save(out, kind="svg", border=4, dark="#000", light="#fff", xmldecl=True, omitsize=True, svgclass=None)
    return out.getvalue()
