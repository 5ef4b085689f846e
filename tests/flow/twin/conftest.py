"""Fixtures: a running server, and a small fleet that is in production on it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from ostler.app import Server
from tests.flow.twin.world import World, start_server, until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = start_server(tmp_path_factory.mktemp("server"), time.time())
    yield running
    running.stop()


@pytest.fixture(scope="module")
def world(server: Server) -> Iterator[World]:
    """Four machines that have come all the way from power-on to production, and one that was adopted as it ran."""
    made = World(server, 4, others=1)
    with made.fleet:
        made.api.enrol(made.specs, made.fleet.bmc_addresses)
        for name, seed in made.api.adopt(made.others, made.fleet.bmc_addresses, pool="observed").items():
            made.fleet.hand_over(name, seed)
        made.fleet.power_on(but={spec.name for spec in made.others})
        until(made.in_production)
        yield made
