"""`ostler nodes …`: see nodes and what became of them; cordon, drain, reboot, power, … Talks to `/v1/nodes`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias
from urllib.parse import quote

import typer

from ostler.cli import output
from ostler.cli.brake import parse_span
from ostler.cli.client import Client
from ostler.cli.output import DryRun, Json, Reason, Yes
from ostler.core.errors import BadInput, OstlerError

NO_CLUSTER = "none"
"""The cluster of a pool without a scheduler."""
POWER = ("on", "off", "cycle", "reset-bmc")

nodes_app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Nodes: see them, and move them through their lifecycle."
)

Node: TypeAlias = Annotated[str, typer.Argument(help="Name, id, serial number or MAC.", show_default=False)]
Nodes: TypeAlias = Annotated[
    list[str] | None, typer.Argument(help="Names, ids, serial numbers or MACs.", show_default=False)
]
Selector: TypeAlias = Annotated[
    str | None,
    typer.Option("-l", "--selector", help="Which nodes: 'rack=SITE/ROW/RACK,state=production'.", show_default=False),
]


@nodes_app.command("list")
def list_nodes(
    state: Annotated[str | None, typer.Option(help="Only nodes in this state.")] = None,
    pool: Annotated[str | None, typer.Option(help="Only nodes of this pool.")] = None,
    rack: Annotated[str | None, typer.Option(help="Only nodes in this rack.")] = None,
    selector: Selector = None,
    json: Json = False,
) -> None:
    """Every node, one line each (with --json: JSON Lines)."""
    found = Client.from_environment().pages(
        "/v1/nodes", state=state, pool=pool, rack=rack, selector=selector, limit=500
    )
    if json:
        output.print_lines(found)
        return
    columns = ("NAME", "STATE", "FOR", "RACK", "SLOT", "POOL", "MARKS", "SEEN")
    rows = (
        (
            node["name"],
            node["state"],
            output.when(node["since"]).removesuffix(" ago"),
            node["rack"],
            node["slot"],
            node["pool"],
            _marks(node),
            output.when(node["last_seen"]),
        )
        for node in found
    )
    output.table(columns, rows, empty="No node matches." if state or pool or rack or selector else "No node yet.")


@nodes_app.command()
def show(node: Node, json: Json = False) -> None:
    """One node: identity, place, state, conditions."""
    client = Client.from_environment()
    found = client.get(_path(node))
    if json:
        output.print_json(found)
        return
    clusters = {pool["name"]: pool["cluster"] for pool in client.get("/v1/pools")["items"]}
    scheduled = clusters.get(found["pool"], NO_CLUSTER) != NO_CLUSTER
    pending = found["pending"]
    output.facts(
        {
            "name": found["name"],
            "state": f"{found['state']} ({found['phase']}) since {output.clock(found['since'])} UTC",
            "deadline": found["deadline"] and f"{output.clock(found['deadline'])} UTC",
            "pending": pending and f"{pending['to']}: {pending['reason']}",
            "serial": found["serial"],
            "slot": found["slot"],
            "rack": found["rack"],
            "pool": found["pool"],
            "SKU": found["sku"],
            "service": found["service"],
            "GPUs": found["gpus"],
            "driver": found["driver"],
            "busy": found["busy"],
            "cordoned": found["cordoned"] if scheduled else "n/a (the pool has no scheduler)",
            "last seen": output.when(found["last_seen"]),
            "id": found["id"],
            "notice": found.get("notice"),
        }
    )
    for hold in found["cordon_holds"]:
        output.say(f"cordon held by {hold['holder']} {output.when(hold['since'])}: {output.clean(hold['reason'])}")
    for condition in found["conditions"]:
        message = f": {output.clean(condition['message'])}" if condition["message"] else ""
        output.say(f"{condition['type']} ({condition['reason']}) {output.when(condition['since'])}{message}")


@nodes_app.command()
def why(node: Node, json: Json = False) -> None:
    """Why a node is where it is: the chain of evidence, in the order it happened."""
    found = Client.from_environment().get(f"{_path(node)}/why")
    if json:
        output.print_json(found)
        return
    output.say(output.clean(found["summary"]))
    for link in found["chain"]:
        output.say(f"{output.clock(link['at'])}  {link['kind']:<10}  {output.clean(link['text'])}")


@nodes_app.command()
def history(
    node: Annotated[str | None, typer.Argument(help="Name, id, serial number or MAC.", show_default=False)] = None,
    serial: Annotated[
        str | None, typer.Option(help="Follow a serial number through every node that it was.", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """Every change of state, oldest first."""
    if (node is None) == (serial is None):
        raise BadInput("Name a node, or a serial number with --serial, and not both.", where="ostler nodes history")
    client = Client.from_environment()
    items = client.get(f"{_path(node or serial or '')}/history", serial=serial is not None)["items"]
    if json:
        output.print_lines(items)
        return
    rows = (
        (
            output.clock(row["at"]),
            row["from_state"] or "(new)",
            row["to_state"],
            output.span(row["seconds_in_from"]),
            row["cause"],
            row["actor"],
            row["reason"],
        )
        for row in items
    )
    output.table(("AT (UTC)", "FROM", "TO", "AFTER", "CAUSE", "BY", "REASON"), rows, empty="No change is on record.")


@nodes_app.command()
def certify(
    nodes: Nodes = None, selector: Selector = None, reason: Reason = "", dry_run: DryRun = False, yes: Yes = False
) -> None:
    """A technician signs for the installation: the node may leave onboard, an adopted one loses Uncertified."""
    _each("certify", nodes, selector, {"reason": reason}, dry_run=dry_run, yes=yes)


@nodes_app.command()
def move(
    node: Node,
    slot: Annotated[str, typer.Argument(help="site/row/rack/U", show_default=False)],
    reason: Reason = "",
) -> None:
    """Note that a node stands in another slot. It keeps its history."""
    body = {"slot": slot, "reason": output.need_reason(reason)}
    found = Client.from_environment().post(f"{_path(node)}/move", body)
    output.say(f"{output.clean(found['name'])} stands in {output.clean(found['slot'])}.")


@nodes_app.command()
def cordon(
    nodes: Nodes = None, selector: Selector = None, reason: Reason = "", dry_run: DryRun = False, yes: Yes = False
) -> None:
    """Let nothing new be placed on nodes. What runs goes on."""
    _each("cordon", nodes, selector, {"reason": output.need_reason(reason)}, dry_run=dry_run, ask=True, yes=yes)


@nodes_app.command()
def uncordon(
    nodes: Nodes = None, selector: Selector = None, reason: Reason = "", dry_run: DryRun = False, yes: Yes = False
) -> None:
    """Take a person's cordon back. Others' holds stay."""
    _each("uncordon", nodes, selector, {"reason": reason}, dry_run=dry_run, yes=yes)


@nodes_app.command()
def reboot(
    nodes: Nodes = None,
    selector: Selector = None,
    now: Annotated[bool, typer.Option("--now", help="At once, not when the workload ends.")] = False,
    reason: Reason = "",
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Reboot nodes of production in place and verify them, within the brake."""
    body = {"action": "reboot", "timing": "immediate" if now else "pending", "reason": output.need_reason(reason)}
    _each("reboot", nodes, selector, body, dry_run=dry_run, ask=True, yes=yes)


