"""Technicians' pages in a real Chromium: work by place, a ticket on a phone, taking and finishing it, the label."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect

from ostler.access.model import Role
from ostler.access.service import create_token
from ostler.core.actor import Actor
from ostler.nodes import store as nodes
from ostler.oncall.model import OncallSettings
from ostler.tickets import service, store
from tests.e2e import console_tickets
from tests.e2e.console_site import Serve, Site, keep, needs_chromium

pytestmark = needs_chromium

Work = Callable[..., tuple[Site, dict[str, str]]]
PHONE: ViewportSize = {"width": 390, "height": 844}


@pytest.fixture
def work(serve: Serve) -> Work:
    """A fleet with work for hands, and the tickets' ids by word."""

    def start(**settings: object) -> tuple[Site, dict[str, str]]:
        site = serve(**settings)
        return site, site.db.write(lambda tx: console_tickets.work(tx, site.ids))

    return start


@pytest.fixture
def phone(browser: Browser) -> Iterator[Page]:
    """A phone on which a page may be refused; any other error fails the test."""
    context = browser.new_context(viewport=PHONE, color_scheme="dark", reduced_motion="reduce")
    opened = context.new_page()
    said: list[str] = []
    opened.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    opened.on("pageerror", lambda error: said.append(str(error)))
    yield opened
    context.close()
    assert [
        text for text in said if "Failed to load resource: the server responded with a status of 4" not in text
    ] == []


def sign_in(page: Page, site: Site, name: str = "mara", role: Role = Role.TECHNICIAN, next: str = "/tickets") -> None:
    made = site.db.write(lambda tx: create_token(tx, name=name, role=role, actor=Actor("person:ann")))
    page.goto(f"{site.url}/login?next={next}")
    page.get_by_label("API token").fill(made.secret)
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(f"{site.url}{next}")


def state(site: Site, ticket: str) -> str:
    return str(site.db.read(lambda tx: store.get(tx, ticket))["state"])


def test_work_is_listed_by_place(work: Work, page: Page) -> None:
    site, _ids = work()
    page.goto(f"{site.url}/tickets")
    keep(page, "tickets", full=True)
    assert [" ".join(text.split()) for text in page.locator(".spot h2").all_inner_texts()] == [
        "dc1 / A / r01 4",
        "dc1 / A / r02 1",
        "dc1 / A / r10 2",
        "place unknown 1",
    ]
    first = page.locator(".job").nth(1)
    expect(first).to_contain_text("Two plugs of gpu-0001 are exchanged")
    expect(first).to_contain_text("safe to touch")
    expect(page.locator(".job").filter(has_text="leaf01 to spine01")).to_contain_text("do not touch")
    expect(page.locator(".job").filter(has_text="7 times")).to_contain_text("came back")
    expect(page.locator(".job").filter(has_text="bmc-fan FAN3 on gpu-0002")).to_have_count(1)
    page.get_by_role("link", name="switches").click()
    expect(page.locator(".job")).to_have_count(1)
    page.get_by_role("link", name="everything").click()
    page.get_by_role("link", name="dc1 / A / r10").click()
    expect(page.locator(".job")).to_have_count(2)
    page.get_by_role("link", name="everywhere").click()
    page.get_by_role("link", name="done").click()
    expect(page.locator(".job")).to_have_count(1)
    page.goto(f"{site.url}/tickets?place=nowhere")
    expect(page.locator("main")).to_contain_text("No such ticket.")
    assert page.evaluate("window.hacked") is None


