"""`ostler checks`: the active tests of this machine, without agent or server. Also what a verification pod runs.

A run leaves `inconclusive` in the termination log before it begins, so that a pod killed at any moment has no verdict
that anybody could take for a pass.
"""

from __future__ import annotations

import dataclasses
import json as json_
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ostler.checks.model import CheckResult, CheckVerdict
from ostler.checks.plans import PLANS, Planned, plan
from ostler.checks.registry import CHECKS, find
from ostler.checks.runner import Stopped, arguments_of, run_apart, stoppable
from ostler.cli.output import Json, facts, print_json, say, table
from ostler.core.errors import BadInput, NotFound

checks_app = typer.Typer(help="Active tests of this machine: list, run, plan; golden digests.", no_args_is_help=True)

_TERMINATION_LIMIT = 4096
"""Bytes that Kubernetes keeps of a termination message."""

Sku = Annotated[str, typer.Option("--sku", help="GPU model or SKU whose thresholds count, such as h100; for plans.")]
Gpus = Annotated[int, typer.Option("--gpus", min=0, help="GPUs of a node; 0: as many as the SKU has.")]


@checks_app.command("list")
def list_command(json: Json = False) -> None:
    """List the checks with their arguments, and the plans."""
    if json:
        print_json(
            {
                "checks": [
                    {
                        "name": check.name,
                        "summary": check.summary,
                        "seconds": check.seconds,
                        "needs": check.needs,
                        "arguments": dict(check.arguments),
                    }
                    for check in CHECKS.values()
                ],
                "plans": dict(PLANS),
            }
        )
        return
    table(
        ("CHECK", "FINDS", "NEEDS", "ARGUMENTS"),
        ((check.name, check.summary, check.needs, " ".join(check.arguments)) for check in CHECKS.values()),
        empty="No checks.",
    )
    say("\nPlans, for `ostler checks run PLAN --sku SKU`:")
    facts(PLANS)


@checks_app.command("plan")
def plan_command(
    name: Annotated[str, typer.Argument(metavar="PLAN", help="quick, verification or repair.")],
    sku: Sku = "",
    gpus: Gpus = 0,
    json: Json = False,
) -> None:
    """Print a plan as settings name checks: NAME key=value …"""
    planned = _planned(name, sku, gpus)
    if json:
        print_json([one.text for one in planned])
        return
    for one in planned:
        say(one.text)


@checks_app.command("run")
def run_command(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME|PLAN...", help='Checks ("NAME key=value …" in one) or plans, in order.')
    ],
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="An argument; with one check only.")
    ] = None,
    sku: Sku = "",
    gpus: Gpus = 0,
    budget: Annotated[float, typer.Option("--budget", min=0.1, help="Seconds for everything together.")] = 3600.0,
    termination_log: Annotated[
        Path | None, typer.Option("--termination-log", help="Where Kubernetes looks for a pod's last words.")
    ] = None,
    json: Json = False,
    fit: Annotated[
        int,
        typer.Option(
            "--fit", min=0, help="With --json: leave measurements out until the line has at most so many bytes; 0: all."
        ),
    ] = 0,
) -> None:
    """Run checks or plans on this machine.

    Exits 0 when every check passed, 1 when one failed or is inconclusive. A SIGTERM ends all at once: inconclusive.
    With --json the last line of output is one JSON document, which is what schedulers hand on of a run.
    """
    planned = _chosen(names, set_ or [], sku, gpus)
    _last_words(termination_log, CheckVerdict.INCONCLUSIVE, "it did not come to an end")
    results: list[CheckResult] = []
    stopped: Stopped | None = None
    end = time.monotonic() + budget
    try:
        with stoppable():
            for one in planned:
                left = end - time.monotonic()
                if left <= 0:
                    results.append(_not_run(one, "no time was left for it"))
                    continue
                results.append(run_apart(one.check, one.arguments, left))
                if not json:
                    _show(results[-1])
    except Stopped as stop:
        stopped = stop
        late = [_not_run(one, "stopped") for one in planned[len(results) :]]
        results += late
        if not json:
            for result in late:
                _show(result)
    verdict = overall(results)
    if json:
        say(_line(verdict, results, fit))
    elif len(results) > 1:
        say(f"{verdict.value}: {_counted(results)}")
    _last_words(termination_log, verdict, _counted(results), results)
    if stopped is not None:
        raise typer.Exit(stopped.status)
    raise typer.Exit(0 if verdict is CheckVerdict.PASSED else 1)


