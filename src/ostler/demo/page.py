"""The demo's last page: what happened node by node, why, how long it took, what was held back. For `cli/demo.py`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from ostler.demo import verdict
from ostler.demo.account import Account, Row, seconds
from ostler.demo.stage import BURN_IN_S, SETTLE_S
from ostler.demo.story import Story

_STYLE = {"production": "green", "reboot": "yellow", "triage": "red", "zap-fail": "red"}
_ORDER = ("discovered", "onboard", "seatrial", "zap", "test", "reboot")
_LINKS = ("finding", "incident", "decision", "ticket", "transition")
_TOLD_ELSEWHERE = ("held ", "production → ", "reboot → triage")
"""How links begin that another link or list of the page tells as well."""
_CHAIN = 14
"""Links of the chain of evidence that are shown per node."""


def page(
    story: Story,
    account: Account,
    webhooks: Mapping[str, int],
    took: float,
    wrong: Sequence[str],
    *,
    speed: float,
    began: float | None,
) -> RenderableType:
    """Everything on one page."""
    parts: list[RenderableType] = [
        Text("\nWhat happened", style="bold"),
        Text(
            f"{len(account.states)} simulated nodes, {speed:g} times faster than life; {story.source}. The burn-in "
            f"lasted {BURN_IN_S / 60:g} min instead of 24 h, the seatrial 5 min instead of 30; actions waited "
            f"{SETTLE_S / 60:g} min for what else is reported, instead of half a minute."
        ),
        _acts(story, account),
        Text("Why, node by node", style="bold"),
        _why(story, account, began),
        Text("\nHow long each step took (simulated time)", style="bold"),
        _durations(account),
        _list("Held back by the brake, then served", [_told(row) for row in verdict.held(account)]),
        Text("\nThe adopted fleet is only observed: what Ostler would have done there", style="bold"),
        _would_act(account),
        _list("Incidents", [_incident(account, row) for row in account.incidents]),
        _list("Looks at the whole fabric", [_look(row) for row in account.looks]),
        _list("Tickets", [_ticket(account, row) for row in account.tickets]),
        _list("Parts that go back to their makers", [_case(account, row) for row in account.cases]),
        _list("Calling a person now", [_short(str(row["summary"])) for row in account.pages]),
        Text(f"\nWebhooks: {webhooks['delivered']} delivered, {webhooks['verified']} verified by a receiver."),
    ]
    if wrong:
        parts.append(_list("NOT AS IT SHOULD BE", list(wrong), style="bold red"))
    else:
        parts.append(Text(f"Every node is where it should be, after {took:.0f} s.", style="bold green"))
    return Group(*parts)


def show(rendered: RenderableType) -> None:
    """To standard output, wide enough to be read in a file as well."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=max(console.width, 140))
    console.print(rendered)


def _acts(story: Story, account: Account) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    for name in ("ACT", "NODES", "NOW"):
        table.add_column(name, overflow="fold")
    for act in story.acts:
        nodes = act.nodes if len(act.nodes) <= 2 else (f"{act.nodes[0]} … {act.nodes[-1]}",)
        now = Text(", ").join(
            Text(state, style=_STYLE.get(state, "")) for state in dict.fromkeys(account.states[n] for n in act.nodes)
        )
        table.add_row(Text(act.title), Text(", ".join(nodes)), now)
    return table