def test_a_ticket_says_which_plug_goes_where(work: Work, page: Page) -> None:
    site, ids = work()
    page.set_viewport_size(PHONE)
    page.goto(f"{site.url}/tickets/{ids['swap']}")
    expect(page.locator("#live")).to_have_attribute("data-live", "on")
    keep(page, "ticket-phone", full=True)
    expect(page.locator("h1")).to_have_text("Two plugs of gpu-0001 are exchanged: mlx5_0 and mlx5_1.")
    expect(page.locator(".touch.yes")).to_contain_text("Safe to touch")
    ways = [" ".join(text.split()) for text in page.locator(".way").all_inner_texts()]
    assert ways == ["gpu-0001 (R01 U02) mlx5_0 → mlx5_1", "gpu-0001 (R01 U02) mlx5_1 → mlx5_0"]
    expect(page.locator(".stays").first).to_have_text("stays leaf02 (R10 U40) 18/1 port 35")
    expect(page.locator(".cable").first).to_contain_text("MT2231VS04417")
    expect(page.get_by_role("link", name="Sign in to take it")).to_be_visible()
    expect(page.locator("form.deed")).to_have_count(0)
    expect(page.get_by_text("The door of R01 sticks")).to_be_visible()
    page.emulate_media(color_scheme="light")
    keep(page, "ticket-phone-light", full=True)
    page.goto(f"{site.url}/tickets/{ids['flapping']}")
    expect(page.locator(".banner")).to_contain_text(
        "It came back. It is back after work on the cable: replace the module"
    )
    expect(page.locator("main")).to_contain_text("Replaced the cable, MT2231VS09913")
    keep(page, "ticket-again-phone", full=True)
    page.goto(f"{site.url}/tickets/{ids['hostile']}")
    assert page.evaluate("window.hacked") is None
    answer = page.request.get(f"{site.url}/tickets/ticket_none")
    assert answer.status == 404
    assert "No ticket has the id &#39;ticket_none&#39;." in answer.text()


def test_a_technician_takes_and_finishes_it(work: Work, phone: Page) -> None:
    site, ids = work()
    ticket = ids["swap"]
    sign_in(phone, site, next=f"/tickets/{ticket}")
    keep(phone, "ticket-open-phone", full=True)
    phone.get_by_role("button", name="Take it").click()
    expect(phone.locator(".tag.t-claimed").first).to_have_text("claimed")
    assert site.db.read(lambda tx: nodes.get(tx, site.ids[1])).maintenance_by == "token:mara"
    keep(phone, "ticket-mine-phone", full=True)
    phone.get_by_role("link", name="Tickets").last.click()
    phone.get_by_role("link", name="mine").click()
    expect(phone.locator(".job")).to_have_count(1)
    phone.locator(".job").click()
    phone.get_by_text("Give it back").first.click()
    phone.get_by_label("Why, if the next one should know").fill("end of shift")
    phone.get_by_role("button", name="Give it back").click()
    assert state(site, ticket) == "open"
    phone.get_by_role("button", name="Take it").click()
    phone.get_by_label("What was found and done").fill("   ")
    phone.get_by_role("button", name="Done").click()
    expect(phone.get_by_role("alert")).to_contain_text("Say what was found and done")
    phone.get_by_label("What was found and done").fill("Exchanged. <b>Lamps</b> are green.")
    phone.get_by_role("button", name="Done").click()
    expect(phone.locator(".deeds")).to_contain_text("token:mara said: Exchanged. <b>Lamps</b> are green.")
    assert state(site, ticket) == "verifying"
    keep(phone, "ticket-verifying-phone", full=True)
    phone.get_by_label("A note for the next one").fill("Cable ties are used up.")
    phone.get_by_role("button", name="Leave it").click()
    expect(phone.locator("main")).to_contain_text("Cable ties are used up.")
    site.db.write(lambda tx: service.confirm(tx, "ib/swap", "Snapshot of 11:20: all right.", seen_at=tx.now + 60))
    phone.reload()
    expect(phone.locator(".deeds")).to_contain_text("How it ended")
    expect(phone.locator(".deeds")).to_contain_text("token:mara had said: Exchanged.")
    keep(phone, "ticket-done-phone", full=True)


def test_what_is_not_safe_needs_a_reason(work: Work, page: Page) -> None:
    site, ids = work()
    page.set_viewport_size(PHONE)
    sign_in(page, site, next=f"/tickets/{ids['busy']}")
    expect(page.locator(".touch.no")).to_contain_text("Do not touch")
    keep(page, "ticket-unsafe-phone", full=True)
    page.get_by_role("button", name="Take it all the same").click()
    assert state(site, ids["busy"]) == "open", "the browser asks for the reason"
    page.get_by_label("Why").fill("the owner agreed")
    page.get_by_role("button", name="Take it all the same").click()
    expect(page.locator(".tag.t-claimed").first).to_be_visible()


