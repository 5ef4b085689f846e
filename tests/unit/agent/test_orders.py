"""Orders: two locks before anything happens, run once over deaths and repeats, stopped in time with all they started."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ostler.agent.confine import Child, own_group
from ostler.agent.orders import REMEMBERED, FileOrderBook, OrderBook, Orders
from ostler.agent.verbs import CommandVerb, read_check, read_exit, read_reboot, real_verbs
from ostler.core.clock import ManualClock
from ostler.core.errors import BadInput, OstlerError
from ostler.wire.agent import AgentSettings, Order, OrderResult, Verdict

GRANTED = AgentSettings(verbs=("touch", "sleep", "reboot"))


def finish(orders: Orders, count: int = 1) -> dict[str, OrderResult]:
    """Steps until there are `count` results; the children are short or the clock has passed their deadline."""
    for _ in range(10_000_000):
        orders.step()
        results = {result.order_id: result for result in orders.results()}
        if len(results) >= count:
            return results
        os.sched_yield()
    raise AssertionError("no result")


@pytest.fixture
def make(tmp_path: Path, clock: ManualClock) -> Callable[..., Orders]:
    """Orders with a verb that leaves a trace per run, one that lasts, and one that ends the boot."""
    verbs = {
        "touch": CommandVerb(lambda order: ("sh", "-c", f"echo run >> {tmp_path}/trace; echo done"), read_exit),
        "sleep": CommandVerb(lambda order: ("sh", "-c", f"sleep 1000 & echo $! > {tmp_path}/pid; wait"), read_exit),
        "reboot": CommandVerb(lambda order: ("true",), read_reboot, ends_boot=True),
        "absent": CommandVerb(lambda order: ("/nonexistent/tool",), read_exit),
    }

    def build(allow: tuple[str, ...] = tuple(verbs), book: OrderBook | None = None, boot_id: str = "b1") -> Orders:
        return Orders(verbs, allow, book or OrderBook(), clock, boot_id)

    return build


def runs(folder: Path) -> int:
    trace = folder / "trace"
    return trace.read_text().count("run") if trace.exists() else 0


def test_an_allowed_and_granted_order_runs_once(make: Callable[..., Orders], tmp_path: Path) -> None:
    orders = make()
    for _ in range(3):
        orders.take([Order("o", "touch")], GRANTED)
        result = finish(orders)["o"]
    assert (result.verdict, result.message, result.measured) == (Verdict.PASSED, "done", {"exit_status": 0})
    assert runs(tmp_path) == 1
    orders.told([result])
    assert orders.results() == ()
    orders.take([Order("o", "touch")], GRANTED)  # the server did not get it after all
    assert orders.results() == (result,)
    assert runs(tmp_path) == 1


@pytest.mark.parametrize(
    ("allow", "settings", "says"),
    [
        ((), GRANTED, "was not started with --allow touch"),
        (("sleep",), GRANTED, "was not started with --allow touch"),
        (("touch",), AgentSettings(), "the node's pool does not grant touch"),
    ],
)
def test_either_lock_refuses(
    make: Callable[..., Orders], tmp_path: Path, allow: tuple[str, ...], settings: AgentSettings, says: str
) -> None:
    orders = make(allow)
    orders.take([Order("o", "touch")], settings)
    result = finish(orders)["o"]
    assert result.verdict is Verdict.REFUSED
    assert says in result.message
    assert runs(tmp_path) == 0


def test_a_verb_that_nobody_knows_is_refused(make: Callable[..., Orders]) -> None:
    orders = make(("format",))
    orders.take([Order("o", "format")], AgentSettings(verbs=("format",)))
    assert finish(orders)["o"].verdict is Verdict.REFUSED


def test_what_cannot_be_started_failed(make: Callable[..., Orders]) -> None:
    orders = make()
    orders.take([Order("o", "absent")], AgentSettings(verbs=("absent",)))
    result = finish(orders)["o"]
    assert (result.verdict, result.message) == (
        Verdict.FAILED,
        "absent: /nonexistent/tool cannot be started: No such file or directory",
    )


def test_what_yields_stops_when_work_comes(tmp_path: Path, clock: ManualClock) -> None:
    busy = [False]
    verbs = {"sleep": CommandVerb(lambda order: ("sh", "-c", f"echo $$ > {tmp_path}/pid; sleep 1000"), read_exit)}
    orders = Orders(verbs, ("sleep",), OrderBook(), clock, "b1", lambda: busy[0])
    orders.take([Order("o", "sleep", {"yields": "true"}), Order("p", "sleep")], GRANTED)
    orders.step()
    orders.step()
    assert orders.results() == ()
    busy[0] = True
    result = finish(orders)["o"]
    assert (result.verdict, result.message) == (Verdict.INCONCLUSIVE, "stopped: a workload came")
    assert result.measured == {"stopped": True}
    assert [one.order_id for one in orders.results()] == ["o"], "the other was not asked to yield"
    orders.take([Order("q", "sleep", {"yields": "true"})], GRANTED)
    assert finish(orders, 2)["q"].message == "a workload is on the node"
    orders.close()


def test_a_deadline_ends_it_and_its_children(make: Callable[..., Orders], tmp_path: Path, clock: ManualClock) -> None:
    orders = make()
    orders.take([Order("o", "sleep", deadline_s=5.0)], GRANTED)
    pid = tmp_path / "pid"
    while not (pid.exists() and pid.read_text().strip()):
        orders.step()
    grandchild = Path("/proc") / pid.read_text().strip()
    assert grandchild.exists()
    assert orders.results() == ()
    clock.advance(5.0)
    result = finish(orders)["o"]
    assert (result.verdict, result.message) == (Verdict.INCONCLUSIVE, "stopped: it was over its deadline")
    assert result.finished_at - result.started_at == 5.0
    for _ in range(10_000_000):
        if not grandchild.exists() or "Z" in (grandchild / "stat").read_text().split()[2]:
            return
        os.sched_yield()
    raise AssertionError("the grandchild lives on")


def test_an_order_is_not_run_again_after_the_agents_death(make: Callable[..., Orders], tmp_path: Path) -> None:
    orders = make(book=FileOrderBook(tmp_path / "orders.json"))
    orders.take([Order("o", "sleep"), Order("p", "touch")], GRANTED)
    finish(orders)
    orders.close()
    again = make(book=FileOrderBook(tmp_path / "orders.json"))
    again.take([Order("o", "sleep"), Order("p", "touch")], GRANTED)
    results = finish(again, 2)
    assert (results["o"].verdict, results["o"].message) == (Verdict.INCONCLUSIVE, "the agent ended while it ran")
    assert results["p"].verdict is Verdict.PASSED
    assert runs(tmp_path) == 1
    assert not again.active()


@pytest.mark.parametrize(("boot_id", "verdict"), [("b2", Verdict.PASSED), ("b1", Verdict.INCONCLUSIVE)])
def test_a_reboot_passes_by_coming_up_again(
    make: Callable[..., Orders], tmp_path: Path, boot_id: str, verdict: Verdict
) -> None:
    orders = make(book=FileOrderBook(tmp_path / "orders.json"))
    orders.take([Order("o", "reboot")], GRANTED)
    for _ in range(1000):
        orders.step()
    assert orders.results() == (), "taking the order is no success"
    orders.close()
    again = make(book=FileOrderBook(tmp_path / "orders.json"), boot_id=boot_id)
    assert finish(again)["o"].verdict is verdict


def test_without_a_journal_nothing_is_started(make: Callable[..., Orders], tmp_path: Path) -> None:
    class FullDisk(OrderBook):
        def save(self) -> None:
            raise OSError(28, "No space left on device")

    orders = make(book=FullDisk())
    orders.take([Order("o", "touch")], GRANTED)
    result = finish(orders)["o"]
    assert result.verdict is Verdict.FAILED
    assert "No space left" in result.message
    assert runs(tmp_path) == 0


def test_the_journal_is_bounded_and_survives_damage(make: Callable[..., Orders], tmp_path: Path) -> None:
    path = tmp_path / "orders.json"
    orders = make((), book=FileOrderBook(path))
    for number in range(REMEMBERED + 50):
        orders.take([Order(f"o{number}", "touch")], GRANTED)
        orders.told(orders.results())
    orders.take([Order("last", "touch")], GRANTED)
    assert len(FileOrderBook(path).entries) <= REMEMBERED
    for damage in (b"{", b"[1]", b'[{"id":"o"}]', b"\xff"):
        path.write_bytes(damage)
        assert FileOrderBook(path).entries == {}


@pytest.mark.parametrize(
    ("verb", "arguments", "says"),
    [
        ("run-check", {}, "needs the argument 'check'"),
        ("run-check", {"check": "; rm -rf /"}, "no check is called"),
        ("run-check", {"check": "gpu-present", "expected": True}, "takes no such 'expected'"),
        ("restart-service", {"service": "sshd"}, "'sshd' is none of nvidia-fabricmanager"),
        ("restart-service", {"service": 5}, "needs the argument 'service' as text"),
        ("reset-gpu", {"device": "all"}, "'all' is no PCI address"),
        ("reset-gpu", {"device": "--help"}, "is no PCI address"),
    ],
)
def test_real_verbs_check_their_arguments(verb: str, arguments: dict[str, str], says: str) -> None:
    with pytest.raises(OstlerError) as caught:
        real_verbs()[verb].start(Order("o", verb, arguments))
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "output", [b"", b"Killed\n", b"{}", b'{"name":"x","verdict":"splendid","measured":{}}', b"[]\n"]
)
def test_a_check_that_broke_is_inconclusive(output: bytes) -> None:
    result = read_check(Order("o", "run-check"), -9, output)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "killed by signal 9" in result.message


def test_a_check_runs_in_a_group_of_its_own() -> None:
    if own_group() is None or not os.access(own_group() or "", os.W_OK):
        pytest.skip("no cgroup v2 hierarchy that this user may write to")
    code = "print(open('/proc/self/cgroup').read().split('0::')[1].splitlines()[0])"
    move = "import sys, pathlib; pathlib.Path(sys.argv[3], 'cgroup.procs').write_text('0');"
    child = Child((sys.executable, "-c", move + code, "ostler.checks"), name="test")
    while (ended := child.poll()) is None:
        os.sched_yield()
    status, output = ended
    assert status == 0, output
    assert b"ostler-test-" in output
    assert not list((own_group() or Path("/nonexistent")).glob("ostler-test-*"))


def test_a_bad_argument_is_bad_input() -> None:
    with pytest.raises(BadInput):
        real_verbs()["reset-gpu"].start(Order("o", "reset-gpu", {"device": "0"}))
