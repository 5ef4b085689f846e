"""What a type of event is: its fields, its JSON Schema, and the check before anything is published.

The list of types is `catalogue.py`; `service.publish` checks every payload against it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_CHECKS: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list,),
}


class CatalogueMismatch(ValueError):
    """An event was published that its catalogue entry does not allow: a bug of the publisher, never a user's
    mistake.
    """


@dataclass(frozen=True)
class Field:
    """One field of a payload. `type` is JSON Schema's word."""

    name: str
    type: str
    description: str
    required: bool = True
    nullable: bool = False


@dataclass(frozen=True)
class EventType:
    """A type of event. `exact`: the payload has these fields and no others; else more may be there, undocumented."""

    name: str
    summary: str
    subject: str
    """What kind of thing its subject is."""
    fields: tuple[Field, ...]
    version: int = 1
    exact: bool = False

    def schema(self) -> dict[str, Any]:
        """The JSON Schema (2020-12) of the payload."""
        properties: dict[str, Any] = {}
        for field in self.fields:
            kind: Any = [field.type, "null"] if field.nullable else field.type
            properties[field.name] = {"type": kind, "description": field.description}
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": self.name,
            "description": self.summary,
            "type": "object",
            "properties": properties,
            "required": [field.name for field in self.fields if field.required],
            "additionalProperties": not self.exact,
        }

    def check(self, data: Mapping[str, Any]) -> None:
        """Raise `CatalogueMismatch` unless the payload is as described."""
        for field in self.fields:
            if field.name not in data:
                if field.required:
                    raise CatalogueMismatch(f"{self.name}: '{field.name}' is missing from {sorted(data)}")
                continue
            value = data[field.name]
            if value is None and field.nullable:
                continue
            wrong_bool = isinstance(value, bool) and field.type != "boolean"
            if wrong_bool or not isinstance(value, _CHECKS[field.type]):
                raise CatalogueMismatch(
                    f"{self.name}: '{field.name}' is {type(value).__name__} and should be {field.type}"
                )
        if self.exact:
            extra = set(data) - {field.name for field in self.fields}
            if extra:
                raise CatalogueMismatch(f"{self.name}: {sorted(extra)} is not in the catalogue")
