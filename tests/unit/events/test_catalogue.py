"""The catalogue of events: the guide's five to the letter, and payloads checked as their schemas say."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest

from ostler.events.catalogue import CATALOGUE, known, matches
from ostler.events.event_type import CatalogueMismatch
from tests.conftest import REPOSITORY

GUIDE = {
    "instance.ready": {"instance_id": "string", "gpu_type": "string", "ip_address": "string"},
    "job.completed": {"job_id": "string", "output_path": "string", "duration_seconds": "number"},
    "volume.attached": {"volume_id": "string", "node_name": "string", "mount_path": "string"},
    "node.unhealthy": {"node_id": "string", "reason": "string", "gpu_count": "integer"},
    "instance.terminated": {"instance_id": "string", "exit_code": "integer", "gpu_type": "string"},
}
GOOD = {"string": "x", "number": 1.5, "integer": 3}


@pytest.mark.parametrize("name", GUIDE)
def test_the_guides_types_have_exactly_its_fields(name: str) -> None:
    kind = CATALOGUE[name]
    assert {field.name: field.type for field in kind.fields} == GUIDE[name]
    payload = {field: GOOD[type] for field, type in GUIDE[name].items()}
    kind.check(payload)
    with pytest.raises(CatalogueMismatch):
        kind.check({**payload, "more": 1})
    for field in payload:
        with pytest.raises(CatalogueMismatch):
            kind.check({k: v for k, v in payload.items() if k != field})
        with pytest.raises(CatalogueMismatch):
            kind.check({**payload, field: None})
        with pytest.raises(CatalogueMismatch):
            kind.check({**payload, field: True})


@pytest.mark.parametrize("name", CATALOGUE)
def test_schemas_are_schemas_and_say_what_check_does(name: str) -> None:
    kind = CATALOGUE[name]
    schema = kind.schema()
    assert jsonschema_rs.meta.is_valid(schema)
    good = {
        field.name: {"string": "x", "number": 1.5, "integer": 3, "boolean": True, "object": {}, "array": []}[field.type]
        for field in kind.fields
    }
    kind.check(good)
    assert jsonschema_rs.is_valid(schema, good)
    for field in kind.fields:
        values: tuple[Any, ...] = (None, 7, "x", True, [], {})
        for bad in values:
            mutated = {**good, field.name: bad}
            by_schema = jsonschema_rs.is_valid(schema, mutated)
            try:
                kind.check(mutated)
                by_check = True
            except CatalogueMismatch:
                by_check = False
            assert by_check == by_schema, (field.name, bad)


def test_patterns() -> None:
    assert matches("*", "node.healthy")
    assert matches("node.*", "node.healthy")
    assert not matches("node.*", "nodes.healthy")
    assert not matches("nod*", "node.healthy")
    assert known("node.*")
    assert known("*")
    assert not known("gpu.*")
    assert not known("")
    assert not known("*.healthy")


def test_the_documentation_lists_every_type() -> None:
    page = (REPOSITORY / "docs" / "events.md").read_text()
    assert [name for name in CATALOGUE if f"`{name}`" not in page] == []
