"""Thin nodes on the real wire: each with its own certificate, sessions resumed, nobody taken for another."""

from __future__ import annotations

import pytest

from ostler.app import Server
from ostler.twin.enrolment import OperatorApi
from ostler.twin.spec import fleet
from ostler.twin.thin import ThinFleet
from ostler.wire.agent import Signal
from tests.flow.twin.world import TOKEN, until


@pytest.mark.parametrize("kept", [0, 100], ids=["a connection per report", "connections kept"])
def test_each_speaks_for_itself(server: Server, kept: int) -> None:
    specs = fleet(12 if kept else 24, 5 + kept)[0 if kept else 12 :]
    api = OperatorApi(server.bound["operator"].url, TOKEN)
    api.enrol(specs, {})
    thin = ThinFleet(specs, server.bound["boot"].url, server.db.clock, workers=2, kept=kept, images=True)
    thin.start()
    try:
        until(lambda: thin.counts().joined == len(specs))
        until(lambda: thin.counts().reports >= 4 * len(specs))
        for number, node in enumerate(thin.nodes):
            signal = Signal(1, 1.0, "kernel", "xid", str(100 + number), "", "gpu", "info", "none", node.spec.name)
            thin.strike(node, signal)
        until(lambda: all(api.call("GET", f"/v1/nodes/{spec.name}/signals")["items"] for spec in specs))
    finally:
        thin.stop()
    counts = thin.counts()
    assert counts.failures == 0, counts.last_error
    for number, spec in enumerate(specs):
        told = api.call("GET", f"/v1/nodes/{spec.name}/signals")["items"]
        assert {(one["message"], one["code"]) for one in told} == {(spec.name, str(100 + number))}
        assert api.call("GET", f"/v1/nodes/{spec.name}")["serial"] == spec.serial
    if kept:
        assert counts.handshakes == len(specs), "one connection each, kept"
    else:
        assert counts.resumed >= counts.handshakes - 2 * len(specs), "the certificate is shown once, then resumed"
        assert counts.resumed > 0
