"""`ostler demo`: the whole system with a simulated fleet. Registered by `cli/__init__.py`; its parts: `ostler.demo`."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, replace
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from ostler.core.clock import iso
from ostler.core.errors import BadInput, Temporary

if TYPE_CHECKING:
    from ostler.demo.account import Account, Server
    from ostler.demo.lookout import Lookout
    from ostler.demo.stage import Stage
    from ostler.demo.story import Story
    from ostler.demo.technician import Technician
    from ostler.demo.watch import Watch

LOOK_S = 0.5
"""Real seconds between two looks at the fleet."""
PATIENCE_S = 300.0
"""Real seconds after which a fleet that is not yet where it should be is given up."""
AFTER_S = 90.0
"""Real seconds after the last strike in which everything must have come right, at the usual speed."""


def demo_command(
    nodes: Annotated[int, typer.Option(help="How many machines; at least 22.")] = 22,
    seed: Annotated[int, typer.Option(help="Same seed, same machines.")] = 0,
    headless: Annotated[bool, typer.Option("--headless", help="End when the script is through.")] = False,
    speed: Annotated[float, typer.Option(help="Simulated seconds per second.")] = 300.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """The whole system with a simulated fleet: Day 0, Day 1, then an hour of scripted faults, and a page about it.

    Exit status 0: the script is through and every node is where it should be. Without --headless the server stays up
    after the page until Ctrl-C, so that you can look at the console.
    """
    from ostler.demo import lines, page, verdict
    from ostler.demo import story as stories
    from ostler.demo.account import Server
    from ostler.demo.lookout import Lookout
    from ostler.demo.receiver import Receiver
    from ostler.demo.stage import Play, Stage
    from ostler.demo.technician import Technician
    from ostler.demo.watch import Lively, Quiet
    from ostler.twin.spec import fleet, running

    if not 1 <= speed <= 3600:
        raise BadInput("the speed is between 1 and 3600", where="--speed")
    story = stories.write(fleet(nodes, seed), running(stories.ADOPTED, seed, nodes), lines.find())
    begun = time.monotonic()
    signal.signal(signal.SIGTERM, _interrupt)
    watch: Watch = Lively() if sys.stderr.isatty() and not headless else Quiet(as_json)
    receiver = Receiver()
    receiver.start()
    try:
        with Stage(Play(nodes, seed, speed, story.script(), stories.ADOPTED)) as stage:
            watch.say(f"The console: {stage.operator}/")
            watch.say(f"  the cables: {stage.operator}/fabric  technicians' work: {stage.operator}/tickets")
            server = Server(stage.operator, stage.token)
            webhook = server.subscribe(receiver.url, receiver.secret)
            crew = _Crew(Technician(server, stage.hand), Lookout(server, stage.hand, story))
            with watch:
                _cabled(stage, server, story)
                began = _watch(stage, server, story, crew, watch, nodes, speed)
                _drain(server, webhook)
            account = crew.told(server.account(story.watched, stage.bmc_writes()))
            wrong = verdict.unexpected(story, account, began)
            if began is None and not account.hitches:
                wrong.insert(0, f"the fleet was not in production after {PATIENCE_S:.0f} s")
            webhooks = {"delivered": receiver.delivered, "verified": receiver.verified}
            if receiver.delivered != receiver.verified or not receiver.verified:
                wrong.append(
                    f"of {receiver.delivered} webhooks {receiver.verified} were genuine: {receiver.refused[:1]}"
                )
            seconds = time.monotonic() - begun
            if as_json:
                sys.stdout.write(json.dumps(verdict.document(story, account, webhooks, seconds, wrong)) + "\n")
            else:
                page.show(page.page(story, account, webhooks, seconds, wrong, speed=speed, began=began))
            sys.stdout.flush()
            if not headless:
                watch.say(f"The server stays up: {stage.operator}/ (Ctrl-C ends it)")
                _stay(stage)
    finally:
        receiver.stop()
    raise typer.Exit(1 if wrong else 0)


@dataclass(frozen=True)
class _Crew:
    """Who has hands on the fleet's cables, and who looks at them."""

    technician: Technician
    lookout: Lookout

    def told(self, account: Account) -> Account:
        """With what they have to tell."""
        return replace(account, looks=self.lookout.looks, hitches=self.technician.hitches)


def _cabled(stage: Stage, server: Server, story: Story) -> None:
    """The design is imported and the fleet delivered, with two plugs of one node exchanged; then it is switched on."""
    from ostler.demo.story import CROSSED

    server.import_blueprint(str(stage.hand("blueprint")["text"]))
    node = story.of("crossed").nodes[0]
    stage.hand("swap", plugs=[[node, hca] for hca in CROSSED])
    stage.hand("power-on")


def _watch(
    stage: Stage, server: Server, story: Story, crew: _Crew, watch: Watch, nodes: int, speed: float
) -> float | None:
    """Until the script is through and all is as it should be, or patience ends. Domain time of the script's start."""
    from ostler.demo import verdict
    from ostler.demo.story import ADOPTED, FAILING

    patience = max(1.0, 300.0 / speed)
    deadline = time.monotonic() + PATIENCE_S * patience
    began: float | None = None
    through = False
    failing = story.of("repeat").nodes[0]
    watch.say(f"{nodes} machines are switched on: Day 0 and Day 1. {ADOPTED} more run already and are adopted.")
    while time.monotonic() < deadline:
        stage.check()
        if began is None and (started := stage.said_of("script-started")) is not None:
            began = float(started["at"])
            watch.say("All are in production. The scripted hour begins.")
        if not through and stage.said_of("script-done") is not None:
            through = True
            deadline = time.monotonic() + AFTER_S * patience
        try:
            rows = server.nodes()
            crew.technician.turn(rows)
            if crew.technician.hitches:
                break  # the node would never be in production
            if began is not None:
                crew.lookout.turn()
            states = Counter(str(row["state"]) for row in rows)
            watch.progress(states, server.transitions(), f"{iso(stage.clock())[:19]}Z  {stage.operator}/")
            if through:
                account = crew.told(server.account(story.watched, stage.bmc_writes(), chains=False))
                if not verdict.unexpected(story, account, began):
                    break
                if account.states.get(failing) == "triage" and not account.cases:
                    server.request_replacement(failing, FAILING, "its fault came back after each repair")
        except Temporary:
            pass  # the server is busy; look again
        time.sleep(LOOK_S)
    return began


def _drain(server: Server, webhook: str) -> None:
    """Give the last webhooks a moment."""
    for _ in range(20):
        if not server.undelivered(webhook):
            return
        time.sleep(0.2)


def _stay(stage: Stage) -> None:
    try:
        while True:
            stage.check()
            time.sleep(1.0)
    except KeyboardInterrupt:
        return


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
