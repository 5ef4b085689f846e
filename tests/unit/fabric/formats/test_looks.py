"""Which reader takes which file, and that none takes long to say so."""

from __future__ import annotations

import pytest

from ostler.core.errors import BadInput
from ostler.fabric.formats import FORMATS, read, sniff
from tests.unit.fabric.formats import outputs
from tests.unit.fabric.formats.hostile import ENDLESS

GOOD = {
    "ibdiagnet-db-csv": [outputs.DB_CSV],
    "ibdiagnet-net-dump": [outputs.NET_DUMP, outputs.NET_DUMP_EXT],
    "ufm": [outputs.UFM],
    "mlxlink": [outputs.MLXLINK],
    "perfquery": [outputs.PERFQUERY, outputs.EXTENDED],
    "ibqueryerrors": [outputs.IBQUERYERRORS, outputs.DATA_COUNTERS],
}


@pytest.mark.parametrize(("format", "data"), [(format, data) for format, files in GOOD.items() for data in files])
def test_one_reader_fits(format: str, data: bytes) -> None:
    assert sniff(data, "x") == format
    assert read(data, "x")[0].source == format


@pytest.mark.parametrize("format", sorted(GOOD))
@pytest.mark.parametrize("data", ENDLESS, ids=range(len(ENDLESS)))
def test_endless_files_end(format: str, data: bytes) -> None:
    with pytest.raises(BadInput):
        FORMATS[format](data * 3, "x")
    with pytest.raises(BadInput):
        sniff(data, "x")