@nodes_app.command("reset-gpu")
def reset_gpu(
    node: Node,
    gpu: Annotated[str, typer.Argument(help="Its PCI address, as 'ostler findings list' has it.", show_default=False)],
    now: Annotated[bool, typer.Option("--now", help="At once, not when the workload ends.")] = False,
    reason: Reason = "",
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Reset one GPU of a node in production: drained, every client stopped, verified."""
    body = {"timing": "immediate" if now else "pending", "reason": output.need_reason(reason)}
    client = Client.from_environment()
    if dry_run:
        output.say(f"would reset GPU {output.clean(gpu)} of {output.clean(client.get(_path(node))['name'])}")
        output.say("1 node; nothing was done.")
        return
    output.confirm([node], f"reset GPU {gpu} of", yes=yes)
    answer = client.post(f"{_path(node)}/gpus/{quote(gpu, safe='')}/reset", body)
    output.say(f"ordered: job {answer['job_id']}")


@nodes_app.command()
def drain(
    nodes: Nodes = None,
    selector: Selector = None,
    mode: Annotated[
        str, typer.Option(help="evict: ask the work to leave, within its budgets; allow-completion: wait for it.")
    ] = "evict",
    deadline: Annotated[str, typer.Option(help="What is left after so long is ended: 90s, 30m, 2h, 1d.")] = "1d",
    reason: Reason = "",
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Cordon nodes and empty them, without a reboot. They stay so until 'ostler nodes uncordon'."""
    if mode not in ("evict", "allow-completion"):
        raise BadInput(f"'{mode}' is neither evict nor allow-completion.", where="--mode")
    seconds = parse_span(deadline, "--deadline")
    body = {"mode": mode, "deadline_s": seconds, "reason": output.need_reason(reason)}
    _each("drain", nodes, selector, body, dry_run=dry_run, ask=True, yes=yes)


@nodes_app.command()
def power(
    nodes: Annotated[
        list[str] | None,
        typer.Argument(help="Nodes, then one of on, off, cycle, reset-bmc (left out: cycle).", show_default=False),
    ] = None,
    selector: Selector = None,
    clear_lock: Annotated[
        bool, typer.Option("--clear-lock", help="Answer for it that a node may be switched on again after a leak.")
    ] = False,
    now: Annotated[bool, typer.Option("--now", help="At once, not when the workload ends.")] = False,
    reason: Reason = "",
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Switch nodes on or off, cycle their power, restart their BMCs. In production: a cycle, drained and verified."""
    named = list(nodes or [])
    action = named.pop() if named and named[-1] in POWER else None
    why = output.need_reason(reason)
    if clear_lock:
        if action is not None:
            raise BadInput(f"Clear the lock first, then switch the nodes {action}.", where="--clear-lock")
        doing = "clear the power lock of"
        _each("power-lock/clear", named, selector, {"reason": why}, dry_run=dry_run, ask=True, yes=yes, doing=doing)
        return
    body = {"action": action or "cycle", "timing": "immediate" if now else "pending", "reason": why}
    told = {"on": "switch on", "off": "switch off", "reset-bmc": "restart the BMC of"}
    doing = told.get(action or "cycle", "power cycle")
    _each("power", named, selector, body, dry_run=dry_run, ask=True, yes=yes, doing=doing)


@nodes_app.command()
def reprovision(
    nodes: Nodes = None, selector: Selector = None, reason: Reason = "", dry_run: DryRun = False, yes: Yes = False
) -> None:
    """Boot nodes of triage or debug from the network once more, and take them through onboard again."""
    body = {"reason": output.need_reason(reason)}
    _each("reprovision", nodes, selector, body, dry_run=dry_run, ask=True, yes=yes)


@nodes_app.command()
def withdraw(
    nodes: Nodes = None, selector: Selector = None, reason: Reason = "", dry_run: DryRun = False, yes: Yes = False
) -> None:
    """Take back what is pending and was not acted on."""
    _each("withdraw", nodes, selector, {"reason": output.need_reason(reason)}, dry_run=dry_run, yes=yes)


@nodes_app.command()
def triage(
    nodes: Nodes = None, selector: Selector = None, reason: Reason = "", dry_run: DryRun = False, yes: Yes = False
) -> None:
    """Take nodes out of production at once, for diagnosis."""
    body = {"to": "triage", "reason": output.need_reason(reason)}
    _each("transition", nodes, selector, body, dry_run=dry_run, ask=True, yes=yes, doing="take out")


@nodes_app.command("return")
def return_(
    nodes: Nodes = None, selector: Selector = None, reason: Reason = "", dry_run: DryRun = False, yes: Yes = False
) -> None:
    """Send repaired nodes back: to the test that a return to production runs through."""
    body = {"to": "test", "reason": output.need_reason(reason)}
    _each("transition", nodes, selector, body, dry_run=dry_run, yes=yes, doing="return")


@nodes_app.command()
def transition(
    nodes: Nodes = None,
    to: Annotated[str, typer.Option(help="The state to go to.", show_default=False)] = "",
    selector: Selector = None,
    reason: Reason = "",
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Move nodes to any state that the lifecycle allows by a person's hand."""
    if not to:
        raise BadInput("Name the state to go to.", where="--to")
    body = {"to": to, "reason": output.need_reason(reason)}
    _each("transition", nodes, selector, body, dry_run=dry_run, ask=True, yes=yes, doing=f"move to {to}")


def _each(
    verb: str,
    named: list[str] | None,
    selector: str | None,
    body: Mapping[str, Any],
    *,
    dry_run: bool,
    ask: bool = False,
    yes: bool = False,
    doing: str | None = None,
) -> None:
    """Do one thing to each chosen node. One that refuses does not keep the rest from it; then the exit status is 1."""
    doing = doing or verb
    client = Client.from_environment()
    chosen = _choose(client, named or [], selector)
    names = [node["name"] for node in chosen]
    if dry_run:
        for name in names:
            output.say(f"would {doing} {output.clean(name)}")
        output.say(f"{len(names)} node{'s' * (len(names) != 1)}; nothing was done.")
        return
    if ask:
        output.confirm(names, doing, yes=yes)
    refused = 0
    for node in chosen:
        try:
            found = client.post(f"/v1/nodes/{quote(node['id'], safe='')}/{verb}", body)
        except OstlerError as error:
            if len(chosen) == 1:
                raise
            refused += 1
            output.say(f"{output.clean(node['name'])}: {error}")
            continue
        answer = f"job {found['job_id']}" if "job_id" in found else f"now {found['state']}"
        output.say(f"{output.clean(node['name'])}: {doing.removesuffix(' of')}, {output.clean(answer)}")
    if refused:
        raise typer.Exit(1)


def _choose(client: Client, named: list[str], selector: str | None) -> list[dict[str, Any]]:
    if bool(named) == bool(selector):
        raise BadInput("Name nodes, or choose them with -l SELECTOR, and not both.")
    if selector:
        chosen = list(client.pages("/v1/nodes", selector=selector, limit=500))
        if not chosen:
            raise BadInput(f"No node matches '{selector}'.", where="-l")
        return chosen
    by_id = {node["id"]: node for node in (client.get(_path(name)) for name in named)}
    return list(by_id.values())


def _path(node: str) -> str:
    return f"/v1/nodes/{quote(node, safe='')}"


def _marks(node: Mapping[str, Any]) -> str:
    marks = [f"{node['pending']['to']} pending"] if node["pending"] else []
    marks += ["cordoned"] if node["cordoned"] or node["cordon_holds"] else []
    marks += [condition["type"] for condition in node["conditions"] if not condition["type"].startswith("Pending")]
    return ", ".join(marks)