def _why(story: Story, account: Account, began: float | None) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, justify="right", style="dim")
    table.add_column(overflow="fold")
    crowd = {name for act in story.acts if len(act.nodes) > 2 for name in act.nodes[1:]}
    early = story.of("crossed").nodes  # their story is told before the hour begins
    shown = dict.fromkeys(name for act in story.acts for name in act.nodes)
    for name in sorted(shown):
        if name in crowd and not account.after_production(name):
            continue  # the first of its rack tells it for all
        chain = [link for link in account.why[name]["chain"] if _is_shown(link)]
        if began is not None and name not in early:
            chain = [link for link in chain if seconds(link["at"]) >= began]
        if not chain and (said := account.signals.get(name)):
            told = [one for one in said if one["kind"] != "monitor"]
            words = ", ".join(dict.fromkeys(f"{one['kind']} {one['code']}" for one in told))
            table.add_row(Text(name), "", Text(f"recorded and nothing done: {words}"))
        for number, link in enumerate(chain[:_CHAIN]):
            minutes = "" if began is None else f"{(seconds(link['at']) - began) / 60:+.0f} min"
            table.add_row(Text(name if number == 0 else ""), minutes, Text(_short(str(link["text"]))))
        if len(chain) > _CHAIN:
            table.add_row("", "", Text(f"… and {len(chain) - _CHAIN} more: ostler nodes why {name}", style="dim"))
    return table


def _is_shown(link: Mapping[str, str]) -> bool:
    if link["kind"] not in _LINKS or link["text"].startswith(_TOLD_ELSEWHERE):
        return False
    return "cleared by verification" not in link["text"]  # the return to production says so


def _would_act(account: Account) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    for name in ("NODE", "FAULT", "WOULD", "WHY"):
        table.add_column(name, no_wrap=name != "WHY", overflow="fold")
    for row in verdict.would_act(account):
        would = f"{row['action']} ({row['timing']})"
        table.add_row(row["node"], row["fault"], would, Text(_short("; ".join(row["reasons"]))))
    return table


def _case(account: Account, row: Mapping[str, object]) -> str:
    node = account.ids.get(str(row["node_id"]), "-")
    return _short(f"{node}: {row['part']} {row['serial'] or 'without a serial number'}, case {row['state']}")


def _look(row: Row) -> str:
    counts = ", ".join(f"{count} {verdict}" for verdict, count in row["cables"].items() if count)
    causes = "; ".join(f"{cause['kind']}: {cause['message']}" for cause in row["causes"])
    return _short(f"{counts or 'no cable known'}; {causes or 'nothing for anyone to do'}")


def _ticket(account: Account, row: Row) -> str:
    end = f"{row['closing']['by']}: {row['closing']['evidence']}" if row["state"] == "done" else row["state"]
    return _short(f"{account.ids.get(str(row['node_id']), '-')}: {row['instruction']} ({end})")


def _durations(account: Account) -> Table:
    lasted: dict[str, list[float]] = defaultdict(list)
    for one in account.transitions:
        if one.start is not None and one.lasted is not None and one.start != "production":
            lasted[one.start].append(one.lasted)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    for name in ("STATE", "TIMES", "SHORTEST", "MEAN", "LONGEST"):
        table.add_column(name, justify="left" if name == "STATE" else "right")
    for state in (*_ORDER, *(other for other in lasted if other not in _ORDER)):
        if spans := lasted.get(state):
            numbers = (min(spans), sum(spans) / len(spans), max(spans))
            table.add_row(state, str(len(spans)), *(f"{value / 60:.1f} min" for value in numbers))
    return table


def _list(title: str, items: Sequence[str], style: str = "bold") -> RenderableType:
    lines = [Text(f"\n{title}: {'nothing' if not items else len(items)}", style=style)]
    lines += [Text(f"  {item}") for item in items[:20]]
    return Group(*lines)


def _told(row: Mapping[str, object]) -> str:
    reasons = row["reasons"]
    last = str(reasons[-1]) if isinstance(reasons, list) and reasons else ""
    return f"{row['node']}: {row['action']}; {last}"


def _incident(account: Account, row: Mapping[str, object]) -> str:
    nodes = {one["node_id"] for one in account.findings if one["incident_id"] == row["id"]}
    end = f"over: {row['outcome']}" if row["closed_at"] else "still open"
    return f"{row['summary']} ({len(nodes)} nodes in all; {end})"


def _short(text: str) -> str:
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= 230 else line[:229] + "…"
