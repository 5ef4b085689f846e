"""The YAML form of a blueprint, for people who write it by hand, and the form in which a fat tree is asked for.

    name: hall-2
    chassis:
      - {chassis: leaf-r0-01, kind: switch, model: MQM9700, rack: A07, unit: U40}
    cables:
      - {a: gpu-0001, a_port: mlx5_0, b: leaf-r0-01, b_port: 1, rail: 0}

or

    fat_tree: {hosts: 256, rails: 8}

Read event by event, every scalar as text: nothing is built that the file does not hold, `no` and `1:30` stay what they
are, and aliases, by which a small file makes a large one, are refused. Called by `designs.read`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import yaml

from ostler.core.errors import BadInput
from ostler.fabric.designs import fat_tree
from ostler.fabric.designs.draft import Draft, Row
from ostler.fabric.designs.lint import lint
from ostler.fabric.designs.table import text_of
from ostler.fabric.model import Blueprint, ChassisKind, Lint, Place

LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
NODES_MOST = 4_000_000
DEPTH_MOST = 8
_CABLE_KEYS = ("a", "a_port", "b", "b_port", "role", "rail", "serial", "length_m", "speed", "width")
_CHASSIS_KEYS = ("chassis", "kind", "model", "site", "row", "rack", "unit")
_TREE_NUMBERS = (
    "hosts", "rails", "leaf_ports", "tiers", "hosts_per_unit", "units_per_pod", "spines", "trunks", "hosts_per_rack",
    "width",
)  # fmt: skip
_TREE_WORDS = ("switch_model", "host_model", "host_name", "site", "speed")


class Mapped(dict[str, Any]):
    """A mapping of the file, with the line where it begins."""

    line = 0


def read(data: bytes, name: str, *, switch_model: str = "") -> tuple[Blueprint, list[Lint]]:
    """Shapes as above; BadInput for anything else, with its line."""
    root = tree_of(text_of(data, name), name)
    if not isinstance(root, Mapped):
        raise BadInput("is no mapping; it begins with cables: or fat_tree:", where=f"{name}:1")
    _known(root, ("name", "proven", "chassis", "cables", "fat_tree"), name)
    if "fat_tree" in root:
        return _fat_tree(root, name)
    draft = Draft(name, "ostler-yaml", switch_model=switch_model)
    draft.name = _text(root, "name", name)[:128] or draft.name
    draft.proven = _text(root, "proven", name).lower() not in {"no", "false"}
    for item in _items(root, "chassis", _CHASSIS_KEYS, name):
        values = {key: _text(item, key, name) for key in _CHASSIS_KEYS}
        kind = values["kind"].lower()
        if kind and kind not in set(ChassisKind):
            raise BadInput(f"kind {kind[:40]!r} is none of {', '.join(ChassisKind)}", where=f"{name}:{item.line}")
        place = Place(values["site"], values["row"], values["rack"], values["unit"])
        box = values["chassis"]
        said = ChassisKind(kind) if kind else None
        if draft.chassis(box, kind=said, model=values["model"], place=place, line=item.line):
            draft.declare(box, item.line)
    for item in _items(root, "cables", _CABLE_KEYS, name):
        a, a_port, b, b_port, *more = (_text(item, key, name) for key in _CABLE_KEYS)
        draft.cable(Row(a, a_port, b, b_port, item.line, *more))
    return draft.finish()


def _fat_tree(root: Mapped, name: str) -> tuple[Blueprint, list[Lint]]:
    asked = root["fat_tree"]
    if not isinstance(asked, Mapped) or "cables" in root or "chassis" in root:
        raise BadInput("fat_tree is a mapping, and stands alone: hosts, rails, …", where=f"{name}:{root.line}")
    where = f"{name}:{asked.line}"
    _known(asked, (*_TREE_NUMBERS, *_TREE_WORDS, "hcas"), name)
    options: dict[str, Any] = {key: _text(asked, key, name) for key in _TREE_WORDS if key in asked}
    for key in _TREE_NUMBERS:
        if key in asked:
            value = _text(asked, key, name)
            if not (value.isascii() and value.isdecimal() and len(value) < 10):
                raise BadInput(f"{key} is a number; {value[:40]!r} is none", where=where)
            options[key] = int(value)
    hcas = asked.get("hcas", [])
    if not isinstance(hcas, list) or not all(isinstance(hca, str) and hca.isprintable() for hca in hcas):
        raise BadInput("hcas is a list of device names, one a rail", where=where)
    if "hosts" not in options:
        raise BadInput("fat_tree does not say how many hosts there are: hosts: 256", where=where)
    title = _text(root, "name", name)[:128] or Draft(name, "fat-tree").name
    try:
        blueprint = fat_tree.fat_tree(options.pop("hosts"), name=title, hcas=hcas, **options)
    except BadInput as error:
        raise BadInput(error.message, where=where) from None
    return blueprint, lint(blueprint)


def _items(root: Mapped, key: str, keys: tuple[str, ...], name: str) -> Iterator[Mapped]:
    listed = root.get(key, [])
    if not isinstance(listed, list):
        raise BadInput(f"{key} is a list of mappings", where=f"{name}:{root.line}")
    for item in listed:
        if not isinstance(item, Mapped):
            raise BadInput(f"{key}: every item is a mapping with {', '.join(keys[:4])}, …", where=f"{name}:{root.line}")
        _known(item, keys, name)
        yield item


def _known(found: Mapped, keys: tuple[str, ...], name: str) -> None:
    for key in found:
        if key not in keys:
            raise BadInput(f"{key[:40]!r} is no key here; there are {', '.join(keys)}", where=f"{name}:{found.line}")


def _text(found: Mapped, key: str, name: str) -> str:
    value = found.get(key, "")
    if not isinstance(value, str):
        raise BadInput(f"{key} is one value, no list and no mapping", where=f"{name}:{found.line}")
    return " ".join(value.split())


def tree_of(text: str, name: str) -> Any:
    """The file as mappings, lists and text; BadInput with the line for what is no YAML, or too deep, or aliased."""
    stack: list[tuple[Any, Callable[[Any], None]]] = []
    roots: list[Any] = []
    put: Callable[[Any], None] = roots.append
    nodes = 0
    try:
        for event in yaml.parse(text, Loader=LOADER):
            where = f"{name}:{event.start_mark.line + 1}" if event.start_mark else name
            if isinstance(event, yaml.AliasEvent):
                raise BadInput("uses an alias (*name); write it out", where=where)
            if isinstance(event, yaml.ScalarEvent):
                put(event.value)
            elif isinstance(event, yaml.MappingStartEvent):
                made = Mapped()
                made.line = event.start_mark.line + 1 if event.start_mark else 0
                put(made)
                stack.append((made, put))
                put = _into(made, where)
            elif isinstance(event, yaml.SequenceStartEvent):
                listed: list[Any] = []
                put(listed)
                stack.append((listed, put))
                put = listed.append
            elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
                _, put = stack.pop()
            nodes += 1
            if len(stack) > DEPTH_MOST or nodes > NODES_MOST:
                raise BadInput("is nested too deep, or too large, for a blueprint", where=where)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error)
        raise BadInput(
            f"is no YAML: {str(problem)[:120]}", where=f"{name}:{mark.line + 1}" if mark is not None else name
        ) from None
    if len(roots) != 1:
        raise BadInput(f"holds {len(roots)} YAML documents; a blueprint is one", where=name)
    return roots[0]


def _into(made: Mapped, where: str) -> Callable[[Any], None]:
    """What takes keys and values by turns."""
    pending: list[str] = []

    def take(value: Any) -> None:
        if pending:
            made[pending.pop()] = value
        elif not isinstance(value, str):
            raise BadInput("has a key that is no word", where=where)
        elif value in made:
            raise BadInput(f"has the key {value[:40]!r} twice", where=where)
        else:
            pending.append(value)

    return take
