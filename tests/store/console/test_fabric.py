"""The fabric's pages without a browser: what they show, whom they let act, what they never do with a name."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry

from ostler.access.model import Role
from ostler.access.service import create_token
from ostler.console import Console, fabric_drawing
from ostler.console.fabric_causes import causes, strays
from ostler.console.fabric_chassis import chassis
from ostler.console.fabric_rack import racks
from ostler.console.fabric_scene import Scene, Scenes
from ostler.console.fabric_tree import tree
from ostler.core.clock import ManualClock
from ostler.db.engine import Database
from ostler.fabric import blueprints, round_store, rounds
from ostler.fabric.designs.fat_tree import fat_tree
from ostler.fabric.model import Port, Snapshot, Verdict
from ostler.fabric.report import LISTED
from ostler.fabric.settings import FabricSettings
from ostler.fabric.sweep import Problem, ProblemKind, guid_text
from ostler.http.auth import Doorkeeper
from ostler.http.operator import operator_app
from tests.e2e import console_fabric
from tests.e2e.console_fabric import HOSTILE, MARA, Net

OWN = {"origin": "http://testserver"}


@pytest.fixture
def net(sqlite_db: Database) -> Net:
    return console_fabric.net(sqlite_db, console_fabric.fabrics(sqlite_db), 8)


@pytest.fixture
def client(net: Net) -> Iterator[TestClient]:
    console = Console(net.db, Doorkeeper(net.db), fabrics=net.fabrics)
    with TestClient(operator_app([console.router], registry=CollectorRegistry()), follow_redirects=False) as opened:
        sign_in(opened, net, Role.TECHNICIAN)
        yield opened
    console.close()


def sign_in(client: TestClient, net: Net, role: Role) -> None:
    made = net.db.write(lambda tx: create_token(tx, name=f"t-{role.value}", role=role, actor=MARA))
    client.cookies.clear()
    client.cookies.set("ostler_session", made.secret)


def scene(net: Net) -> Scene:
    return Scenes(net.db, net.fabrics).of(net.name)


def drawn(net: Net, unit: int | None = None) -> str:
    found = net.db.read(lambda tx: causes(tx, net.name))
    return str(fabric_drawing.draw(scene(net), strays(found), unit).svg)


def lines(svg: str, word: str) -> list[str]:
    """Titles of the cables drawn as lines of this verdict."""
    return re.findall(rf'<g class="w-{word}"><title>([^<]*)</title><path class="cable"', svg)


@pytest.mark.parametrize(("hosts", "shape"), [(8, (1, 1, 0)), (128, (1, 4, 0)), (512, (4, 16, 64))])
def test_the_tree_is_found_in_the_cables_alone(hosts: int, shape: tuple[int, int, int]) -> None:
    found = tree(fat_tree(hosts, 8))
    assert (len(found.pods), len(found.units), len(found.cores)) == shape
    assert found.hosts == hosts
    first = found.units[0]
    assert list(first.leaves) == [f"leaf-r{rail}-{'1'.zfill(len(first.leaves[0].split('-')[-1]))}" for rail in range(8)]
    assert first.hosts[0] == "gpu-0001"
    assert [port.name for port in found.plugs["gpu-0001"]] == [f"mlx5_{rail}" for rail in range(8)]


def test_every_cable_of_a_small_fabric_is_a_line_with_its_verdict(net: Net) -> None:
    console_fabric.troubled(net)
    svg = drawn(net)
    assert {word: len(lines(svg, word)) for word in ("ok", "wrong", "absent", "degraded")} == {
        "ok": 305, "wrong": 4, "absent": 10, "degraded": 1,
    }  # fmt: skip
    assert "gpu-0003 mlx5_1 to leaf-r1-01 3 (2/1): wrong" in lines(svg, "wrong")
    assert "seen: gpu-0003 mlx5_1 to leaf-r2-01 3 (2/1)" in lines(svg, "seen")
    assert 'href="/fabric/compute/leaf-r1-01"' in svg
    colours = {name: scene(net).colour(name) for name in ("leaf-r0-01", "leaf-r1-01", "leaf-r3-01", "gpu-0008")}
    assert colours == {"leaf-r0-01": "ok", "leaf-r1-01": "wrong", "leaf-r3-01": "absent", "gpu-0008": "absent"}


def test_in_a_larger_one_only_what_is_not_ok_is_a_line(sqlite_db: Database) -> None:
    site = console_fabric.net(sqlite_db, console_fabric.fabrics(sqlite_db), 128)
    console_fabric.troubled(site)
    svg = drawn(site)
    assert lines(svg, "ok") == []
    assert len(lines(svg, "wrong")) == 4
    assert svg.count('class="cell w-ok"') == 4  # one path a unit
    unit = drawn(site, 1)
    assert len(lines(unit, "ok")) + 15 == 512
    with pytest.raises(Exception, match="has no unit 5; it has 4"):
        drawn(site, 5)


def test_a_cable_that_nobody_designed_is_drawn(net: Net) -> None:
    a, b = Port("leaf-r0-01", "20"), Port("leaf-r1-01", "20")
    net.links[a], net.links[b] = b, a
    net.look()
    seen = net.snapshot()
    for one, two in ((a, b), (b, a)):
        seen.links[one] = two
    net.take_in(seen)
    page = net.db.read(lambda tx: chassis(tx, scene(net), "leaf-r0-01", causes(tx, net.name)))
    assert [line.word for line in page.lines if line.port == a] == ["undesigned"]
    assert lines(drawn(net), "seen") == ["seen: leaf-r0-01 20 (10/2) to leaf-r1-01 20 (10/2)"]


def test_what_a_report_does_not_list_is_judged_anew(sqlite_db: Database) -> None:
    site = console_fabric.net(sqlite_db, console_fabric.fabrics(sqlite_db), 128)
    site.look()
    assert scene(site).verdicts == {}
    for number in range(1, 81):
        for rail in range(8):
            site.cut(Port(f"gpu-{number:04d}", f"mlx5_{rail}"))
    site.look(ago=30)
    found = scene(site)
    assert len(found.report["listed"]["absent"]) == LISTED
    assert found.counts["absent"] == 640
    drawing = fabric_drawing.draw(found)
    assert len(lines(str(drawing.svg), "absent")) == fabric_drawing.MOST_LINES
    assert drawing.notes == ["The first 400 of 640 are drawn as lines; cells and boxes show all of them."]
    assert not found.anew


def test_a_look_that_was_blind_claims_nothing(sqlite_db: Database) -> None:
    site = console_fabric.net(sqlite_db, console_fabric.fabrics(sqlite_db), 128)
    blind = Problem(ProblemKind.MONITOR_DOWN, "the monitor's own port is down")
    site.take_in(Snapshot("ibnetdiscover-cache", "sm01", states=True, problems=[blind]))
    svg = drawn(site)
    assert svg.count('class="cell w-unknown"') == 4
    assert "w-ok" not in svg
    assert 'class="bundle w-unknown"' in svg
    assert lines(svg, "unknown") == []
    console = Console(site.db, Doorkeeper(site.db), fabrics=site.fabrics)
    with TestClient(operator_app([console.router], registry=CollectorRegistry())) as client:
        sign_in(client, site, Role.VIEWER)
        text = client.get("/fabric/compute").text
    assert '<span class="warn">0.0 % of the cables are known' in text
    assert "2048 cables of 2048: nobody who could tell has answered" in text
    assert "Cables that are not ok" not in text


def test_a_new_design_is_compared_with_the_last_look_and_says_so(net: Net, client: TestClient) -> None:
    net.look()
    other = fat_tree(8, 8, name="compute", site="ams1", width=8)
    net.db.write(lambda tx: blueprints.take_in(tx, "compute", other, [], actor=MARA))
    assert scene(net).anew
    assert set(scene(net).verdicts.values()) == {Verdict.DEGRADED}
    assert "The design was changed after this look" in client.get("/fabric/compute").text


def test_a_fabric_without_a_look_is_unknown(sqlite_db: Database) -> None:
    served = console_fabric.fabrics(sqlite_db)
    site = console_fabric.net(sqlite_db, served, 8)
    assert scene(site).counts == {"ok": 0, "wrong": 0, "absent": 0, "degraded": 0, "unknown": 320}
    assert len(lines(drawn(site), "unknown")) == 320


def test_a_fabric_without_design_is_drawn_as_it_was_seen(sqlite_db: Database) -> None:
    served = console_fabric.fabrics(sqlite_db, {"compute": FabricSettings()})
    site = console_fabric.net(sqlite_db, served, 8, designed=False)
    assert scene(site).blueprint is None
    assert lines(drawn(site), "ok") == []
    site.cut(Port("gpu-0005", "mlx5_3"))
    site.take_in(site.snapshot(), designed=False)
    assert scene(site).counts == {}
    assert len(lines(drawn(site), "ok")) == 319
    page = site.db.read(lambda tx: chassis(tx, scene(site), "gpu-0001", []))
    assert {line.word for line in page.lines} == {"seen"}


def test_a_look_that_is_long_ago_is_shown_as_such(net: Net, client: TestClient, clock: ManualClock) -> None:
    net.look()
    assert "Nobody has looked" not in client.get("/fabric/compute").text
    clock.advance(13 * 3600)
    assert "Nobody has looked at this fabric for 13 h" in client.get("/fabric/compute").text
    other = console_fabric.net(net.db, net.fabrics, 8, "storage")
    assert client.get("/fabric").status_code == 200
    assert "Last look 13 h 01 min ago" in client.get("/fabric").text
    assert other.name in client.get("/fabric").text


def test_the_only_fabric_is_gone_on_to(client: TestClient) -> None:
    answer = client.get("/fabric")
    assert (answer.status_code, answer.headers["location"]) == (303, "/fabric/compute")


def test_a_part_is_sent_again_only_when_something_changed(net: Net, client: TestClient) -> None:
    net.look()
    for path in ("", "/rack", "/gpu-0003"):
        again = f"/parts/fabric/compute{path}"
        key = re.search(r'name="as" value="([0-9a-f]+)"', client.get(again).text)
        assert key is not None
        assert client.get(f"{again}?as={key[1]}").status_code == 204
    key = re.search(r'name="as" value="([0-9a-f]+)"', client.get(again).text)
    net.look(ago=30)
    assert client.get(f"{again}?as={key[1] if key else None}").status_code == 200  # it says when it was looked at
    net.swap(Port("gpu-0003", "mlx5_1"), Port("gpu-0003", "mlx5_2"))
    net.look(ago=1)
    assert "6 ok, 2 wrong" in client.get(again).text


def test_a_box_tells_its_ports_in_order(net: Net) -> None:
    console_fabric.troubled(net)
    found = scene(net)
    page = net.db.read(lambda tx: chassis(tx, found, "gpu-0003", causes(tx, net.name)))
    assert [line.word for line in page.lines] == ["ok", "wrong", "wrong", "ok", "ok", "ok", "ok", "ok"]
    wrong = page.lines[1]
    assert (str(wrong.designed), str(wrong.seen), wrong.rate) == ("leaf-r1-01 3", "leaf-r2-01 3", "4x NDR")
    assert wrong.part == "known"
    assert wrong.causes[0].ticket is not None
    flapping = net.db.read(lambda tx: chassis(tx, found, "gpu-0002", causes(tx, net.name))).lines[7]
    assert flapping.downs == 6
    leaf = net.db.read(lambda tx: chassis(tx, found, "leaf-r4-01", causes(tx, net.name)))
    assert leaf.lines[-1].label == "32/2"
    assert str(leaf.front).count('class="cage"') == 32
    assert leaf.empty == [f"{cage}/{plug}" for cage in range(5, 17) for plug in (1, 2)]


def test_a_replaced_part_is_told(net: Net, client: TestClient) -> None:
    net.look()
    seen = net.snapshot()
    port = Port("gpu-0002", "mlx5_4")
    known = seen.ends[port]
    seen.ends[port] = known._replace(guid=0x98039B03DEADBEE0)
    seen.replaced[port] = (known.guid, 0x98039B03DEADBEE0)
    net.take_in(seen, ago=1)
    text = client.get("/fabric/compute/gpu-0002").text
    assert f'{guid_text(0x98039B03DEADBEE0)}</span> <b class="warn">replaced, not approved' in text


def test_racks_with_something_to_do_come_first(net: Net, client: TestClient) -> None:
    net.cut(Port("gpu-0005", "mlx5_3"))
    net.look()
    found = net.db.read(lambda tx: racks(scene(net), causes(tx, net.name)))
    assert [(rack.name, rack.causes) for rack in found][:2] == [("fra1 / 01 / 01-02", 1), ("fra1 / 01 / 01-N01", 1)]
    assert [rack.causes for rack in found][2:] == [0, 0]
    net.swap(Port("leaf-r0-01", "33"), Port("leaf-r1-01", "50"))
    net.look(ago=1)
    found = net.db.read(lambda tx: racks(scene(net), causes(tx, net.name)))
    assert {rack.name: rack.causes for rack in found}["fra1 / 01 / 01-N01"] == 2  # one cause in two boxes is one
    text = client.get(f"/fabric/compute/rack/{quote('fra1/01/01-02', safe='')}").text
    assert "gpu-0005" in text
    assert "7 ok, 1 absent" in text
    assert text.index("U31") < text.index("U1<")
    assert client.get("/fabric/compute/rack/fra1/01/none").status_code == 404


def test_hostile_names_are_inert(net: Net, client: TestClient) -> None:
    other = console_fabric.hostile(net.db, net.fabrics)
    other.cut(next(iter(other.links)))
    other.look()
    names = list(other.blueprint.chassis)
    paths = ["", "/rack", *(f"/{quote(name, safe='')}" for name in names)]
    paths += [f"/rack/{quote(rack.key, safe='')}" for rack in racks(scene(other), [])]
    for path in paths:
        answer = client.get(f"/fabric/hostile{path}")
        assert answer.status_code == 200, path
        assert "<script>window" not in answer.text
        assert "<img src=x" not in answer.text
        assert not re.search(r"<[^>]*\sonmouseover=", answer.text), path
    assert HOSTILE.replace("<", "&lt;").replace(">", "&gt;").replace("'", "&#39;") in client.get("/fabric/hostile").text
    assert "</script>" not in drawn(other)
    links = {html.unescape(href) for href in re.findall(r'<a href="([^"]+)"', drawn(other))}
    assert len(links) == len(names)
    assert {client.get(href).status_code for href in links} == {200}
    unknown = client.get(f"/fabric/hostile/{quote('<script>no', safe='')}")
    assert (unknown.status_code, "<script>no" in unknown.text) == (404, False)


@pytest.mark.parametrize("name", ["nothing", "a b", "<script>", "..%2f"])
def test_a_fabric_that_is_not_there_is_one_clear_page(client: TestClient, name: str) -> None:
    answer = client.get(f"/fabric/{quote(name)}")
    assert answer.status_code in (400, 404, 422)
    assert "Traceback" not in answer.text


# ── the weekly round ────────────────────────────────────────────────────────────────────────────────────────────────


def begin(net: Net, client: TestClient) -> str:
    console_fabric.troubled(net)
    answer = client.post("/fabric/compute/rounds", headers=OWN)
    assert answer.status_code == 303
    return answer.headers["location"].rpartition("/")[2]


def test_a_round_is_walked_and_signed(net: Net, client: TestClient) -> None:
    assert client.post("/fabric/compute/rounds", headers=OWN).status_code == 409  # nobody has looked
    round_id = begin(net, client)
    path = f"/fabric/compute/rounds/{round_id}"
    items = net.db.read(lambda tx: round_store.get(tx, "compute", round_id))["items"]
    answer = client.post(f"{path}/items/1", data={"result": "fixed", "note": " cleaned <b>it</b> "}, headers=OWN)
    assert (answer.status_code, answer.headers["location"]) == (303, f"{path}#i2")
    first = net.db.read(lambda tx: round_store.get(tx, "compute", round_id))["items"][0]
    assert (first["result"], first["note"], first["by"]) == ("fixed", "cleaned <b>it</b>", "token:t-technician")
    assert "cleaned &lt;b&gt;it&lt;/b&gt;" in client.get(path).text
    wrong = client.post(f"{path}/items/2", data={"result": "fine", "note": "kept"}, headers=OWN)
    assert "A result is ok, bad or fixed." in wrong.text
    assert ">kept</textarea>" in wrong.text
    late = client.post(f"{path}/sign", data={"summary": ""}, headers=OWN)
    assert (late.status_code, "enter them, or say why" in late.text) == (409, True)
    for item in items[1:]:
        client.post(f"{path}/items/{item['n']}", data={"result": "ok"}, headers=OWN)
    assert client.post(f"{path}/sign", data={"summary": "all walked"}, headers=OWN).status_code == 303
    assert "all walked" in client.get(path).text
    assert client.post(f"{path}/items/1", data={"result": "bad"}, headers=OWN).status_code == 409
    assert "signed by token:t-technician" in client.get("/fabric/compute/rounds").text


def test_nobody_signs_from_elsewhere_or_without_the_role(net: Net, client: TestClient) -> None:
    round_id = begin(net, client)
    path = f"/fabric/compute/rounds/{round_id}"
    deeds = (f"{path}/items/1", f"{path}/sign", "/fabric/compute/rounds")
    said = {"result": "ok", "summary": "x"}
    for deed in deeds:
        for headers in ({"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}, {"origin": "null"}):
            assert client.post(deed, data=said, headers=headers).status_code == 403
    sign_in(client, net, Role.VIEWER)
    for deed in deeds:
        assert client.post(deed, data=said, headers=OWN).status_code == 403
    assert "may look" in client.get(path).text
    client.cookies.clear()
    for deed in deeds:
        assert client.post(deed, data=said, headers=OWN).headers["location"].startswith("/login?next=")
    row = net.db.read(lambda tx: round_store.get(tx, "compute", round_id))
    assert (row["state"], next(item.get("result") for item in row["items"])) == ("open", None)
    assert net.db.read(lambda tx: rounds.is_due(tx, "compute", net.fabrics.settings("compute"))) is False


def test_a_round_of_another_fabric_is_not_found(net: Net, client: TestClient) -> None:
    round_id = begin(net, client)
    console_fabric.net(net.db, net.fabrics, 8, "storage")
    assert client.get(f"/fabric/storage/rounds/{round_id}").status_code == 404
    answer = client.post(f"/fabric/storage/rounds/{round_id}/items/1", data={"result": "ok"}, headers=OWN)
    assert answer.status_code == 404
    assert (
        client.post(f"/fabric/compute/rounds/{round_id}/items/x", data={"result": "ok"}, headers=OWN).status_code == 404
    )


def test_without_fabrics_there_is_no_such_page(sqlite_db: Database) -> None:
    console = Console(sqlite_db, Doorkeeper(sqlite_db))
    with TestClient(operator_app([console.router], registry=CollectorRegistry())) as client:
        made = sqlite_db.write(lambda tx: create_token(tx, name="w", role=Role.VIEWER, actor=MARA))
        client.cookies.set("ostler_session", made.secret)
        assert client.get("/fabric").status_code == 404
        assert 'href="/fabric"' not in client.get("/now").text
    console.close()
