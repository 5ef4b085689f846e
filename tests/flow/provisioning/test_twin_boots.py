"""A simulated machine, which has a boot loader of its own writing, boots through the real listener over real HTTP."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from ostler.acceptance import policy, sku
from ostler.core.clock import ManualClock
from ostler.db.engine import Database
from ostler.http.boot import boot_app
from ostler.http.listeners import Listener, Listeners
from ostler.nodes.model import Capability, State
from ostler.provisioning import boot_api
from ostler.provisioning.model import ProvisioningSettings, Trust
from ostler.twin import netboot, spec
from ostler.wire.boot import Seed
from ostler.wire.decode import encode
from tests.flow.provisioning.site import Site

TRUST = Trust("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "cd" * 32, b"k" * 32)


@pytest.fixture
def boot_url(sqlite_db: Database, tmp_path: Path) -> Iterator[str]:
    images = tmp_path / "images"
    images.mkdir()
    for name in ("vmlinuz", "initrd"):
        (images / name).write_bytes(b"\0" * 100)
    settings = ProvisioningSettings(server_url="https://127.0.0.1:8472", image_folder=str(images), retry_s=1)
    app = boot_app([boot_api.router(sqlite_db, settings, TRUST)])
    listeners = Listeners([Listener("boot", "[server] boot_listen", "127.0.0.1", 0, app)])
    listeners.start()
    yield listeners.bound["boot"].url
    listeners.stop()


def run(machine: Generator[float, None, Seed | None]) -> Seed | None:
    """To the end; a machine that is told to wait more than a few times is an error here."""
    try:
        for _ in range(3):
            next(machine)
    except StopIteration as stop:
        end: Seed | None = stop.value
        return end
    raise AssertionError("it was told to wait")


def test_it_gets_its_seed(boot_url: str, sqlite_db: Database, clock: ManualClock, tmp_path: Path) -> None:
    site = Site(sqlite_db, clock, tmp_path)
    (machine,) = spec.fleet(1, 7)
    seed = run(netboot.boot(machine, boot_url))
    assert seed is not None
    assert (seed.server, seed.mac, seed.ca_sha256) == ("https://127.0.0.1:8472", machine.mac, "cd" * 32)
    (node,) = site.nodes()
    assert (node.serial, node.state) == (machine.serial, State.DISCOVERED)


def test_it_boots_from_its_own_disk_where_provisioning_is_not_granted(
    boot_url: str, sqlite_db: Database, clock: ManualClock, tmp_path: Path
) -> None:
    Site(sqlite_db, clock, tmp_path).define_pool(frozenset({Capability.OBSERVE}))
    (machine,) = spec.fleet(1, 7)
    assert run(netboot.boot(machine, boot_url)) is None


def test_the_twins_own_sku_fits_its_machines() -> None:
    model = sku.parse("twin", spec.sku_document())
    for machine in spec.fleet(4, 7):
        host = json.loads(encode(machine.inventory(machine.firmware)))
        assert policy.compare_inventory(model, host, None).mismatches == ()
