"""What is written by the code: the lifecycle's diagram, the OpenAPI document, the configuration's reference.

`make generate` renews them; `python -m scripts.generate --check`, part of `make lint`, fails when one is out of date.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import json
import re
import sys
import tempfile
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ostler.config import Config
from ostler.faults.monitored import MONITORED
from ostler.nodes import lifecycle
from scripts import openapi_document

REPOSITORY = Path(__file__).parent.parent


def diagram() -> str:
    """docs/architecture.md with the diagram between its marks."""
    path = REPOSITORY / "docs" / "architecture.md"
    drawn = f"<!-- lifecycle: begin -->\n```mermaid\n{lifecycle.mermaid()}\n```\n<!-- lifecycle: end -->"
    return re.sub(
        r"<!-- lifecycle: begin -->.*?<!-- lifecycle: end -->", lambda _: drawn, path.read_text(), flags=re.DOTALL
    )


def openapi() -> str:
    """The operators' API as a document."""
    with tempfile.TemporaryDirectory() as folder:
        return openapi_document.text(openapi_document.document(Path(folder)))


def configuration() -> str:
    """Every key with its default, from the settings' dataclasses and their docstrings."""
    lines = [
        "# Configuration",
        "",
        "One TOML file, `ostler serve --config FILE`; every key may be left out. The environment overrides as",
        "`OSTLER_SECTION__KEY=value`. Spans are seconds of domain time unless the key says otherwise. `make generate`",
        "writes this page from the code.",
        "",
    ]
    hints = typing.get_type_hints(Config)
    for one in dataclasses.fields(Config):
        lines += _sections(one.name, hints[one.name])
    return "\n".join(lines)


def _sections(name: str, hint: Any) -> list[str]:
    """A section and those inside it; a mapping of sections is shown once, as NAME."""
    inside = typing.get_args(hint)
    if inside:
        return _sections(f"{name}.NAME", inside[1]) if dataclasses.is_dataclass(inside[1]) else []
    lines = [f"## [{name}]", "", inspect.cleandoc(hint.__doc__ or ""), ""]
    documented, hints, deeper = _field_docs(hint), typing.get_type_hints(hint), list[str]()
    for field in dataclasses.fields(hint):
        if found := _nested(f"{name}.{field.name}", hints[field.name]):
            deeper += found
            continue
        default = field.default
        if default is dataclasses.MISSING and field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        shown = json.dumps(list(default) if isinstance(default, tuple) else default)
        lines.append(f"- `{field.name} = {shown}` {documented.get(field.name, '')}".rstrip())
    return [*lines, "", *deeper]


def _nested(name: str, hint: Any) -> list[str]:
    inside = typing.get_args(hint)
    section = dataclasses.is_dataclass(hint) or (len(inside) == 2 and dataclasses.is_dataclass(inside[1]))
    return _sections(name, hint) if section else []


def _field_docs(kind: type) -> dict[str, str]:
    """Field → the string that follows it in the class's source."""
    found = re.findall(r"^    (\w+): [^\n]*\n    \"\"\"(.*?)\"\"\"", inspect.getsource(kind), re.DOTALL | re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


def monitored() -> str:
    """docs/monitoring.md with the table of faults."""
    path = REPOSITORY / "docs/monitoring.md"
    rows = ["| fault | component | severity | asks for | means |", "|---|---|---|---|---|"]
    rows += [
        f"| `{row.name}` | {row.component} | {row.severity} | {row.action} | {row.meaning} |"
        for row in MONITORED.values()
    ]
    drawn = "\n".join(["<!-- monitored: begin -->", *rows, "<!-- monitored: end -->"])
    pattern = r"<!-- monitored: begin -->.*?<!-- monitored: end -->"
    return re.sub(pattern, lambda _: drawn, path.read_text(), flags=re.DOTALL)


GENERATED: Mapping[str, Callable[[], str]] = {
    "docs/architecture.md": diagram,
    "docs/api/openapi.json": openapi,
    "docs/configuration.md": configuration,
    "docs/monitoring.md": monitored,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, fail if something is out of date")
    check = parser.parse_args().check
    stale = []
    for name, make in GENERATED.items():
        path, text = REPOSITORY / name, make()
        if path.exists() and path.read_text() == text:
            continue
        stale.append(name)
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    for name in stale:
        print(f"{name} is out of date; run 'make generate'" if check else f"{name} written", file=sys.stderr)
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
