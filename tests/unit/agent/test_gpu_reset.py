"""`reset-gpu`: everything of ours lets go, the reset, everything is started again; strangers are named, not killed.

The world is a /proc in a folder and a list of what was run; the order of things is the product's own.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from ostler.agent.gpu_reset import GpuResetVerb, pci_address
from ostler.core.errors import BadInput
from ostler.wire.agent import Order, OrderResult, Verdict
from ostler.wire.decode import JsonValue

ADDRESS = "0000:1b:00.0"
DCGM, PERSISTENCED, EXPORTER = "nvidia-dcgm", "nvidia-persistenced", "dcgm-exporter"


class Done:
    """A command that has ended by the second look."""

    def __init__(self, status: int, output: bytes) -> None:
        self._ended = (status, output)
        self._looks = 0

    def poll(self) -> tuple[int, bytes] | None:
        self._looks += 1
        return self._ended if self._looks > 1 else None

    def kill(self) -> None:
        self._looks = 2


class World:
    """A node with one GPU, seen through /proc and systemctl."""

    def __init__(self, folder: Path) -> None:
        self.proc = folder / "proc"
        self.log: list[str] = []
        self.active = {DCGM, PERSISTENCED}
        self.fails: dict[str, bytes] = {}
        self.obeys = True
        self.holding = frozenset({100})
        self.now = 0.0
        self.stubborn = self.immortal = False
        gpu = self.proc / "driver/nvidia/gpus" / ADDRESS
        gpu.mkdir(parents=True)
        (gpu / "information").write_text("Model: \t\t NVIDIA H100\nBus Location: \t 0000:1b:00.0\nDevice Minor: \t 3\n")
        (self.proc / "self").mkdir()
        self.process(100, "python3.11", 3)
        self.process(200, "nv-hostengine", 3)
        self.process(300, "nvidia-persistenced", 3)
        self.process(400, "nv-fabricmanager", 3)
        self.process(500, "python3.11", 2)

    def process(self, pid: int, program: str, minor: int) -> None:
        folder = self.proc / str(pid)
        (folder / "fd").mkdir(parents=True)
        (folder / "exe").symlink_to(f"/usr/bin/{program}")
        (folder / "fd/0").symlink_to("/dev/null")
        (folder / "fd/7").symlink_to(f"/dev/nvidia{minor}")

    def lets_go(self, pid: int) -> None:
        (self.proc / str(pid) / "fd/7").unlink(missing_ok=True)

    # ── what the verb touches ──

    def run(self, argv: Sequence[str]) -> Done:
        words = " ".join(argv)
        if argv[1] == "is-active":
            return Done(0 if argv[-1] in self.active else 3, b"")
        self.log.append(words)
        if words in self.fails:
            return Done(1, self.fails[words])
        if argv[1] == "stop":
            self.active.discard(argv[-1])
            self.lets_go({DCGM: 200, PERSISTENCED: 300, EXPORTER: 600}[argv[-1]])
        if argv[1] == "start":
            self.active.add(argv[-1])
        return Done(0, b"")

    def end(self, pid: int, number: int) -> None:
        self.log.append(f"{signal.Signals(number).name} {pid}")
        if not self.stubborn or number == signal.SIGKILL:
            self.lets_go(pid)

    def ticks(self) -> float:
        self.now += 0.2
        return self.now

    # ── the monitors ──

    def hold(self) -> None:
        self.log.append("hold")
        if self.obeys:
            self.lets_go(100)

    def let_go(self) -> bool:
        return self.obeys

    def kill(self) -> None:
        self.log.append("kill")
        if not self.immortal:
            self.lets_go(100)

    def resume(self) -> None:
        self.log.append("resume")

    def pids(self) -> frozenset[int]:
        return self.holding


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def verb(world: World, note: Path | None = None) -> GpuResetVerb:
    return GpuResetVerb(
        holder=world, note=note, proc=world.proc, run=world.run, end=world.end, ticks=world.ticks
    )  # fmt: skip


def run(world: World, note: Path | None = None, **arguments: JsonValue) -> OrderResult:
    order = Order("o1", "reset-gpu", {"device": ADDRESS, **arguments})
    execution = verb(world, note).start(order)
    for _ in range(10_000):
        result = execution.poll()
        if result is not None:
            return result
    raise AssertionError("it never ends")


RESET = f"nvidia-smi --gpu-reset -i {ADDRESS}"
WHOLE = [
    "hold", f"systemctl stop {DCGM}", f"systemctl stop {PERSISTENCED}", RESET,
    f"systemctl start {PERSISTENCED}", f"systemctl start {DCGM}", "resume",
]  # fmt: skip


def test_everything_lets_go_and_is_started_again(world: World) -> None:
    result = run(world)
    assert result.verdict is Verdict.PASSED, result
    assert world.log == WHOLE
    assert result.message == f"{ADDRESS} was reset; stopped and started again: {DCGM}, {PERSISTENCED}"
    assert result.measured["exit_status"] == 0
    assert world.active == {DCGM, PERSISTENCED}


def test_a_reset_that_fails_starts_everything_again_too(world: World) -> None:
    world.fails[RESET] = b"GPU Reset couldn't run because GPU 0 is the primary GPU.\n"
    result = run(world)
    assert result.verdict is Verdict.FAILED
    assert "primary GPU. (exit status 1)" in result.message
    assert world.log == WHOLE


def test_a_service_that_does_not_stop(world: World) -> None:
    world.fails[f"systemctl stop {PERSISTENCED}"] = b"Failed to stop: Access denied"
    result = run(world)
    assert result.verdict is Verdict.FAILED
    assert "not reset: nvidia-persistenced does not stop: Failed to stop: Access denied" in result.message
    assert RESET not in world.log
    assert world.log[-3:] == [f"systemctl start {PERSISTENCED}", f"systemctl start {DCGM}", "resume"]


def test_a_service_that_does_not_start_again_is_said(world: World) -> None:
    world.fails[f"systemctl start {DCGM}"] = b"Job failed"
    result = run(world)
    assert result.verdict is Verdict.PASSED, "the GPU was reset"
    assert result.message.endswith("nvidia-dcgm does not start again: Job failed")


def test_what_did_not_run_is_not_started(world: World) -> None:
    world.active = {PERSISTENCED}
    world.lets_go(200)
    assert run(world).verdict is Verdict.PASSED
    assert [line for line in world.log if DCGM in line] == []


def test_a_stranger_is_named_and_nothing_is_touched(world: World) -> None:
    world.process(4242, "python3.11", 3)
    result = run(world)
    assert result.verdict is Verdict.FAILED
    assert result.message == f"nothing was done: process 4242 (python3.11) holds {ADDRESS}"
    assert world.log == []


def test_a_process_of_another_gpu_is_no_stranger(world: World) -> None:
    world.process(4242, "python3.11", 33)
    assert run(world).verdict is Verdict.PASSED


def test_force_ends_strangers_politely_first(world: World) -> None:
    world.process(4242, "python3.11", 3)
    result = run(world, force=True)
    assert result.verdict is Verdict.PASSED, result
    assert [line for line in world.log if line.startswith("SIG")] == ["SIGTERM 4242"]
    assert "ended: 4242 (python3.11)" in result.message
    assert world.log.index("SIGTERM 4242") < world.log.index(RESET)


def test_force_kills_what_does_not_end(world: World) -> None:
    world.process(4242, "python3.11", 3)
    world.stubborn = True
    assert run(world, force=True).verdict is Verdict.PASSED
    assert [line for line in world.log if line.startswith("SIG")] == ["SIGTERM 4242", "SIGKILL 4242"]


def test_an_exporter_in_a_container_is_ended_for_its_kubelet_starts_it_again(world: World) -> None:
    world.process(600, "dcgm-exporter", 3)
    result = run(world)
    assert result.verdict is Verdict.PASSED
    assert "SIGTERM 600" in world.log
    assert "ended: 600 (dcgm-exporter)" in result.message


def test_monitors_that_do_not_let_go_are_killed(world: World) -> None:
    world.obeys = False
    assert run(world).verdict is Verdict.PASSED
    assert world.log[:2] == ["hold", "kill"]


@pytest.mark.parametrize("force", [False, True])
def test_what_still_holds_it_stops_the_reset(world: World, force: bool) -> None:
    world.obeys = False
    world.immortal = True
    result = run(world, force=force)
    assert result.verdict is Verdict.FAILED
    assert f"not reset: process 100 (python3.11) still holds {ADDRESS}" in result.message
    assert RESET not in world.log
    assert "SIGTERM 100" not in world.log
    assert world.log[-1] == "resume"


def test_a_gpu_that_the_driver_does_not_list(world: World) -> None:
    result = run(world, device="0000:99:00.0")
    assert result.verdict is Verdict.FAILED
    assert "the driver lists no GPU at 0000:99:00.0" in result.message
    assert world.log == []


def test_an_agent_that_dies_in_between_starts_them_in_its_next_life(world: World, tmp_path: Path) -> None:
    note = tmp_path / "gpu-reset.json"
    execution = verb(world, note).start(Order("o1", "reset-gpu", {"device": ADDRESS}))
    while RESET not in world.log:
        assert execution.poll() is None
    assert json.loads(note.read_text()) == [DCGM, PERSISTENCED]
    world.log.clear()
    verb(world, note)
    assert world.log == [f"systemctl start --no-block {PERSISTENCED}", f"systemctl start --no-block {DCGM}"]
    assert not note.exists()
    verb(world, note)
    assert len(world.log) == 2, "once"


@pytest.mark.parametrize("said", ["[", "{}", '["sshd", 5, "nvidia-dcgm; reboot"]'])
def test_a_damaged_note_starts_nothing(world: World, tmp_path: Path, said: str) -> None:
    note = tmp_path / "gpu-reset.json"
    note.write_text(said)
    verb(world, note)
    assert world.log == []


def test_nothing_is_left_noted_after_the_end(world: World, tmp_path: Path) -> None:
    note = tmp_path / "gpu-reset.json"
    run(world, note)
    assert not note.exists()


def test_over_its_deadline_everything_is_started_again(world: World) -> None:
    execution = verb(world).start(Order("o1", "reset-gpu", {"device": ADDRESS}))
    while RESET not in world.log:
        assert execution.poll() is None
    execution.stop()
    after = world.log[world.log.index(RESET) + 1 :]
    assert after == [f"systemctl start --no-block {PERSISTENCED}", f"systemctl start --no-block {DCGM}", "resume"]


@pytest.mark.parametrize(
    ("device", "read"),
    [
        ("0000:18:00", "0000:18:00.0"),
        ("0000:18:00.0", "0000:18:00.0"),
        ("00000009:01:00", "0009:01:00.0"),
        ("00000000:1B:00.0", "0000:1b:00.0"),
    ],
)
def test_addresses_of_xid_lines_and_of_nvml_are_those_of_sysfs(device: str, read: str) -> None:
    assert pci_address(device) == read


@pytest.mark.parametrize("arguments", [{"device": d} for d in ("", "0", "all", "0000:18:00; reboot", "--id=0", 5)])
def test_nothing_but_an_address_is_taken(world: World, arguments: dict[str, JsonValue]) -> None:
    with pytest.raises(BadInput):
        verb(world).start(Order("o1", "reset-gpu", arguments))


def test_force_is_true_or_false(world: World) -> None:
    with pytest.raises(BadInput, match="'force' is true or false"):
        verb(world).start(Order("o1", "reset-gpu", {"device": ADDRESS, "force": "yes"}))


def test_two_resets_are_one_after_the_other(world: World) -> None:
    """What the first starts again would take the GPU while the second resets it."""
    other = "0000:2b:00.0"
    gpu = world.proc / "driver/nvidia/gpus" / other
    gpu.mkdir(parents=True)
    (gpu / "information").write_text("Device Minor: \t 4\n")
    both = verb(world)
    left = [both.start(Order(f"o{n}", "reset-gpu", {"device": device})) for n, device in enumerate((ADDRESS, other))]
    results = []
    for _ in range(1000):
        for execution in list(left):
            if (result := execution.poll()) is not None:
                left.remove(execution)
                results.append(result.verdict)
    assert results == [Verdict.PASSED, Verdict.PASSED]
    assert world.log == WHOLE + [line.replace(ADDRESS, other) for line in WHOLE]


def test_a_reset_that_is_stopped_lets_the_next_one_begin(world: World) -> None:
    both = verb(world)
    first, second = (both.start(Order(f"o{n}", "reset-gpu", {"device": ADDRESS})) for n in (1, 2))
    assert (first.poll(), second.poll()) == (None, None)
    first.stop()
    assert any(second.poll() is not None for _ in range(1000))
