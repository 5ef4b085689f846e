"""The console's rooms in a real Chromium: now, would act, maintenance, RMA, checks, and the node's page of Day 2+."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from ostler.nodes.model import State
from ostler.oncall.model import OncallSettings
from tests.e2e import console_day2, console_fleet
from tests.e2e.console_site import Serve, Site, keep, needs_chromium

pytestmark = needs_chromium


@pytest.fixture
def busy(serve: Serve) -> Callable[..., tuple[Site, dict[str, str]]]:
    """A fleet on a bad day, and the ids of what there is to see."""

    def start(**settings: object) -> tuple[Site, dict[str, str]]:
        site = serve(**settings)
        return site, site.db.write(lambda tx: console_day2.day(tx, site.ids))

    return start


Busy = Callable[..., tuple[Site, dict[str, str]]]


def rows(page: Page, heading: str) -> list[str]:
    """The lines of the table under a heading, as text."""
    found = page.locator("section").filter(has=page.get_by_role("heading", name=heading)).locator("tbody tr")
    return [" ".join(text.split()) for text in found.all_inner_texts()]


def headline(page: Page) -> dict[str, str]:
    pairs = page.locator(".headline > div")
    return {
        str(pair.locator("dt").text_content()): " ".join(pair.locator("dd").inner_text().split())
        for pair in pairs.all()
    }


def test_now_says_what_calls_what_is_held_and_what_is_at_work(busy: Busy, page: Page) -> None:
    site, _ids = busy()
    page.goto(f"{site.url}/now")
    expect(page.locator("#live")).to_have_attribute("data-live", "on")
    keep(page, "now", full=True)
    assert headline(page) == {
        "call a person": "6",
        "open incident": "1",
        "findings nobody acts on": "4",
        "node held back": "1",
        "at work, 1 drain": "3",
        "maintenance": "3",
        "idle nodes being checked": "1",
    }
    calls = rows(page, "Calls a person")
    assert len(calls) == 6
    assert any("error gpu-0004 remediation of gpu-0004 waits for a person" in line for line in calls)
    assert any(line.endswith("the brake has held back the repair of 1 node for more than 60 min") for line in calls)
    assert not any("gpu-0008: xid" in line for line in calls)  # the node is in its own column
    (cause,) = rows(page, "Open incidents")
    assert "rack r01 fabric 3 3 3 nodes of rack r01 lost links within 20 s" in cause
    stuck, boot, drain = rows(page, "Drains and repairs")
    assert stuck.startswith("gpu-0004 1 h 57 min waits for a person – the step fails: the BMC answers 500")
    assert "gpu-0003 20 min boots reboot for xid-79 booting for 6 min" in (boot, drain)
    assert "reset-gpu for xid-48 draining (allow-completion): 4 left of llama-70b; blocked" in f"{boot} {drain}"
    assert rows(page, "Held back") == [
        "09:43:20 gpu-0013 r02 xid-95 reboot The brake holds: rack r02 has 1 of 1 permits out"
    ]
    gaps = rows(page, "Findings nobody acts on")
    assert any(
        "xid-119 fatal 3 gpu-0008, gpu-0009, gpu-0010 the pool does not grant reboot" in f"{line} " for line in gaps
    )
    assert any("disk-slow 1 gpu-0010 its confidence is low" in line for line in gaps)
    assert len(rows(page, "Maintenance")) == 3
    expect(page.locator(".banner.danger")).to_contain_text("Power is locked on 1 node after a leak")
    expect(page.locator("main")).to_contain_text("No pager is set up")
    assert page.evaluate("window.hacked") is None
    page.emulate_media(color_scheme="light")
    keep(page, "now-light", full=True)


def test_now_with_a_pager_says_so_by_saying_nothing(busy: Busy, page: Page) -> None:
    site, _ids = busy(oncall=OncallSettings(alertmanager=("http://alerts",), held_s=7200.0))
    page.goto(f"{site.url}/now")
    expect(page.locator("main")).not_to_contain_text("No pager is set up")
    assert headline(page)["call a person"] == "5"  # what is held has not been held for two hours


def test_now_in_a_quiet_fleet_has_a_sentence_for_everything(serve: Serve, page: Page) -> None:
    site = serve(nodes=0)
    page.goto(f"{site.url}/now")
    for sentence in (
        "Nothing calls a person now.",
        "No incident is open.",
        "No node is being drained or repaired.",
        "Brake, pauses and locks hold nothing back.",
        "Every serious finding is being acted on, or there is none.",
        "No maintenance is under way or announced.",
    ):
        expect(page.get_by_text(sentence)).to_be_visible()
    keep(page, "now-quiet")
    for path, sentence in (
        ("/would-act", "Nothing in 7 days."),
        ("/maintenance", "No maintenance is announced."),
        ("/rma", "No part is on its way to the vendor."),
        ("/checks", "No idle node was checked in the last 24 h."),
    ):
        page.goto(site.url + path)
        expect(page.locator("main")).to_contain_text(sentence)


def test_now_follows_events_and_keeps_what_is_unfolded(busy: Busy, page: Page) -> None:
    site, _ids = busy()
    page.goto(f"{site.url}/now")
    expect(page.locator("#live")).to_have_attribute("data-live", "on")
    site.db.write(lambda tx: console_day2.finding(tx, site.ids[14], "gpu-lost", message="gone", confidence="low"))
    site.db.write(lambda tx: console_fleet.happen(tx, site.ids[2], "gpu-0002", State.TRIAGE, "PSU failed"))
    expect(page.locator("#h-gaps + .scroll")).to_contain_text("gpu-lost")
    page.goto(f"{site.url}/nodes/gpu-0010")
    expect(page.locator("#live")).to_have_attribute("data-live", "on")
    evidence = page.locator(".finding details").first
    evidence.locator("summary").click()
    site.db.write(lambda tx: console_fleet.happen(tx, site.ids[10], "gpu-0010", State.TRIAGE, "PSU failed"))
    expect(page.locator(".pill")).to_have_text("triage")
    expect(page.locator(".finding details").first).to_have_attribute("open", "")


def test_the_report_says_what_ostler_would_have_done(busy: Busy, page: Page) -> None:
    site, _ids = busy()
    page.goto(f"{site.url}/would-act")
    keep(page, "would-act", full=True)
    assert headline(page) == {"decisions": "5", "nodes": "5", "reboot": "4 nodes", "triage": "1 node"}
    first, second, third = page.locator(".panels section").all()
    expect(first.locator("h2")).to_have_text("reboot for xid-119 immediate · 3 nodes · 3 decisions · 3 still stand")
    expect(first.locator("p").first).to_have_text("Not done: the pool does not grant reboot")
    expect(first.locator("tbody tr").first).to_contain_text(
        "xid-119 on 0000:1b:00.0 is fatal: reboot; its work is lost already: immediate"
    )
    expect(second.locator("h2")).to_have_text("reboot for xid-95 immediate · 1 node · 1 decision · 1 still stands")
    expect(third.locator("h2")).to_have_text(
        "triage for thermal-slowdown pending · 1 node · 1 decision · none stands any more"
    )
    expect(page.get_by_role("link", name="inference")).to_have_text("inference 5 observe only")
    page.get_by_role("link", name="train").click()
    expect(page.locator("main")).to_contain_text("Ostler found nothing in pool train")
    page.get_by_role("link", name="every pool").click()
    page.get_by_role("link", name="30 days").click()
    expect(page.locator(".panels")).to_contain_text("xid-62")
    assert page.url.endswith("/would-act?days=30")


def test_maintenance_is_listed_by_when_and_one_is_on_a_page(busy: Busy, page: Page) -> None:
    site, ids = busy()
    page.goto(f"{site.url}/maintenance")
    keep(page, "maintenance", full=True)
    (current,) = rows(page, "Under way")
    assert "draining overdue by 10 min" in current
    assert "rack r01 planned 1 waiting, 1 draining, 6 out swap the PDU person:mara" in current
    soon, later = rows(page, "Announced")
    assert "announced in 5 h 00 min" in soon and "node gpu-0010" not in soon and "gpu-0010 planned" in soon
    assert "from 2026-11-27 11:06 for good gpu-0015 retirement" in later
    (over,) = rows(page, "Over")
    assert over.startswith("done ended 2026-11-16 10:36 2026-11-16 09:06 – 11:06 rack r02 planned 8 returned")
    page.get_by_role("link", name="draining").click()
    expect(page).to_have_url(f"{site.url}/maintenance/{ids['window']}")
    expect(page.locator("h1")).to_have_text("swap the PDU")
    assert rows(page, "Nodes")[2] == "gpu-0002 r01 production waiting its firmware is being written"
    expect(page.locator(".story li").first).to_contain_text("draining")
    expect(page.locator(".story li").last).to_contain_text("swap the PDU, notice given")
    keep(page, "maintenance-one", full=True)
    answer = page.request.get(f"{site.url}/maintenance/mnt_none")
    assert answer.status == 404
    assert "No maintenance has the id &#39;mnt_none&#39;." in answer.text()


def test_rma_cases_are_listed_and_one_is_on_a_page(busy: Busy, page: Page) -> None:
    site, ids = busy()
    page.goto(f"{site.url}/rma")
    keep(page, "rma", full=True)
    (opened,) = rows(page, "Open")
    assert f"shipped for 3 d gpu-0010 gpu 0000:1b:00.0 {console_day2.GPU_SERIAL} xid-48 NV-4711" in opened
    (closed,) = rows(page, "Closed")
    assert "refused gpu-0012 psu – – – out of warranty" in closed
    page.get_by_role("link", name="shipped").click()
    expect(page).to_have_url(f"{site.url}/rma/{ids['case']}")
    expect(page.locator("h1")).to_have_text("gpu 0000:1b:00.0 of gpu-0010")
    expect(page.locator(".story")).to_contain_text("parcel 1Z999")
    expect(page.locator(".card")).to_contain_text("Replace gpu 0000:1b:00.0. Send the old one back.")
    expect(page.locator("main")).to_contain_text(f"ostler rma export {ids['case']}")
    keep(page, "rma-one", full=True)


def test_checks_count_each_node_by_its_last_run(busy: Busy, page: Page) -> None:
    site, _ids = busy()
    page.goto(f"{site.url}/checks")
    keep(page, "checks", full=True)
    assert headline(page) == {
        "passed": "9",
        "failed": "1",
        "inconclusive": "2",
        "in production, not checked in 24 h": "2",
        "being checked now": "1",
    }
    failed, first, second = rows(page, "Did not pass")
    assert "gpu-0009 r02 inference production failed 7 of 8 20 min hbm-bandwidth: 1.9 TB/s" in failed
    assert "gpu-0012" in first and "inconclusive 2 of 8" in first and "gpu-0013" in second


def test_a_nodes_page_has_its_day_2(busy: Busy, page: Page) -> None:
    site, ids = busy()
    page.goto(f"{site.url}/nodes/gpu-0010")
    keep(page, "node-day2", full=True)
    expect(page.locator(".banner.danger")).to_contain_text(
        "Power is locked after a leak since 10:06:40 (bmc-leak: manifold sensor 2 is wet), until a named person clears "
        "it: ostler nodes power gpu-0010 --clear-lock"
    )
    expect(page.locator(".banner").nth(1)).to_contain_text("On probation for 2 h 00 min more, after xid-48")
    expect(page.locator(".notice").first).to_contain_text("person:mara has hands on this node")
    expect(page.locator(".notice").nth(1)).to_contain_text("Maintenance replace the cold plate is announced")
    expect(page.locator(".notice").nth(1)).to_contain_text("16:06 – 18:06 (in 5 h 00 min); this node: waiting")
    found = page.locator(".finding").filter(has_text="xid-79")
    expect(found).to_contain_text("fatal high confidence · asks for reboot · 3 times")
    expect(found).to_contain_text(
        "the driver and the count of GPUs tell the same loss (rule gpu-lost, after NVIDIA XID 79)"
    )
    expect(found.locator(".witnesses li")).to_have_text("agent gpu-count: 7 of 8 GPUs answer")
    expect(found).to_contain_text("Explains xid-45@0000:1b:00.0.")
    expect(page.locator(".finding").filter(has_text="disk-slow")).to_contain_text("Not sure enough to act on.")
    climb = page.locator(".climb").filter(has_text="xid-48")
    expect(climb.locator("li.tried")).to_have_text("reboot 2×")
    expect(climb).to_contain_text("2 of 2 repairs in place within 7 d: the next time a person looks.")
    untouched = page.locator(".climb").filter(has_text="xid-79")
    expect(untouched).to_contain_text("Not repaired within 7 d.")
    expect(untouched.locator(".rungs")).to_have_count(0)
    parts = rows(page, "Parts and serial numbers")
    assert f"gpu 0000:1b:00.0 H100 SXM5 80GB {console_day2.GPU_SERIAL} 96.00.74.00.01 agent" in parts
    assert "psu PSU 1 3000 W PS-77 – BMC" in parts and "firmware CPLD – – 0.4 BMC" in parts
    page.get_by_role("link", name="gpu 0000:1b:00.0").click()
    expect(page).to_have_url(f"{site.url}/rma/{ids['case']}")


def test_a_large_fleet_is_drawn_some_racks_at_a_time(serve: Serve, page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ostler.console.model.PAGED_FROM", 100)
    monkeypatch.setattr("ostler.console.model.PAGE", 50)
    site = serve(nodes=128, per_rack=16)
    page.goto(site.url)
    expect(page.locator(".tile")).to_have_count(48)
    pages = page.locator("#map .choices a")
    expect(pages).to_have_count(3)
    expect(pages.first).to_contain_text("r01 – r03")
    expect(page.locator(".headline dd").first).to_have_text("128")
    keep(page, "fleet-paged")
    pages.nth(1).click()
    expect(page.locator(".tile").first).to_contain_text("gpu-0048")
    page.locator("#filter").fill("gpu-0127")
    expect(page.locator("#no-match")).to_contain_text("Enter searches all racks")
    assert "page=2" in page.url
    page.keyboard.press("Enter")
    expect(page.locator(".tile:not(.faded)")).to_have_text(["gpu-0127production"])


@pytest.mark.parametrize("width", [390, 1000, 2560])
def test_no_room_overflows(busy: Busy, page: Page, width: int) -> None:
    site, ids = busy()
    page.set_viewport_size({"width": width, "height": 900})
    for path in (
        "/now",
        "/would-act",
        "/maintenance",
        f"/maintenance/{ids['window']}",
        "/rma",
        f"/rma/{ids['case']}",
        "/checks",
        "/nodes/gpu-0010",
    ):
        page.goto(site.url + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        if width != 1000:
            keep(page, f"{path.split('/')[1]}{'-one' if path.count('/') > 1 else ''}-{width}", full=width < 1000)
