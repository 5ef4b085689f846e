"""From Prometheus' answers to faults: the mapping, hostile labels, silence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from ostler.core.errors import Unavailable
from ostler.faults.model import Action, Severity
from ostler.faults.monitored import MONITORED
from ostler.health import prometheus_rules as rules
from ostler.health.prometheus import PrometheusSettings, node_of
from ostler.health.prometheus_rules import Sample

PCI = "0000:1b:00.0"


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.name)
def test_every_rule_ends_in_a_fault_of_the_table_that_says_its_value(rule: rules.Rule) -> None:
    (fault,) = rules.faults_of([Sample(rule.name, "n1", PCI, 79)])["n1"]
    assert f"{fault.kind}-{fault.code}" == (rule.fault or "xid-79")
    assert rule.fault == "" or rule.fault in MONITORED
    assert fault.device == PCI
    assert fault.detail["rule"] == rule.name
    assert "{" not in fault.message
    assert "{on}" not in rule.query("Hostname")


def test_names_are_not_given_twice() -> None:
    assert len(rules.BY_NAME) == len(rules.RULES)


def test_no_samples_are_no_faults() -> None:
    assert rules.faults_of([]) == {}


def test_an_xid_is_the_catalogues() -> None:
    (fault,) = rules.faults_of([Sample("xid", "n1", PCI, 79)])["n1"]
    assert (fault.kind, fault.code, fault.severity, fault.action) == ("xid", "79", Severity.FATAL, Action.REBOOT)


@pytest.mark.parametrize("value", [13, 31, 43, 0, -1, 79.5, 1e9, float("nan"), float("inf")])
def test_what_is_the_applications_or_no_xid_is_no_fault(value: float) -> None:
    assert rules.faults_of([Sample("xid", "n1", PCI, value)]) == {}


def test_two_rules_of_one_fault_are_one_fault_and_the_worst_speaks() -> None:
    found = rules.faults_of([Sample("nvlink-recovery", "n1", PCI, 7), Sample("nvlink-crc", "n1", PCI, 900)])
    (fault,) = found["n1"]
    assert "900" in fault.message


def test_nodes_and_devices_stay_apart() -> None:
    other = "0000:43:00.0"
    found = rules.faults_of(
        [Sample("hot", "n1", PCI, 90), Sample("hot", "n1", other, 91), Sample("hot", "n2", PCI, 92)]
    )
    assert [fault.device for fault in found["n1"]] == [PCI, other]
    assert [fault.device for fault in found["n2"]] == [PCI]


@pytest.mark.parametrize(
    ("labels", "device"),
    [
        ({"pci_bus_id": "00000000:1B:00.0", "gpu": "0"}, PCI),
        ({"pci_bus_id": "0000:1b:00.0"}, PCI),
        ({"pci_bus_id": "0000:1B:00"}, PCI),
        ({"pci_bus_id": "00000008:01:00.0"}, "0008:01:00.0"),
        ({"gpu": "3"}, "gpu3"),
        ({"pci_bus_id": "", "gpu": "07"}, "gpu7"),
        ({"pci_bus_id": "0000:1b:00.0\nXid", "gpu": "x"}, ""),
        ({"pci_bus_id": "../../etc", "gpu": "-1"}, ""),
        ({"gpu": "9" * 40}, ""),
        ({"gpu": "٣"}, ""),
        ({}, ""),
    ],
)
def test_a_device_has_one_form_or_none(labels: Mapping[str, str], device: str) -> None:
    assert rules.device_of(labels) == device


def test_series_without_the_node_label_are_nobodys() -> None:
    answer: list[tuple[Mapping[str, str], float]] = [({"gpu": "1"}, 1.0), ({"Hostname": "", "gpu": "1"}, 1.0)]
    assert rules.ask_all(lambda query: answer, "Hostname") == []
    assert rules.gpus(lambda query: answer, "5m", "Hostname") == {}


def test_half_an_answer_is_none() -> None:
    def ask(query: str) -> list[tuple[Mapping[str, str], float]]:
        if "PCIE_REPLAY" in query:
            raise Unavailable("busy")
        return []

    with pytest.raises(Unavailable):
        rules.ask_all(ask, "Hostname")


def test_silence_of_a_node_and_of_a_gpu() -> None:
    known = {"a": {PCI, "0000:43:00.0"}, "b": {PCI}, "c": {PCI}}
    found = rules.coverage(known, {"a": {PCI}, "c": {PCI}, "new": {PCI}})
    assert found.silent == {"b"}
    assert found.lost == {"a": ("0000:43:00.0",)}
    assert found.speaking == {"a", "c", "new"}
    assert [(str(f.kind), f.code, f.device) for f in rules.silence_of("a", found)] == [("gpu", "lost", "0000:43:00.0")]
    assert [(str(f.kind), f.code, f.device) for f in rules.silence_of("b", found)] == [
        ("monitor", "dead", "dcgm-exporter")
    ]
    assert rules.silence_of("c", found) == ()
    lost = rules.silence_of("a", found)
    all_of_a = rules.coverage(known, {"b": {PCI}})
    assert [fault.code for fault in rules.silence_of("a", all_of_a, lost)] == ["lost", "dead"]
    assert [fault.code for fault in rules.silence_of("b", found, rules.silence_of("b", found))] == ["dead"]


@pytest.mark.parametrize(
    ("said", "node"),
    [
        ("n1", "id1"),
        ("n1.site.example", "id1"),
        ("n1:9400", "id1"),
        ("n2.site", "id2"),
        ("n2", None),
        ("x", None),
        ("", None),
    ],
)
def test_a_label_names_a_node_with_or_without_domain_and_port(said: str, node: str | None) -> None:
    assert node_of(said, {"n1": "id1", "n2.site": "id2"}) == node


def test_a_node_label_is_a_label() -> None:
    assert "on (instance, UUID)" in rules.BY_NAME["hot"].query(PrometheusSettings(node_label="instance").node_label)


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "prometheus:9090"}, {"url": "file:///etc/passwd"}, {"node_label": 'x"} or up{y="'}, {"node_label": ""},
        {"node_label": "Hostnäme"}, {"every_s": 1.0}, {"timeout_s": 0.0}, {"silent_after_s": 0.5},
        {"silent_after_s": 3600.0}, {"silent_share": 0.0},
    ],
)  # fmt: skip
def test_settings_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        PrometheusSettings(**wrong)
