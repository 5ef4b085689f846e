"""Silent data corruption: the same kernels on the same inputs, again and again, must give the same bits.

Three comparisons: a GPU with itself over time (it differs: failed, that GPU), the GPUs of the node with each other (the
majority is right; two that disagree are both suspects), and with golden digests where there are any (goldens.py). A GPU
that is consistent but has neither a sibling nor a golden to be compared with has proved nothing: inconclusive.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ostler.checks.gpu import goldens
from ostler.checks.gpu.bench import Bench, Device, Over, guard, measure
from ostler.checks.gpu.goldens import Observation
from ostler.checks.gpu.kernels import RECIPES, Recipe, deterministic, digest, pattern
from ostler.checks.model import Arguments, CheckResult, number, words
from ostler.checks.tally import Tally

NAME = "sdc"
_ALL = "gemm-fp32,gemm-fp16,gemm-bf16,attention-fp32,attention-bf16,fused-attention-bf16"


def run(arguments: Arguments, budget_s: float, bench: Bench | None = None) -> CheckResult:
    """Rounds over all kernels and GPUs until `seconds` (at most `budget_s`) are over, two rounds at least."""
    chosen = [RECIPES[name] for name in words(arguments, "kernels", _ALL, RECIPES)]
    seconds = min(number(arguments, "seconds", 60.0, 0.0, 86_400.0), budget_s)
    size = int(number(arguments, "size", 0, 16, 32_768))
    if size % 16:
        size -= size % 16  # _scaled_mm takes multiples of 16 only
    inner = int(number(arguments, "inner", 0, 1, 100_000))
    seed = arguments.get("seed", "1")[:64]
    store = goldens.read(arguments["golden"]) if "golden" in arguments else None
    needed = arguments.get("require_golden", "0") not in ("0", "no", "")
    end, hard_end = time.monotonic() + seconds, time.monotonic() + budget_s

    def body(ready: Bench, tally: Tally) -> None:
        session = _Session(ready, tally, size or ready.small(4096, 64), seed, inner or ready.small(20, 2))
        with deterministic(ready.torch):
            try:
                session.go(chosen, end, hard_end)
            except Over:
                session.judge(store, needed)
                raise
            session.judge(store, needed)
        if "observations" in arguments:
            goldens.write(Path(arguments["observations"]), session.observations())

    return measure(NAME, arguments, body, bench)


class _Session:
    """The digests of one run: kernel → GPU → one per round."""

    def __init__(self, bench: Bench, tally: Tally, size: int, seed: str, inner: int) -> None:
        self._inner = inner
        self._bench, self._tally, self._size, self._seed = bench, tally, size, seed
        self._digests: dict[str, dict[int, list[str]]] = {}
        self._recipes: dict[str, Recipe] = {}
        self._made: dict[str, list[Any]] = {}
        self._placed: dict[tuple[str, int], list[Any] | None] = {}

    def go(self, chosen: Sequence[Recipe], end: float, hard_end: float) -> None:
        """Runs rounds until the time is over."""
        rounds = 0
        while rounds < 2 or time.monotonic() < end:
            for recipe in chosen:
                if time.monotonic() >= hard_end:
                    self._tally.note("rounds", rounds)
                    if rounds < 2:
                        self._tally.gap("the time was over before two rounds were")
                    return
                self._once(recipe)
            rounds += 1
            self._tally.note("rounds", rounds)

    def _once(self, recipe: Recipe) -> None:
        """The kernel `inner` times on every GPU, all of them at once; the first result's digest is taken on the CPU.

        The repeats are compared with the first on the GPU itself, which keeps it busy; the digest, which a GPU under
        suspicion has no hand in, is what GPUs are compared by.
        """
        bench, running = self._bench, []
        for device in bench.devices:
            with guard(self._tally, device, recipe.name):
                inputs = self._inputs(recipe, device)
                if inputs is not None:
                    first = bench.compute(device, recipe.kernel, inputs).contiguous()
                    running.append(
                        (device, inputs, first, bench.torch.zeros((), dtype=bench.torch.int64, device=device.place))
                    )
        for _ in range(self._inner - 1):
            for device, inputs, first, odd in running:
                with guard(self._tally, device, recipe.name):
                    again = bench.compute(device, recipe.kernel, inputs).contiguous()
                    odd.add_((_bits(bench.torch, again) != _bits(bench.torch, first)).any())
        for device, _, first, odd in running:
            with guard(self._tally, device, recipe.name):
                if times := int(odd):
                    self._tally.fail(
                        f"GPU {device.index}: {recipe.name} differs from itself in {times} of {self._inner} repeats"
                    )
                found = digest(bench.fetch(device, first))
                self._digests.setdefault(recipe.name, {}).setdefault(device.index, []).append(found)
                self._recipes[recipe.name] = recipe

    def _inputs(self, recipe: Recipe, device: Device) -> list[Any] | None:
        """The kernel's inputs on the device; None where they did not arrive there as they were sent."""
        bench, key = self._bench, (recipe.name, device.index)
        if key not in self._placed:
            if recipe.name not in self._made:
                self._made[recipe.name] = [
                    pattern(bench.torch, recipe.shape(self._size), f"{self._seed}:{recipe.name}:{n}", recipe.dtype)
                    for n in range(3 if recipe.attention else 2)
                ]
            made = self._made[recipe.name]
            placed = [bench.put(device, one) for one in made]
            arrived = [digest(bench.fetch(device, one)) for one in placed] == [digest(one) for one in made]
            if not arrived:
                self._tally.fail(f"GPU {device.index}: what was copied to it came back different")
            self._placed[key] = placed if arrived else None
        return self._placed[key]

    def observations(self) -> list[Observation]:
        """What each GPU that agreed with itself saw."""
        return [
            self._observation(name, device, found[0])
            for name, by_gpu in self._digests.items()
            for device in self._bench.devices
            if len(set(found := by_gpu.get(device.index, []))) == 1 and device.serial
        ]

    def _observation(self, name: str, device: Device, found: str) -> Observation:
        shape = self._recipes[name].text(self._size)
        versions = goldens.versions_of(self._bench.versions)
        return Observation(device.model, name, shape, self._seed, found, device.serial, versions)

    def judge(self, store: Sequence[Observation] | None, needed: bool) -> None:
        """All comparisons, into the tally."""
        compared = 0
        missing: list[str] = []
        for name, by_gpu in self._digests.items():
            sound, right = compare(name, by_gpu, self._models(), self._tally)
            if right is not None:
                self._tally.note(f"digest_{name}", right)
            witnesses = sum(count for count in Counter(self._models()[index] for index in sound).values() if count > 1)
            checked = 0
            for device in self._bench.devices:
                if device.index not in sound:
                    continue
                seen = self._observation(name, device, by_gpu[device.index][0])
                known = goldens.golden(store or (), seen)
                if known.digest is None:
                    missing.append(f"{name}: {known.why_not}")
                elif known.digest != seen.digest:
                    self._tally.fail(f"GPU {device.index}: {name} differs from the golden digest")
                else:
                    checked += 1
                    self._tally.fine()
            compared += 1 if witnesses or checked else 0
        self._tally.note("kernels", len(self._digests))
        self._tally.note("golden", "agrees" if self._digests and not missing else "inconclusive")
        if missing:
            told = f"golden digests: inconclusive ({sorted(set(missing))[0]})"
            (self._tally.gap if needed else self._tally.remark)(told)
        if compared < len(self._digests):
            self._tally.gap("no second GPU and no golden to compare with: agreeing with oneself proves little")

    def _models(self) -> dict[int, str]:
        return {device.index: device.model for device in self._bench.devices}


