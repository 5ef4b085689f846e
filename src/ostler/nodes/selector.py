"""Selectors such as `pool=h100,rack=r1,state!=triage`: how faces name many nodes (`-l`). Used by `nodes/api.py`."""

from __future__ import annotations

import re

import sqlalchemy as sa

from ostler.core.errors import BadInput
from ostler.db.schema import node, slot
from ostler.nodes.model import State

_TERM = re.compile(r"^\s*(\w+)\s*(!=|=)\s*([\w./:@-]+)\s*$")

FIELDS: dict[str, sa.ColumnElement[str]] = {
    "name": node.c.name,
    "state": node.c.state,
    "pool": node.c.pool,
    "sku": node.c.sku,
    "slot": node.c.slot,
    "service": node.c.service,
    "serial": node.c.serial,
    "site": sa.select(slot.c.site).where(slot.c.name == node.c.slot).scalar_subquery(),
    "row": sa.select(slot.c.row).where(slot.c.name == node.c.slot).scalar_subquery(),
    # As every list shows it: SITE/ROW/RACK, since each row has an r1.
    "rack": sa.select(sa.func.coalesce(slot.c.domains["rack"].as_string(), slot.c.rack))
    .where(slot.c.name == node.c.slot)
    .scalar_subquery(),
}


def parse(selector: str) -> sa.ColumnElement[bool]:
    """A condition on `node`; terms are joined by "and". Raises `BadInput` naming the term."""
    terms: list[sa.ColumnElement[bool]] = []
    for text in filter(None, (part.strip() for part in selector.split(","))):
        match = _TERM.match(text)
        if match is None:
            raise BadInput(f"'{text}' is no FIELD=VALUE or FIELD!=VALUE.", where="selector")
        name, operator, value = match.groups()
        if name not in FIELDS:
            raise BadInput(f"No field '{name}'; known are {', '.join(FIELDS)}.", where="selector")
        if name == "state" and value not in set(State):
            raise BadInput(f"No state '{value}'; known are {', '.join(State)}.", where="selector")
        column = FIELDS[name]
        terms.append(column == value if operator == "=" else column.is_distinct_from(value))
    return sa.and_(sa.true(), *terms)
