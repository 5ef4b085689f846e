"""The API keeps what its OpenAPI document says: the committed document is the real one, and generated requests of every
operation, good and bad, are never answered with an error of the server or with something undocumented.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import schemathesis
from prometheus_client import CollectorRegistry
from schemathesis.generation import GenerationMode
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

from ostler import app
from ostler.adapters.keys.file import FileSecrets
from ostler.config import load
from ostler.core.actor import Actor
from ostler.core.clock import ManualClock
from ostler.db.engine import Database
from ostler.db.migrate import migrate
from ostler.http.auth import Doorkeeper
from ostler.http.operator import operator_app
from ostler.nodes import service as nodes
from ostler.nodes.model import Pool, State
from scripts import openapi_document

CHECKS = [content_type_conformance, response_schema_conformance]
ADMIN = "an-admin-secret-of-the-environment"


def test_the_committed_document_is_the_real_one(tmp_path: Path) -> None:
    real = openapi_document.text(openapi_document.document(tmp_path))
    assert openapi_document.COMMITTED.read_text() == real, "the API changed: run 'make generate' and look at the diff"


def test_every_operation_says_who_may_and_what_it_does(tmp_path: Path) -> None:
    found = openapi_document.document(tmp_path)
    assert found["openapi"].startswith("3.1")
    for path, methods in found["paths"].items():
        for method, operation in methods.items():
            assert operation.get("security"), f"{method} {path} asks for no token"
            assert operation["summary"], f"{method} {path}"
            assert operation["tags"], f"{method} {path}"


def _operations() -> list[tuple[str, str]]:
    """Every operation of the committed document but the stream: it never ends; the tests of events read it."""
    paths = json.loads(openapi_document.COMMITTED.read_text())["paths"]
    return [(method, path) for path in paths for method in paths[path] if path != "/v1/events/stream"]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BaseSchema]:
    """The whole API on a database with one node, as schemathesis sees it. One for all: what others left is welcome."""
    folder = tmp_path_factory.mktemp("api")
    migrate(f"sqlite:///{folder / 'ostler.db'}")
    db = Database(f"sqlite:///{folder / 'ostler.db'}", ManualClock())
    mara = Actor("person:mara")
    db.write(lambda tx: nodes.define_pool(tx, Pool("train"), actor=mara))
    db.write(
        lambda tx: nodes.register(tx, name="gpu-1", pool="train", actor=mara, cause="adopt", state=State.PRODUCTION)
    )
    door = Doorkeeper(db, ADMIN)
    routers = app.routers(load(None, {}), db, door.authorize, FileSecrets(folder / "secrets"), lambda: True)
    yield schemathesis.openapi.from_asgi("/openapi.json", operator_app(routers, registry=CollectorRegistry()))
    db.close()


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value)
@pytest.mark.parametrize(("method", "path"), _operations())
def test_generated_requests(api: BaseSchema, method: str, path: str, mode: GenerationMode) -> None:
    operation = api[path][method]
    if mode is GenerationMode.NEGATIVE and not (operation.body or operation.query):
        return  # nothing that could be wrong

    @hypothesis.settings(
        max_examples=10,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    def answers(case: schemathesis.Case[Any]) -> None:
        if mode is GenerationMode.POSITIVE and "node" in case.path_parameters:
            case.path_parameters["node"] = "gpu-1"  # so that something is done
        answer = case.call(headers={"Authorization": f"Bearer {ADMIN}"})
        case.validate_response(answer, checks=CHECKS)
        assert answer.status_code < 500 or answer.status_code == 503, answer.text
        if answer.status_code >= 400:
            problem = json.loads(answer.content)
            assert problem["status"] == answer.status_code
            assert problem["detail"]

    answers()
