"""What a recognised machine boots, and which joins are believed, as tables."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ostler.nodes.model import Capability, Node, Pool, Service, State
from ostler.provisioning.model import Boot, JoinFault
from ostler.provisioning.policy import IssuedToken, decide_boot, judge_join
from ostler.wire.agent import JoinRequest

NODE = Node(
    id="node_a",
    name="gpu-1",
    serial="SN1",
    uuid=None,
    slot=None,
    pool="gpu",
    sku=None,
    service=Service.MANAGED,
    bmc_address=None,
    bmc_secret=None,
    state=State.PRODUCTION,
    state_since=0.0,
    state_deadline=None,
    pending_state=None,
    pending_reason=None,
    pending_deadline=None,
    revision=0,
    maintenance_by=None,
    power_locked=False,
    cordoned=None,
    boot_id=None,
    last_seen=None,
    agent_version=None,
    driver=None,
    busy=False,
    inventory={},
    created_at=0.0,
)
GRANTED = Pool("gpu", frozenset({Capability.OBSERVE, Capability.PROVISION}))


@pytest.mark.parametrize("state", [state for state in State if state is not State.RETIRED])
def test_a_node_of_the_fleet_gets_its_image_in_every_state(state: State) -> None:
    assert decide_boot(replace(NODE, state=state), GRANTED).boot is Boot.IMAGE


@pytest.mark.parametrize("state", list(State))
def test_without_the_grant_a_machine_boots_from_its_own_disk(state: State) -> None:
    decision = decide_boot(replace(NODE, state=state), Pool("gpu"))
    assert decision.boot is Boot.LOCAL
    assert state is State.RETIRED or "does not grant provision" in decision.why


def test_a_retired_machine_is_left_alone() -> None:
    assert decide_boot(replace(NODE, state=State.RETIRED), GRANTED).boot is Boot.LOCAL


TOKEN = IssuedToken(
    node_id="node_a",
    node_name="gpu-1",
    node_serial="SN1",
    retired=False,
    mac="02:00:00:00:00:01",
    serial="SN1",
    nonce="n1",
    expires_at=100.0,
    used_at=None,
)
REQUEST = JoinRequest("secret", "n1", "02:00:00:00:00:01", "SN1", "", "csr", "1.0")


@pytest.mark.parametrize(
    ("request_", "token"),
    [
        (REQUEST, TOKEN),
        (replace(REQUEST, serial=" SN1 "), TOKEN),
        (REQUEST, replace(TOKEN, serial="")),
        (replace(REQUEST, serial="Default string"), replace(TOKEN, serial="", node_serial=None)),
        (REQUEST, replace(TOKEN, mac="")),
    ],
    ids=["all-agree", "padded", "ipxe-saw-no-serial", "no-serial-anywhere", "no-mac-in-the-books"],
)
def test_believed(request_: JoinRequest, token: IssuedToken) -> None:
    assert judge_join(request_, token, real=99.9) is None


@pytest.mark.parametrize(
    ("request_", "token", "fault"),
    [
        (REQUEST, None, JoinFault.UNKNOWN),
        (replace(REQUEST, nonce="n2"), TOKEN, JoinFault.NONCE),
        (replace(REQUEST, mac="02:00:00:00:00:02"), TOKEN, JoinFault.MAC),
        (replace(REQUEST, mac=""), TOKEN, JoinFault.MAC),
        (replace(REQUEST, serial="SN2"), TOKEN, JoinFault.SERIAL),
        (replace(REQUEST, serial=""), TOKEN, JoinFault.SERIAL),
        (replace(REQUEST, serial="SN2"), replace(TOKEN, serial=""), JoinFault.SERIAL),
        (replace(REQUEST, serial=""), replace(TOKEN, mac=""), JoinFault.SERIAL),
        (replace(REQUEST, nonce="n2"), replace(TOKEN, mac=""), JoinFault.NONCE),
        (REQUEST, replace(TOKEN, retired=True), JoinFault.RETIRED),
        (REQUEST, replace(TOKEN, used_at=50.0), JoinFault.USED),
        (REQUEST, replace(TOKEN, expires_at=10.0), JoinFault.EXPIRED),
        (REQUEST, replace(TOKEN, expires_at=99.9), JoinFault.EXPIRED),
        (replace(REQUEST, mac="02:00:00:00:00:02"), replace(TOKEN, used_at=50.0), JoinFault.MAC),
    ],
)
def test_refused(request_: JoinRequest, token: IssuedToken | None, fault: JoinFault) -> None:
    refusal = judge_join(request_, token, real=99.9)
    assert refusal is not None
    assert refusal.fault is fault
    assert "\n" not in refusal.message
    assert "secret" not in refusal.message
