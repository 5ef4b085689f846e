"""From what a collector brought to sweeps, with everything the tools complained of. Called by `service.py`. Pure.

An exit status of 0 proves nothing: ibnetdiscover leaves out what did not answer and says so on stderr only
(reference: libibnetdisc's ibnetdisc.c and query_smp.c). So every complaint becomes a `Problem`, and one that may hide a
part of the fabric says so.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ostler.adapters.fabric.port import Collection, Output
from ostler.core.errors import BadInput
from ostler.fabric import formats
from ostler.fabric.sweep import End, Node, NodeKind, ProblemKind, Sweep

_DISCOVERIES = ("ibnetdiscover-cache", "ibnetdiscover", "iblinkinfo")
"""What shows the fabric, best first: the cache has every port with its state and what it is capable of."""
_UNANSWERED = re.compile(
    r"DR path [^)]*?([0-9]+(?:,[0-9]+){0,63}) Attr (0x[0-9a-fA-F]{1,4}):([0-9]{1,3})\) bad status (\w+)"
)
_LID_UNANSWERED = re.compile(r"_do_madrpc failed; dport \(([^)]{1,80})\)")
_DUPLICATE = re.compile(r"Duplicate (?:Port|Node): (?:Port|Node) with guid (0x[0-9a-fA-F]{1,16})")
_COUNTERS_LOST = re.compile(r"query failed on (.{1,200}), (.{1,80}) port (\d+)")
_CHECKED = re.compile(rb"## Summary: (\d{1,9}) nodes checked")
_COMPLAINT = re.compile(r"fail|error|timed out|timeout|cannot|can't|unable|invalid|denied", re.IGNORECASE)
_HARMLESS = ("fill_mellanox_chassis_record", "Error Occurred when trying to insert")
"""Names of parts that are not in its table; the second line of a duplicate."""
_NODE_INFO, _NODE_DESCRIPTION, _PORT_INFO = 0x11, 0x10, 0x15
"""Attributes of subnet management: InfiniBand Architecture Specification 1.7, volume 1, 14.2.5."""
_TIMED_OUT = "110"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one collection shows."""

    topology: Sweep
    """The fabric as the vantage saw it, with all problems of the collection. Empty if it saw nothing."""
    extra: tuple[Sweep, ...] = ()
    """Counters and readings of the same moment, for ports of `topology`."""
    others: tuple[tuple[str, Sweep], ...] = ()
    """Further views of the same fabric, by who looked: `sm` is the subnet manager's own list."""


def evidence(collection: Collection) -> Evidence:
    """Read every output and every complaint. Raises nothing: what cannot be read is a problem of the topology."""
    failures: list[str] = []
    views, extra = _read_files(collection, failures)
    topology = _topology(collection, failures)
    others: list[tuple[str, Sweep]] = []
    for output, sweep in views:
        if topology is None:
            topology = sweep
        else:
            others.append((output.argv[-1].rsplit("/", 1)[-1], sweep))
    # Where another form of the same could be read, nothing is hidden by one that could not.
    readable = topology is not None
    topology = topology or Sweep("ibnetdiscover", collection.vantage)
    for failure in failures:
        topology.trouble(ProblemKind.UNREADABLE, failure, hides=not readable)
    if topology.taken_at is None:
        topology.taken_at = collection.started_at
    for output in collection.outputs:
        if output.tool in _DISCOVERIES:
            _discovery_problems(topology, output)
        elif output.tool == "file" and output.status != 0:
            topology.trouble(ProblemKind.FAILED, f"not read: {output.stderr}", hides=False)
    managed = _manager(topology, collection)
    for output in collection.outputs:
        if output.tool == "ibqueryerrors":
            extra += _counters(topology, output)
        elif output.tool == "opensm-subnet":
            others += _managers_view(topology, output, managed)
    return Evidence(topology, tuple(extra), tuple(others))


def routes(sweep: Sweep, wanted: Iterable[int]) -> Mapping[int, tuple[int, ...]]:
    """Directed routes from where the sweep was taken to these node GUIDs, for `Want.around`. Nodes out of reach are
    left out."""
    wanted = set(wanted)
    if sweep.origin is None or not wanted:
        return {}
    out: dict[int, list[tuple[int, int]]] = {}
    for end, facts in sweep.ports.items():
        if facts.peer is not None:
            out.setdefault(end.guid, []).append((end.port, facts.peer.guid))
    found: dict[int, tuple[int, ...]] = {sweep.origin: (0,)}
    queue = deque([sweep.origin])
    while queue:
        here = queue.popleft()
        node = sweep.nodes.get(here)
        if here != sweep.origin and (node is None or node.kind is not NodeKind.SWITCH):
            continue  # only switches pass a question on
        for port, there in sorted(out.get(here, ())):
            if there not in found:
                found[there] = (*found[here], port)
                queue.append(there)
    return {guid: found[guid] for guid in wanted if guid in found}


