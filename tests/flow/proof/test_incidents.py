"""Every incident that ships, through the real services: what must be decided is, and a near-miss never acts."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from ostler.config import Config, load
from ostler.proof import recording
from ostler.proof.replay import replay

SHIPPED = recording.shipped()


def policy(environment: Mapping[str, str]) -> Config:
    return load(None, environment)


@pytest.mark.parametrize("name", SHIPPED)
def test_what_is_expected_of_an_incident_happens(name: str) -> None:
    played = replay(recording.find(name), policy)
    assert played.failed == []
    if name.endswith(".near"):
        assert [one for one in played.decisions if one["verdict"] == "act"] == []


def test_every_incident_has_its_near_miss() -> None:
    incidents = {name for name in SHIPPED if not name.endswith(".near")}
    assert incidents == {name.removesuffix(".near") for name in SHIPPED if name.endswith(".near")}
    assert len(incidents) >= 20


@pytest.mark.parametrize("name", SHIPPED)
def test_every_recording_expects_something(name: str) -> None:
    expected = [one.value for one in recording.find(name).expected]
    assert expected
    if name.endswith(".near"):
        assert any("never" in one and not one["never"] and one.get("node", "*") == "*" for one in expected)
