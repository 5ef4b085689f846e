"""Reading single Redfish documents: odd values, names, the choice of what counts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostler.adapters.bmc import redfish_tree
from ostler.adapters.bmc.fake import version_in
from ostler.adapters.bmc.port import Health, TaskState
from ostler.adapters.bmc.redfish import _task
from ostler.adapters.bmc.redfish_transport import printable
from ostler.adapters.bmc.redfish_wire import Answer, base_url
from ostler.core.errors import BadInput

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(json_values, st.sampled_from(["Status", "Members", "@odata.id", "Reading"]))
def test_no_document_makes_a_reader_fail(value: Any, key: str) -> None:
    document = {key: value}
    redfish_tree.child(document, key, "x")
    redfish_tree.children(document, key)
    redfish_tree.texts(document, key)
    redfish_tree.health(document)
    assert redfish_tree.text(document, key).isprintable() or redfish_tree.text(document, key) == printable(value)
    found = redfish_tree.path_of(document)
    assert found is None or found.startswith("/redfish/")
    number = redfish_tree.number(document, key)
    assert number is None or abs(number) < float("inf")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, 1.0),
        ("2.5", 2.5),
        (True, None),
        ("warm", None),
        (float("nan"), None),
        ("inf", None),
        (None, None),
        ([], None),
    ],
)
def test_numbers(value: object, expected: float | None) -> None:
    assert redfish_tree.number({"Reading": value}, "Reading") == expected


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("10.0.0.7", "https://10.0.0.7"),
        ("bmc-1.example:8443", "https://bmc-1.example:8443"),
        ("http://[fe80::1]:80/", "http://[fe80::1]:80"),
    ],
)
def test_addresses(address: str, expected: str) -> None:
    assert base_url(address) == expected


def test_a_password_in_an_address_is_not_repeated() -> None:
    with pytest.raises(BadInput) as caught:
        base_url("https://admin:hunter2@10.0.0.7")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "document", "state", "percent"),
    [
        (200, {"TaskState": "New"}, TaskState.RUNNING, None),
        (202, {"TaskState": "Running", "PercentComplete": 40}, TaskState.RUNNING, 40),
        (200, {"TaskState": "Running", "PercentComplete": 4000}, TaskState.RUNNING, None),
        (200, {"TaskState": "Completed", "TaskStatus": "OK"}, TaskState.DONE, 100),
        (200, {"TaskState": "Completed", "TaskStatus": "Critical"}, TaskState.FAILED, 100),
        (200, {"TaskState": "Exception"}, TaskState.FAILED, None),
        (200, {"TaskState": "Cancelled"}, TaskState.FAILED, None),
        (200, {"TaskState": "SomethingNew"}, TaskState.RUNNING, None),
        (202, {}, TaskState.RUNNING, None),
        (204, {}, TaskState.DONE, 100),
    ],
)
def test_task_states(status: int, document: dict[str, Any], state: TaskState, percent: int | None) -> None:
    found = _task("t", Answer(status, {}, document))
    assert (found.state, found.percent) == (state, percent)


def test_health_that_is_not_said_is_not_ok() -> None:
    assert redfish_tree.health({"Status": {"Health": "Fine"}}) is Health.UNKNOWN
    assert redfish_tree.health({}) is Health.UNKNOWN
    assert redfish_tree.health({"Status": {"Health": "OK"}}) is Health.OK


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://f/HGX_FW_BMC_0-24.10.1.fwpkg", "24.10.1"),
        ("https://f/x", "x"),
        ("ftp://f/x-1.bin", None),
        ("http://f/", None),
    ],
)
def test_versions_of_simulated_images(url: str, expected: str | None) -> None:
    assert version_in(url) == expected
