"""The subjects of the BMC contract as fixtures: `subject` is any of them, `writable` and `full` those that can."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ostler.adapters.bmc.port import Identity
from tests.contract.bmc import subjects
from tests.contract.bmc.subjects import Subject

_RECORDED = {
    "gh200": (Identity("1580624650610", "1e90aa6e-6d05-9589-2253-ce7672d02d26", "NVIDIA", "P3809"), 2),
    "dell_poweredge_r750": (
        Identity("F54P1G3", "4c4c4544-0035-3410-8050-c6c04f314733", "Dell Inc.", "PowerEdge R750"),
        1,
    ),
}


@pytest.fixture(scope="session")
def sushy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    with subjects.sushy(tmp_path_factory.mktemp("sushy")) as subject:
        yield subject


def _subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    with ExitStack() as stack:
        if request.param == "fake":
            yield subjects.fake()
        elif request.param == "twin":
            yield stack.enter_context(subjects.twin())
        elif request.param == "sushy":
            yield request.getfixturevalue("sushy")
        else:
            real: Path = request.getfixturevalue("real_data")
            archive = real / "redfish" / f"{request.param}.tar.gz"
            if not archive.is_file():
                pytest.skip(f"no recorded tree at {archive}")
            yield stack.enter_context(subjects.recorded(archive, *_RECORDED[request.param]))


subject = pytest.fixture(params=["fake", "twin", "sushy", *_RECORDED])(_subject)
writable = pytest.fixture(params=["fake", "twin", "sushy"])(_subject)
full = pytest.fixture(params=["fake", "twin"])(_subject)
