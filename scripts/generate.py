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

from ostler.config import ClusterSettings, Config, PoolSettings
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
    sections: Mapping[str, Any] = {
        **{one.name: hints[one.name] for one in dataclasses.fields(Config) if one.name not in ("pools", "clusters")},
        "pools.NAME": PoolSettings,
        "clusters.NAME": ClusterSettings,
    }
    for name, kind in sections.items():
        lines += [f"## [{name}]", "", inspect.cleandoc(kind.__doc__ or ""), ""]
        documented = _field_docs(kind)
        for field in dataclasses.fields(kind):
            default = field.default
            if default is dataclasses.MISSING and field.default_factory is not dataclasses.MISSING:
                default = field.default_factory()
            shown = json.dumps(list(default) if isinstance(default, tuple) else default)
            lines.append(f"- `{field.name} = {shown}` {documented.get(field.name, '')}".rstrip())
        lines.append("")
    return "\n".join(lines)


def _field_docs(kind: type) -> dict[str, str]:
    """Field → the string that follows it in the class's source."""
    found = re.findall(r"^    (\w+): [^\n]*\n    \"\"\"(.*?)\"\"\"", inspect.getsource(kind), re.DOTALL | re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


GENERATED: Mapping[str, Callable[[], str]] = {
    "docs/architecture.md": diagram,
    "docs/api/openapi.json": openapi,
    "docs/configuration.md": configuration,
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
