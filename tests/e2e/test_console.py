"""The console in a real Chromium against a real server: the map, live tiles, a node's page, hostile text, the door."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Page, expect

from ostler.db import schema
from ostler.nodes.model import State
from tests.e2e import console_fleet, console_stories
from tests.e2e.console_site import Serve, keep, needs_chromium

pytestmark = needs_chromium


def test_the_map_shows_every_node_by_rack_and_state(serve: Serve, page: Page) -> None:
    site = serve()
    page.goto(site.url)
    expect(page.locator("#live")).to_have_attribute("data-live", "on")
    expect(page.locator(".rack")).to_have_count(2)
    expect(page.locator(".tile")).to_have_count(16)
    fallen = page.get_by_role("link", name="gpu-0007").and_(page.locator(".tile"))
    expect(fallen).to_have_class("tile s-triage")
    expect(fallen.locator(".word")).to_have_text("triage")
    waiting = page.locator(f"#t-{site.ids[5]}")
    expect(waiting).to_have_class("tile s-production is-pending is-cordoned")
    expect(page.locator(f"#t-{site.ids[9]}")).to_have_class("tile s-production is-silent")
    expect(page.locator('.key[data-state="production"] b')).to_have_text("12")
    keep(page, "fleet-16")


def test_an_event_changes_the_tile_and_nothing_is_loaded_again(serve: Serve, page: Page) -> None:
    site = serve()
    page.goto(site.url)
    expect(page.locator("#live")).to_have_attribute("data-live", "on")
    loaded: list[str] = []
    page.on("request", lambda request: loaded.append(request.url))
    tile = page.locator(f"#t-{site.ids[2]}")
    expect(tile).to_have_class("tile s-production")
    site.db.write(
        lambda tx: console_fleet.happen(tx, site.ids[2], "gpu-0002", State.REBOOT, "XID 119: GSP RPC timeout")
    )
    expect(tile).to_have_class("tile s-reboot fresh")
    expect(page.locator("#ticker li").first).to_contain_text("gpu-0002 production → reboot · XID 119: GSP RPC timeout")
    expect(page.locator('.key[data-state="reboot"] b')).to_have_text("2")
    expect(page.locator(".rack").first.locator(".well")).to_have_text("5/8")
    assert loaded == []


def test_a_new_node_appears_by_itself(serve: Serve, page: Page) -> None:
    site = serve(nodes=0)
    page.goto(site.url)
    expect(page.locator("#live")).to_have_attribute("data-live", "on")
    expect(page.locator("#map")).to_contain_text("No node yet")
    keep(page, "fleet-empty")
    site.db.write(lambda tx: console_fleet.seed(tx, nodes=16, per_rack=8))
    site.db.write(
        lambda tx: console_stories.event(
            tx, "node.state_changed", "node_new", {"from": None, "to": "discovered"}, at=tx.now
        )
    )
    expect(page.locator(".tile")).to_have_count(16)


def test_the_filter_fades_what_does_not_match_and_stays_in_the_address(serve: Serve, page: Page) -> None:
    site = serve()
    page.goto(site.url)
    page.keyboard.press("/")
    page.keyboard.type("r02")
    expect(page.locator(".tile:not(.faded)")).to_have_count(8)
    page.locator('.key[data-state="zap"]').click()
    expect(page.locator(".tile:not(.faded)")).to_have_count(1)
    assert page.url.endswith("/?q=r02&state=zap")
    page.reload()
    expect(page.locator(".tile:not(.faded)")).to_have_count(1)
    site.db.write(lambda tx: console_fleet.happen(tx, site.ids[10], "gpu-0010", State.ZAP, "planned"))
    expect(page.locator(".tile:not(.faded)")).to_have_count(2)  # live tiles are filtered too
    page.locator("#filter").fill("nothing has this name")
    expect(page.locator("#no-match")).to_be_visible()


def test_a_nodes_life_is_on_one_page_and_hostile_text_is_only_text(serve: Serve, page: Page) -> None:
    site = serve()
    page.goto(f"{site.url}/nodes/gpu-0007")
    expect(page.locator("h1")).to_have_text("gpu-0007")
    expect(page.locator(".pill")).to_have_text("triage")
    expect(page.locator(".answer")).to_contain_text("is in triage (Day 2+) for 12 min")
    expect(
        page.locator(".why li", has_text="act reboot, immediate: XID 79 is fatal and the GPU is gone")
    ).to_be_visible()
    expect(
        page.locator(".why li", has_text="held reboot, immediate: rack r01 has one permit out already")
    ).to_be_visible()
    expect(page.locator(".timeline > li")).to_have_count(8)
    expect(page.locator("#life")).to_contain_text("<script>window.hacked=1</script>")
    assert page.evaluate("window.hacked") is None
    keep(page, "node", full=True)


def test_a_nodes_page_goes_live(serve: Serve, page: Page) -> None:
    site = serve()
    page.goto(f"{site.url}/nodes/gpu-0002")
    expect(page.locator("#live")).to_have_attribute("data-live", "on")
    expect(page.locator(".pill")).to_have_text("production")
    site.db.write(lambda tx: console_fleet.happen(tx, site.ids[1], "gpu-0001", State.DEBUG, "another node"))
    site.db.write(lambda tx: console_fleet.happen(tx, site.ids[2], "gpu-0002", State.TRIAGE, "PSU failed"))
    expect(page.locator(".pill")).to_have_text("triage")


def test_a_pause_is_seen_at_once(serve: Serve, page: Page) -> None:
    site = serve()
    site.db.write(
        lambda tx: tx.execute(
            schema.pause.insert(),
            [
                {
                    "id": "pause_1",
                    "scope": "fleet",
                    "actor": "person:mara",
                    "reason": "spine work",
                    "since": tx.now - 600,
                }
            ],
        )
    )
    page.goto(site.url)
    expect(page.locator("#banner")).to_contain_text(
        "Automation is paused for the whole fleet by person:mara, for 10 min"
    )
    keep(page, "fleet-paused")


def test_a_thousand_nodes_are_readable(serve: Serve, page: Page) -> None:
    site = serve(nodes=1000, per_rack=16)
    page.goto(site.url)
    expect(page.locator(".tile")).to_have_count(1000)
    expect(page.locator("#live")).to_have_attribute("data-live", "on")
    keep(page, "fleet-1000")
    site.db.write(lambda tx: console_fleet.happen(tx, site.ids[500], "gpu-0500", State.TRIAGE, "PSU failed"))
    expect(page.locator(f"#t-{site.ids[500]}")).to_have_class("tile s-triage fresh")


@pytest.mark.parametrize("width", [390, 820, 2560])
def test_nothing_overflows(serve: Serve, page: Page, width: int) -> None:
    site = serve(nodes=200, per_rack=16)
    page.set_viewport_size({"width": width, "height": 900})
    for name, path in (("fleet", "/"), ("node", "/nodes/gpu-0007")):
        page.goto(site.url + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        keep(page, f"{name}-{width}", full=width < 1000)


def test_light_where_the_system_asks_for_it(serve: Serve, page: Page) -> None:
    site = serve()
    page.emulate_media(color_scheme="light")
    page.goto(site.url)
    keep(page, "fleet-light")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(243, 245, 248)"


def test_the_door(serve: Serve, browser: Browser) -> None:
    site = serve(open_to_loopback=False)
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    page = context.new_page()
    page.goto(f"{site.url}/nodes/gpu-0007")
    expect(page).to_have_url(f"{site.url}/login?next=/nodes/gpu-0007")
    keep(page, "door")
    page.get_by_label("API token").fill("ost_wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_have_text("This token is not valid: unknown, expired or revoked.")
    page.get_by_label("API token").fill(site.token)
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(f"{site.url}/nodes/gpu-0007")
    (cookie,) = context.cookies()
    assert cookie["httpOnly"] and cookie["sameSite"] == "Strict"
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("API token")).to_be_visible()
    assert context.cookies() == []
    context.close()