@checks_app.command("golden")
def golden_command(
    store: Annotated[Path, typer.Argument(help="The store to make or to add to.")],
    observations: Annotated[list[str] | None, typer.Argument(help="Files that `sdc observations=FILE` wrote.")] = None,
    json: Json = False,
) -> None:
    """Merge digests that GPUs computed, and say which are golden: where two or more GPUs agree."""
    from ostler.checks.gpu import goldens

    known = goldens.read(str(store)) if store.exists() else []
    merged = goldens.merge(known, *(goldens.read(name) for name in observations or []))
    if observations:
        goldens.write(store, merged)
    rows: list[dict[str, Any]] = [
        {
            "sku": seen.sku,
            "kernel": seen.kernel,
            "shape": seen.shape,
            "versions": dict(seen.versions),
            "golden": found.digest,
            "why_not": found.why_not,
        }
        for seen, found in goldens.summary(merged)
    ]
    if json:
        print_json(rows)
        return
    table(
        ("SKU", "KERNEL", "SHAPE", "VERSIONS", "GOLDEN"),
        (
            (
                row["sku"],
                row["kernel"],
                row["shape"],
                " ".join(f"{name} {value}" for name, value in row["versions"].items()),
                row["golden"][:16] if row["golden"] else f"none: {row['why_not']}",
            )
            for row in rows
        ),
        empty="No observations.",
    )


def overall(results: Sequence[CheckResult]) -> CheckVerdict:
    """The worst of them: failed, then inconclusive. Nothing run is inconclusive."""
    verdicts = {result.verdict for result in results}
    if CheckVerdict.FAILED in verdicts:
        return CheckVerdict.FAILED
    return CheckVerdict.PASSED if verdicts == {CheckVerdict.PASSED} else CheckVerdict.INCONCLUSIVE


def _chosen(names: Sequence[str], pairs: Sequence[str], sku: str, gpus: int) -> list[Planned]:
    if pairs and (len(names) != 1 or names[0] in PLANS):
        raise BadInput("arguments are for one check; name one, and no plan", where="--set")
    chosen: list[Planned] = []
    for name in names:
        if name in PLANS:
            chosen += _planned(name, sku, gpus)
            continue
        check, *given = name.split() or [""]  # as settings and the server name a check: "NAME key=value …" in one
        if check not in CHECKS:
            raise NotFound(f"no check or plan is called {check[:64]!r}; 'ostler checks list' names them")
        chosen.append(Planned(check, arguments_of(find(check), [*given, *pairs])))
    return chosen


def _planned(name: str, sku: str, gpus: int) -> list[Planned]:
    if not sku:
        raise BadInput("a plan needs the GPU model, such as h100: its thresholds differ", where="--sku")
    return plan(sku, name, gpus or None)


def _line(verdict: CheckVerdict, results: Sequence[CheckResult], fit: int) -> str:
    """All results as one line of JSON. If it would be longer than `fit` bytes the longest measurements go first, then
    the messages: verdicts stay."""
    checks = [dataclasses.asdict(result) for result in results]
    line = json_.dumps({"verdict": verdict.value, "checks": checks})
    for key, left in (("measured", {}), ("message", "")):
        for one in sorted(checks, key=lambda one: -len(json_.dumps(one[key]))):
            if not fit or len(line) <= fit:
                return line
            one[key] = left
            line = json_.dumps({"verdict": verdict.value, "checks": checks})
    return line


def _not_run(one: Planned, why: str) -> CheckResult:
    return CheckResult(one.check, CheckVerdict.INCONCLUSIVE, {}, why)


def _counted(results: Sequence[CheckResult]) -> str:
    bad = [f"{result.name} {result.verdict.value}" for result in results if result.verdict is not CheckVerdict.PASSED]
    return f"{len(results) - len(bad)} of {len(results)} passed{'; ' if bad else ''}{', '.join(bad)}"


def _show(result: CheckResult) -> None:
    say(f"{result.name}: {result.verdict.value}{' – ' if result.message else ''}{result.message}")
    for key, value in result.measured.items():
        say(f"  {key} = {value}")


def _last_words(path: Path | None, verdict: CheckVerdict, message: str, results: Sequence[CheckResult] = ()) -> None:
    """One JSON document of at most 4096 bytes; of the checks, those that did not pass come first and may be cut."""
    if path is None:
        return
    document: dict[str, Any] = {"verdict": verdict.value, "message": message[:1000], "checks": []}
    order = (CheckVerdict.FAILED, CheckVerdict.INCONCLUSIVE, CheckVerdict.PASSED)
    for result in sorted(results, key=lambda one: order.index(one.verdict)):
        told = {"name": result.name, "verdict": result.verdict.value, "message": result.message[:300]}
        document["checks"].append(told)
        if len(json_.dumps(document)) > _TERMINATION_LIMIT:
            document["checks"].pop()
            break
    try:
        path.write_text(json_.dumps(document), "ascii")
    except OSError as error:
        raise BadInput(f"cannot be written: {error.strerror}", where=str(path)) from None