# ── what shows the fabric ───────────────────────────────────────────────────────────────────────────────────────────


def _topology(collection: Collection, failures: list[str]) -> Sweep | None:
    """The best readable discovery; several of one kind (a neighbourhood) are put together."""
    best: Sweep | None = None
    for tool in _DISCOVERIES:
        for output in (found for found in collection.outputs if found.tool == tool and found.data):
            sweep = _read(output, failures)
            if sweep is not None:
                best = sweep if best is None else _joined(best, sweep)
        if best is not None:
            break
    return best


def _read(output: Output, failures: list[str]) -> Sweep | None:
    try:
        return formats.read(output.data, output.tool, format=output.tool)[0]
    except BadInput as error:
        failures.append(str(error))
        return None


def _joined(one: Sweep, other: Sweep) -> Sweep:
    for guid, node in other.nodes.items():
        if guid not in one.nodes or (node.answered and not one.nodes[guid].answered):
            one.nodes[guid] = node
    for end, facts in other.ports.items():
        if end not in one.ports or one.ports[end].peer is None:
            one.ports[end] = facts
    for problem in other.problems:
        one.trouble(problem.kind, problem.message, line=problem.line, guid=problem.guid, hides=problem.hides)
    return one


def _read_files(collection: Collection, failures: list[str]) -> tuple[list[tuple[Output, Sweep]], list[Sweep]]:
    """What others dropped: views of the fabric, and what only adds to them."""
    views: list[tuple[Output, Sweep]] = []
    extra: list[Sweep] = []
    for output in collection.outputs:
        if output.tool != "file" or output.status != 0:
            continue
        try:
            found = formats.read(output.data, output.argv[-1])
        except BadInput as error:
            failures.append(str(error))
            continue
        for sweep in found:
            if sweep.taken_at is None:
                sweep.taken_at = output.taken_at
            _complaints(sweep, output.stderr)
            if sweep.topology:
                views.append((output, sweep))
            else:
                extra.append(sweep)
    return views, extra


# ── what went wrong ─────────────────────────────────────────────────────────────────────────────────────────────────


def _discovery_problems(sweep: Sweep, output: Output) -> None:
    if output.status is None:
        sweep.trouble(ProblemKind.FAILED, f"{output.tool} was stopped by its deadline after {output.seconds:.0f} s")
    elif output.status != 0 and output.tool != "ibnetdiscover-cache":
        sweep.trouble(ProblemKind.FAILED, f"{output.tool} ended with status {output.status}: {_last(output.stderr)}")
    elif not output.data:
        sweep.trouble(ProblemKind.FAILED, f"{output.tool} printed nothing: {_last(output.stderr)}")
    _complaints(sweep, output.stderr)


def _complaints(sweep: Sweep, stderr: str) -> None:
    """Every kind of complaint once per node that it is about."""
    unanswered: dict[tuple[tuple[int, ...], str], list[int]] = {}
    others: dict[str, None] = {}
    for line in (whole[:1000] for whole in stderr.splitlines()):
        if found := _UNANSWERED.search(line):
            path = tuple(int(part) for part in found[1].split(","))
            unanswered.setdefault((path, found[4]), []).append(int(found[2], 16))
        elif found := _DUPLICATE.search(line):
            _duplicate(sweep, int(found[1], 16))
        elif found := _LID_UNANSWERED.search(line):
            sweep.trouble(ProblemKind.TIMEOUT, f"no answer from {found[1]}", hides=False)
        elif _COMPLAINT.search(line) and not any(word in line for word in _HARMLESS):
            others[_last(line)] = None
    for (path, status), attributes in unanswered.items():
        _unanswered(sweep, path, status, attributes)
    for line in others:
        sweep.trouble(ProblemKind.FAILED, line)


def _unanswered(sweep: Sweep, path: tuple[int, ...], status: str, attributes: list[int]) -> None:
    """A question that was sent along this route and not answered, or refused."""
    where, node = _at(sweep, path)
    questions = f"{len(attributes)} question{'s' if len(attributes) > 1 else ''}"
    asked = {_NODE_INFO: "who it is", _NODE_DESCRIPTION: "its name", _PORT_INFO: "the state of its ports"}
    about = " and ".join(dict.fromkeys(asked.get(attribute, f"attribute {attribute:#x}") for attribute in attributes))
    guid = None if node is None else node.guid
    if status == _TIMED_OUT:
        sweep.trouble(ProblemKind.TIMEOUT, f"{where} did not answer {questions}: {about}", guid=guid)
    else:
        why = "an M_Key that the collector has not?"
        sweep.trouble(
            ProblemKind.REFUSED, f"{where} refused {questions} with status {status} ({why}): {about}", guid=guid
        )