def _bits(torch: Any, tensor: Any) -> Any:
    return tensor.view(torch.uint8)


def compare(
    name: str, by_gpu: Mapping[int, Sequence[str]], models: Mapping[int, str], tally: Tally
) -> tuple[list[int], str | None]:
    """Judges one kernel: (GPUs that nothing speaks against, the digest that the node's GPUs agree on).

    GPUs are compared only with those of the same model. A majority is more than half.
    """
    steady: dict[str, dict[int, str]] = {}
    for index, found in sorted(by_gpu.items()):
        if len(set(found)) > 1:
            odd = len(found) - Counter(found).most_common(1)[0][1]
            tally.fail(f"GPU {index}: {name} differs from itself in {odd} of {len(found)} repeats")
        elif len(found) < 2:
            tally.gap(f"GPU {index}: {name} ran less than twice")
        else:
            steady.setdefault(models[index], {})[index] = found[0]
    sound: list[int] = []
    agreed: str | None = None
    for alike in steady.values():
        digest_, votes = Counter(alike.values()).most_common(1)[0]
        if votes * 2 > len(alike):
            wrong = [index for index, found in alike.items() if found != digest_]
            for index in wrong:
                tally.fail(f"GPU {index}: {name} differs from {votes} other GPUs")
            sound += [index for index in alike if index not in wrong]
            agreed = digest_ if len(steady) == 1 else None
            if votes > 1:
                tally.fine()
        else:
            named = " and ".join(map(str, sorted(alike)))
            tally.fail(f"GPUs {named}: {name} differs between them, and no majority says which is wrong: all suspect")
    return sound, agreed
