"""The fabric's pages in a real Chromium: the drawing at three sizes, a box, a rack, a round walked on a phone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect
from prometheus_client import CollectorRegistry

from ostler.access.model import Role
from ostler.access.service import create_token
from ostler.console import Console
from ostler.core.clock import ManualClock
from ostler.db.engine import Database
from ostler.fabric import round_store, store
from ostler.fabric.model import Port
from ostler.http.auth import Doorkeeper
from ostler.http.listeners import Listener, Listeners
from ostler.http.operator import operator_app
from tests.e2e import console_fabric
from tests.e2e.console_fabric import MARA, Net
from tests.e2e.console_site import keep, needs_chromium

pytestmark = needs_chromium

PHONE: ViewportSize = {"width": 390, "height": 844}
DESK: ViewportSize = {"width": 1440, "height": 900}


@dataclass
class Lab:
    """A running console over fabrics."""

    url: str
    db: Database
    net: Net


@pytest.fixture
def lab(sqlite_url: str) -> Iterator[Callable[..., Lab]]:
    stops: list[Callable[[], Any]] = []

    def start(hosts: int = 8) -> Lab:
        db = Database(sqlite_url, ManualClock(1_795_000_000.0))
        served = console_fabric.fabrics(db)
        net = console_fabric.net(db, served, hosts)
        console_fabric.troubled(net)
        console = Console(db, Doorkeeper(db, open_to_loopback=True), fabrics=served)
        app = operator_app([console.router], registry=CollectorRegistry())
        running = Listeners([Listener("operator", "[operator] listen", "127.0.0.1", 0, app)], before_stop=console.close)
        running.start()
        stops.extend((db.close, running.stop))
        return Lab(running.bound["operator"].url, db, net)

    yield start
    while stops:
        stops.pop()()


def look_at(page: Page, url: str, name: str) -> None:
    """On a desk and a phone, dark and light: nothing hangs over the edge."""
    for size, word in ((DESK, "desk"), (PHONE, "phone")):
        page.set_viewport_size(size)
        for scheme in ("dark", "light"):
            page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
            page.goto(url)
            expect(page.locator("#live")).to_have_attribute("data-live", "on")
            assert page.evaluate("document.documentElement.scrollWidth") <= size["width"], (name, word)
            keep(page, f"fabric-{name}-{word}-{scheme}", full=True)


@pytest.mark.parametrize("hosts", [8, 128])
def test_a_fabric_is_drawn_with_its_faults(lab: Callable[..., Lab], page: Page, hosts: int) -> None:
    site = lab(hosts)
    look_at(page, f"{site.url}/fabric", f"{hosts}")
    expect(page).to_have_url(f"{site.url}/fabric/compute")
    page.set_viewport_size(DESK)
    expect(page.locator("svg.fabric")).to_be_visible()
    expect(page.locator(".cause")).to_have_count(7)
    expect(page.locator(".cause .tag.t-open")).to_have_count(6)
    page.locator('svg.fabric a[href="/fabric/compute/leaf-r1-01"]').click()
    expect(page.locator("h1")).to_have_text("leaf-r1-01")
    page.locator("svg.front a").nth(2).click()
    expect(page.locator("tr:target")).to_contain_text("wrong")
    page.locator("tr:target").get_by_text("ticket open").click()
    expect(page).to_have_url(f"{site.url}/tickets/{ticket_of(site)}")


def ticket_of(site: Lab) -> str:
    rows = site.db.read(lambda tx: store.open_causes(tx, "compute"))
    return next(str(row["ticket_id"]) for row in rows if ["gpu-0003", "mlx5_1"] in [list(one) for one in row["ports"]])


def test_the_largest_opens_by_unit(lab: Callable[..., Lab], page: Page) -> None:
    site = lab(2048)
    page.set_viewport_size(DESK)
    page.goto(f"{site.url}/fabric/compute")
    keep(page, "fabric-2048-desk", full=True)
    page.locator('svg.fabric a[href="/fabric/compute?unit=1"]').click()
    expect(page.locator("#h-map")).to_contain_text("unit 1: gpu-0001 – gpu-0032")
    expect(page.locator("svg.fabric g.w-wrong")).to_have_count(4)


def test_a_box_and_a_rack(lab: Callable[..., Lab], page: Page) -> None:
    site = lab()
    look_at(page, f"{site.url}/fabric/compute/leaf-r4-01", "leaf")
    look_at(page, f"{site.url}/fabric/compute/gpu-0003", "host")
    look_at(page, f"{site.url}/fabric/compute/rack", "racks")
    page.locator(".rackcard").first.click()
    expect(page.locator(".slot")).not_to_have_count(0)
    look_at(page, page.url, "rack")
    page.locator(".slot").first.click()
    expect(page.locator("#h-ports")).to_be_visible()


def test_the_page_draws_itself_anew_after_a_look(lab: Callable[..., Lab], page: Page) -> None:
    site = lab()
    page.goto(f"{site.url}/fabric/compute")
    expect(page.locator(".headline .word-of").nth(2).locator("xpath=../../dd")).to_have_text("10")
    site.net.cut(Port("gpu-0001", "mlx5_0"))
    site.net.look(ago=1)
    page.evaluate("htmx.trigger('#view', 'sse:again')")
    expect(page.locator(".headline .word-of").nth(2).locator("xpath=../../dd")).to_have_text("11")


def test_hostile_names_do_nothing(lab: Callable[..., Lab], page: Page) -> None:
    site = lab()
    other = console_fabric.hostile(site.db, site.net.fabrics)
    other.cut(next(iter(other.links)))
    other.look()
    look_at(page, f"{site.url}/fabric/hostile", "hostile")
    for number in range(page.locator("svg.fabric a").count()):
        page.goto(f"{site.url}/fabric/hostile")
        page.goto(site.url + str(page.locator("svg.fabric a").nth(number).get_attribute("href")))
        expect(page.locator("#h-ports")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    page.goto(f"{site.url}/fabric")
    keep(page, "fabric-list-phone", full=True)
    assert page.evaluate("window.hacked") is None


def test_a_round_is_walked_on_a_phone(lab: Callable[..., Lab], browser: Browser) -> None:
    site = lab()
    made = site.db.write(lambda tx: create_token(tx, name="mara", role=Role.TECHNICIAN, actor=MARA))
    context = browser.new_context(viewport=PHONE, color_scheme="dark", reduced_motion="reduce")
    phone = context.new_page()
    phone.goto(f"{site.url}/login?next=/fabric/compute/rounds")
    phone.get_by_label("API token").fill(made.secret)
    phone.get_by_role("button", name="Sign in").click()
    phone.get_by_role("button", name="Open a round now").click()
    keep(phone, "fabric-round-phone")
    first = phone.locator("#i1")
    first.get_by_label("Note").fill("cleaned the fibre")
    first.get_by_role("button", name="fixed").click()
    expect(phone.locator("#i1")).to_contain_text("fixed: cleaned the fibre")
    assert phone.url.endswith("#i2")
    phone.locator("#i2").get_by_role("button", name="bad").click()
    phone.locator("#i3").get_by_role("button", name="ok").click()
    keep(phone, "fabric-round-phone-half", full=True)
    assert phone.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    phone.get_by_label("Summary").fill("row 01 was locked")
    phone.get_by_role("button", name="Sign as").click()
    expect(phone.locator("#sign")).to_contain_text("row 01 was locked")
    (row,) = site.db.read(lambda tx: round_store.listed(tx, "compute"))
    assert (row["state"], row["signed_by"]) == ("signed", "token:mara")
    phone.goto(f"{site.url}/fabric/compute/rounds")
    keep(phone, "fabric-rounds-phone", full=True)
    context.close()
