"""`ibqueryerrors`: every counter beyond its threshold (by default: every one that is not 0), and with `--data` or
`--counters` the traffic. Called by `formats`.

A switch is named by its node GUID, a channel adapter by the GUID of its *port* and by its description; `bind.py` puts
both on their node. Rows of `port ALL` are sums and left out, as is port 0, which has no cable. The summary says what
was hidden: where thresholds or suppressed counters are named, a port that is not printed may have errors after all.
"""

from __future__ import annotations

import re

from ostler.core.errors import BadInput
from ostler.fabric.formats.vocabulary import COUNTERS, ERRORS, guid, lines, whole, words
from ostler.fabric.sweep import End, Node, NodeKind, ProblemKind, Sweep

_NODE = re.compile(r'(?:Errors|Data Counters) for (?:(0x[0-9a-fA-F]{1,16}) )?"(.*)"')
_PORT = re.compile(r"\s+GUID (0x[0-9a-fA-F]{1,16}) port (\d{1,3}|ALL):(.*)")
_COUNTER = re.compile(r"\[(\w{1,48}) == (\d{1,20})")
_CHECKED = re.compile(r"##\s+(\d{1,9}) ports checked, (\d{1,9}) ports have errors")


def looks_like(head: bytes) -> bool:
    return (
        re.search(rb'^(?:Errors|Data Counters) for (?:0x[0-9a-fA-F]+ )?"|^## Summary: \d+ nodes checked', head, re.M)
        is not None
    )


def read(data: bytes, name: str) -> Sweep:
    """The counters. Raises `BadInput` where there is neither a port nor the summary that says that there is none."""
    sweep = Sweep("ibqueryerrors", name, topology=False)
    description, switch = "", False
    summary = errors = False
    listed: set[End] = set()
    for line, text in lines(data, sweep):
        if not text:
            continue
        if found := _PORT.match(text):
            node, port = guid(found[1]), whole(found[2], 255)
            if node and port:
                if node not in sweep.nodes:
                    sweep.nodes[node] = Node(node, NodeKind.SWITCH if switch else NodeKind.HCA, description)
                _counters(sweep, End(node, port), found[3], line)
                if errors:
                    listed.add(End(node, port))
        elif found := _NODE.match(text):
            description, switch = words(found[2]), found[1] is not None
            errors = text.startswith("Errors")
        elif text.startswith("## Summary:"):
            summary = True
        elif found := _CHECKED.match(text):
            if int(found[2]) < sum(1 for counters in sweep.counters.values() if any(map(counters.get, ERRORS))):
                sweep.trouble(ProblemKind.CONTRADICTION, "more ports are listed than the summary counts", line=line)
        elif text.startswith(("## Thresholds:", "## Suppressed:")):
            if text.split(":", 1)[1].strip():
                sweep.trouble(
                    ProblemKind.REFUSED, f"not every counter was shown: {text[3:120]}", line=line, hides=False
                )
        elif "iberror:" in text or "ibwarn:" in text or "ERR:" in text:
            sweep.trouble(ProblemKind.FAILED, text.strip(), line=line)
    if not sweep.counters and not summary:
        raise BadInput("Neither a port with counters nor ibqueryerrors' summary is in it.", where=f"{name}:1")
    if not summary:
        sweep.trouble(ProblemKind.TRUNCATED, "the summary at its end is missing: the run was stopped, or the file cut")
    if any(problem.kind is ProblemKind.REFUSED for problem in sweep.problems):
        return sweep
    for end in listed:
        for counter in ERRORS:  # what is 0 is not printed
            sweep.counters[end].setdefault(counter, 0)
    return sweep


def _counters(sweep: Sweep, end: End, text: str, line: int) -> None:
    counters = sweep.counters.setdefault(end, {})
    found = _COUNTER.findall(text)
    for name, value in found:
        known, count = COUNTERS.get(name.lower()), whole(value)
        if known is not None and count is not None:
            counters[known] = count
    if not found or text.count("[") != text.count("]"):
        sweep.trouble(ProblemKind.TRUNCATED, "a row of counters is cut off", line=line)