def _at(sweep: Sweep, path: tuple[int, ...]) -> tuple[str, Node | None]:
    """Who is at the end of a directed route, as far as the sweep knows."""
    here = sweep.origin
    for hop, port in enumerate(path[1:], 1):
        if here is None:
            break
        facts = sweep.ports.get(End(here, port))
        if facts is None or facts.peer is None:
            behind = f"what is behind port {port} of {_name(sweep, here)}"
            if more := path[hop + 1 :]:
                behind += f", {len(more)} more hop{'s' if len(more) > 1 else ''} on"
            return behind, None
        here = facts.peer.guid
    if here is None:
        return f"the node at route {','.join(map(str, path))}", None
    return _name(sweep, here), sweep.nodes.get(here)


def _name(sweep: Sweep, guid: int) -> str:
    node = sweep.nodes.get(guid)
    return (node.description if node is not None else "") or f"0x{guid:016x}"


def _duplicate(sweep: Sweep, guid: int) -> None:
    # A port's GUID is its node's, or a few above it.
    owner = next((known for known in range(guid, max(guid - 4, -1), -1) if known in sweep.nodes), None)
    who = f" ({_name(sweep, owner)} has it)" if owner is not None else ""
    message = f"GUID 0x{guid:016x} is there twice{who}: all but one of its ports are hidden"
    sweep.trouble(ProblemKind.DUPLICATE_GUID, message, guid=owner if owner is not None else guid)


# ── what comes with it ──────────────────────────────────────────────────────────────────────────────────────────────


def _manager(sweep: Sweep, collection: Collection) -> bool:
    """Whether a subnet manager answered; true where nobody asked."""
    for output in collection.outputs:
        if output.tool == "sminfo" and (output.status != 0 or b"SMINFO_" not in output.data):
            message = f"no subnet manager answered: {_last(output.stderr) or 'sminfo said nothing'}"
            sweep.trouble(ProblemKind.FAILED, message, hides=False)
            return False
    return True


def _counters(sweep: Sweep, output: Output) -> list[Sweep]:
    """Counters that are missing hide no cable: they make problems that do not blind."""
    lost = [_COUNTERS_LOST.search(line[:1000]) for line in output.stderr.splitlines()]
    for message in dict.fromkeys(f"the counters of {one[1]} port {one[3]} were not read" for one in lost if one):
        sweep.trouble(ProblemKind.TIMEOUT, message, hides=False)
    checked = _CHECKED.search(output.data)
    # 1 is its way to say that some port has errors.
    if output.status not in (0, 1) or checked is None:
        how = "was stopped by its deadline" if output.status is None else f"ended with status {output.status}"
        sweep.trouble(ProblemKind.FAILED, f"ibqueryerrors {how}: {_last(output.stderr)}", hides=False)
    elif int(checked[1]) < (answered := sum(node.answered for node in sweep.nodes.values())):
        message = f"ibqueryerrors read the counters of {int(checked[1])} of {answered} nodes"
        sweep.trouble(ProblemKind.FAILED, message, hides=False)
    if checked is None:
        return []
    failures: list[str] = []
    found_sweep = _read(output, failures)
    for failure in failures:
        sweep.trouble(ProblemKind.UNREADABLE, failure, hides=False)
    return [] if found_sweep is None else [found_sweep]


def _managers_view(sweep: Sweep, output: Output, managed: bool) -> list[tuple[str, Sweep]]:
    """The subnet manager's list is as good as the manager behind it is alive: of a dead one it shows the past."""
    if output.status != 0 or not output.data:
        sweep.trouble(ProblemKind.FAILED, f"no list of the subnet manager: {_last(output.stderr)}", hides=False)
        return []
    if not managed:
        message = f"{output.argv[-1]} is not used: no subnet manager answered, it may show the past"
        sweep.trouble(ProblemKind.FAILED, message, hides=False)
        return []
    failures: list[str] = []
    view = _read(output, failures)
    for failure in failures:
        sweep.trouble(ProblemKind.UNREADABLE, failure, hides=False)
    if view is None:
        return []
    view.taken_at = output.taken_at
    return [("sm", view)]


def _last(stderr: str) -> str:
    """The last words of a tool, without its process number: the same complaint reads the same."""
    lines = [line for line in (" ".join(line.split()) for line in stderr.splitlines()) if line]
    return re.sub(r"^ib(warn|panic): \[\d+\] ", "", lines[-1])[:200] if lines else ""