def test_a_page_that_is_late_says_so_and_keeps_what_was_typed(work: Work, phone: Page) -> None:
    site, ids = work()
    sign_in(phone, site, next=f"/tickets/{ids['swap']}")
    site.db.write(lambda tx: service.claim(tx, ids["swap"], actor=console_tickets.JO))
    phone.get_by_role("button", name="Take it").click()
    expect(phone.get_by_role("alert")).to_contain_text("is claimed by person:jo")
    keep(phone, "ticket-late")
    phone.get_by_text("Take it away from person:jo").click()
    phone.get_by_label("Why").fill("jo went home")
    phone.get_by_role("button", name="Take it away").click()
    assert state(site, ids["swap"]) == "open"
    phone.get_by_label("A note for the next one").fill("half a note")
    site.db.write(lambda tx: service.claim(tx, ids["swap"], actor=console_tickets.JO))
    phone.evaluate("htmx.trigger('#view', 'sse:again')")
    expect(phone.locator("#view .banner")).to_contain_text("This ticket is claimed now.")
    expect(phone.get_by_label("A note for the next one")).to_have_value("half a note")


def test_nobody_acts_from_elsewhere_or_without_the_role(work: Work, phone: Page) -> None:
    site, ids = work()
    path = f"{site.url}/tickets/{ids['swap']}/claim"
    anonymous = phone.request.post(path, headers={"origin": site.url}, max_redirects=0)
    assert (anonymous.status, state(site, ids["swap"])) == (403, "open"), "this machine may look, never act"
    sign_in(phone, site, name="wally", role=Role.VIEWER)
    viewer = phone.request.post(path, headers={"origin": site.url}, max_redirects=0)
    assert viewer.status == 403
    assert "this needs &#39;technician&#39; or more" in viewer.text()
    phone.context.clear_cookies()
    sign_in(phone, site)
    for headers in ({"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}, {"origin": "null"}):
        assert phone.request.post(path, headers=headers, max_redirects=0).status == 403
    assert phone.request.post(path.replace("claim", "delete"), headers={"origin": site.url}).status == 404
    assert state(site, ids["swap"]) == "open"
    assert phone.request.post(path, headers={"origin": site.url}, max_redirects=0).status == 303
    assert state(site, ids["swap"]) == "claimed"


def test_without_a_token_the_door_asks_first(work: Work, page: Page) -> None:
    site, ids = work(open_to_loopback=False)
    path = f"/tickets/{ids['swap']}"
    for kind in ("claim", "done"):
        answer = page.request.post(f"{site.url}{path}/{kind}", headers={"origin": site.url}, max_redirects=0)
        assert answer.status == 303
        assert answer.headers["location"] == f"/login?next={path}"
    assert page.request.get(f"{site.url}{path}/qr.svg", max_redirects=0).status == 303


def test_the_label_leads_a_phone_to_the_page(work: Work, page: Page) -> None:
    site, ids = work(oncall=OncallSettings(console_url="https://ostler.example:8470/"))
    page.goto(f"{site.url}/tickets/{ids['swap']}/label")
    expect(page.locator(".label")).to_contain_text("dc1 / A / r01 / u02")
    page.wait_for_function("document.querySelector('.label img').naturalWidth > 0")
    keep(page, "ticket-label")
    page.emulate_media(media="print")
    expect(page.locator(".noprint")).to_be_hidden()
    keep(page, "ticket-label-print")
    answer = page.request.get(f"{site.url}/tickets/{ids['swap']}/qr.svg")
    assert answer.headers["content-type"] == "image/svg+xml"


@pytest.mark.parametrize("width", [360, 390, 1000, 2560])
def test_no_ticket_overflows(work: Work, page: Page, width: int) -> None:
    site, ids = work()
    page.set_viewport_size({"width": width, "height": 844})
    sign_in(page, site)
    for word in ("", *ids):
        for suffix in ("", "/label") if word else ("",):
            page.goto(f"{site.url}/tickets{'/' + ids[word] if word else ''}{suffix}")
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (word, suffix)
            if width in (390, 2560):
                keep(page, f"tickets-{word or 'list'}{suffix.replace('/', '-')}-{width}", full=width < 1000)
