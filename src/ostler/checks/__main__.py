"""`python -m ostler.checks [NAME] [--set KEY=VALUE] [--budget SECONDS] [--json]`: one check, or the list of them.

Exit: 0 passed, 1 failed or inconclusive, 2 bad usage. The agent calls it with --json and --cgroup.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from ostler.checks.model import CheckVerdict
from ostler.checks.registry import CHECKS, find
from ostler.checks.runner import arguments_of, end_with_parent
from ostler.core.errors import OstlerError


def main(argv: list[str]) -> int:
    """Runs the command line `argv` (without the program's name); answers the exit status."""
    parser = argparse.ArgumentParser(prog="python -m ostler.checks", description="Runs one check on this machine.")
    parser.add_argument("name", nargs="?", help="which check; without it they are listed")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="an argument of the check")
    parser.add_argument("--budget", type=float, default=3600.0, metavar="SECONDS", help="stop by then (3600)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--cgroup", metavar="DIR", help="move into this control group first")
    parser.add_argument("--with-parent", action="store_true", help="end when the process that started this one ends")
    options = parser.parse_args(argv)
    out = sys.stdout.write
    if options.with_parent:
        end_with_parent()
    if options.cgroup is not None:
        Path(options.cgroup, "cgroup.procs").write_text("0")
    if options.name is None:
        for check in CHECKS.values():
            line = {"name": check.name, "summary": check.summary, "arguments": dict(check.arguments)}
            out(json.dumps(line) + "\n" if options.json else f"{check.name:16} {check.summary}\n")
        return 0
    try:
        check = find(options.name)
        result = check.run(arguments_of(check, options.set), options.budget)
    except OstlerError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    if options.json:
        out(json.dumps(dataclasses.asdict(result)) + "\n")
    else:
        out(f"{result.name}: {result.verdict.value} {result.message}\n")
        for key, value in result.measured.items():
            out(f"  {key} = {value}\n")
    return 0 if result.verdict is CheckVerdict.PASSED else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
