"""Ostler's configuration: one TOML file into the frozen settings of each feature. Read by `cli/serve.py` for `app.py`.

Every section is a dataclass whose fields are the keys, with their defaults and units; an unknown key, a wrong type or
an impossible value is refused with file, line and key. The environment overrides: OSTLER_SECTION__KEY=value, read as
TOML if it is TOML, else as text (OSTLER_DATABASE__URL=postgresql://…). Secrets are references, never values:
`env:NAME`, `file:/path`, `store:NAME`.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
import tomllib
import types
import typing
from collections import abc
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from ostler.acceptance.model import AcceptanceSettings
from ostler.breakfix.model import BreakfixSettings
from ostler.core.errors import BadInput
from ostler.events.model import WebhookSettings
from ostler.fabric.settings import NAME as FABRIC_NAME
from ostler.fabric.settings import FabricSettings
from ostler.health.bmc_policy import BmcWatchSettings
from ostler.health.fleet_metrics import FleetSettings
from ostler.health.model import HealthSettings
from ostler.health.prometheus import PrometheusSettings
from ostler.nodes.model import Pool
from ostler.nodes.service import parse_capabilities
from ostler.oncall.model import OncallSettings
from ostler.provisioning.model import ProvisioningSettings
from ostler.remediation.model import RemediationSettings
from ostler.retention import RetentionSettings
from ostler.verification.model import VerificationSettings

T = TypeVar("T")


@dataclass(frozen=True)
class ServerSettings:
    """`[server]`: where it listens and keeps its files. Addresses are HOST:PORT; port 0 takes a free one."""

    data_dir: str = ""
    """Keys, the CA, secrets and (by default) the database; empty: the user's data folder."""
    listen: str = "127.0.0.1:8470"
    """Operators: API and console."""
    boot_listen: str = "127.0.0.1:8471"
    """Booting machines: plain HTTP, no secrets."""
    agent_listen: str = "127.0.0.1:8472"
    """Agents: mutual TLS."""
    names: tuple[str, ...] = ()
    """Host names and addresses under which nodes reach the agents' listener, for its certificate; loopback always."""


@dataclass(frozen=True)
class DatabaseSettings:
    """`[database]`."""

    url: str = ""
    """`sqlite:///PATH` or `postgresql://…`; empty: ostler.db in the data folder."""


@dataclass(frozen=True)
class SimulationSettings:
    """`[simulation]`: domain time runs `speed` times faster from `origin` (UTC seconds) on; 0: from the start on."""

    speed: float = 1.0
    origin: float = 0.0


@dataclass(frozen=True)
class BmcSettings:
    """`[bmc]`: how to log in to BMCs that have no reference of their own."""

    username: str = "admin"
    password: str = ""
    """A reference: `env:NAME`, `file:/path`, `store:NAME`."""
    ca_file: str = ""
    """PEM bundle that BMC certificates are checked against; empty: any is taken, as most are self-signed."""


@dataclass(frozen=True)
class ConsoleSettings:
    """`[console]`."""

    open: bool = False
    """True lets anyone on this machine look (never act) without a token."""


@dataclass(frozen=True)
class ClusterSettings:
    """`[clusters.NAME]`: a scheduler that pools name as theirs."""

    kind: str = "kubernetes"
    """`kubernetes` or `slurm`."""
    kubeconfig: str = ""
    """Kubernetes: path; empty: the service account of the pod that the server runs in."""
    context: str = ""
    """Kubernetes: which context of that file; empty: its current one."""
    idle_namespace: str = "ostler"
    """Kubernetes: where the pods of idle checks run."""
    idle_image: str = ""
    """Kubernetes: the image of idle checks, with Ostler in it; empty: none are run."""
    idle_tolerations: tuple[str, ...] = ("nvidia.com/gpu",)
    """Kubernetes: keys of taints that idle checks tolerate, beside Ostler's own cordon."""
    idle_runtime_class: str = ""
    """Kubernetes: their runtime class, where GPUs need one."""
    slurm_conf: str = ""
    """Slurm: path of slurm.conf; empty: the commands' own default. The server's user must be a Slurm operator."""
    bin: str = ""
    """Slurm: folder of scontrol, squeue, sbatch and scancel; empty: PATH."""
    idle_partition: str = ""
    """Slurm: partition of idle checks, which any other job must preempt (PreemptMode=CANCEL, GraceTime=0, low tier)."""
    idle_qos: str = ""
    """Slurm: QOS of idle checks, where preemption goes by QOS."""

    def __post_init__(self) -> None:
        """Raises `ValueError` for a kind that there is not, and for keys of the other kind."""
        if self.kind not in ("kubernetes", "slurm"):
            raise ValueError(f"'{self.kind}' is no kind of cluster; known are kubernetes and slurm")
        slurm = {"slurm_conf", "bin", "idle_partition", "idle_qos"}
        others = {"kubeconfig", "context", "idle_image"} if self.kind == "slurm" else slurm
        if strangers := sorted(key for key in others if getattr(self, key)):
            raise ValueError(f"{strangers[0]} is no key of a {self.kind} cluster")


@dataclass(frozen=True)
class PoolSettings:
    """`[pools.NAME]`: what Ostler may do to these nodes; observe only unless more is granted."""

    capabilities: tuple[str, ...] = ()
    auto_certify: bool = False
    cluster: str = "none"


@dataclass(frozen=True)
class Config:
    """The whole file."""

    server: ServerSettings = ServerSettings()
    database: DatabaseSettings = DatabaseSettings()
    simulation: SimulationSettings = SimulationSettings()
    bmc: BmcSettings = BmcSettings()
    console: ConsoleSettings = ConsoleSettings()
    health: HealthSettings = HealthSettings()
    bmc_watch: BmcWatchSettings = BmcWatchSettings()
    fleet: FleetSettings = FleetSettings()
    prometheus: PrometheusSettings = PrometheusSettings()
    remediation: RemediationSettings = RemediationSettings()
    verification: VerificationSettings = VerificationSettings()
    acceptance: AcceptanceSettings = AcceptanceSettings()
    provisioning: ProvisioningSettings = ProvisioningSettings()
    webhooks: WebhookSettings = WebhookSettings()
    breakfix: BreakfixSettings = BreakfixSettings()
    oncall: OncallSettings = OncallSettings()
    retention: RetentionSettings = RetentionSettings()
    pools: Mapping[str, PoolSettings] = field(default_factory=dict)
    clusters: Mapping[str, ClusterSettings] = field(default_factory=dict)
    fabrics: Mapping[str, FabricSettings] = field(default_factory=dict)

    @property
    def data_dir(self) -> Path:
        """The data folder, made by `app.py` when it is missing."""
        if self.server.data_dir:
            return Path(self.server.data_dir).expanduser()
        base = os.environ.get("XDG_DATA_HOME", "")
        return (Path(base) if base else Path.home() / ".local" / "share") / "ostler"

    @property
    def database_url(self) -> str:
        return self.database.url or f"sqlite:///{self.data_dir / 'ostler.db'}"

    def pool_list(self) -> list[Pool]:
        """The pools as the lifecycle knows them; `default` is always among them."""
        named = {"default": PoolSettings(), **self.pools}
        return [
            Pool(
                name=name,
                capabilities=parse_capabilities(list(one.capabilities), f"[pools.{name}] capabilities"),
                auto_certify=one.auto_certify,
                cluster=one.cluster,
            )
            for name, one in named.items()
        ]


def load(path: Path | None, environment: Mapping[str, str]) -> Config:
    """The configuration from a file (None: all defaults) and the environment. Raises `BadInput`."""
    text, where = "", "configuration"
    if path is not None:
        where = str(path)
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise BadInput(f"The configuration cannot be read: {error.strerror}.", where=where) from None
        except UnicodeDecodeError:
            raise BadInput("The configuration is not UTF-8 text.", where=where) from None
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"This is no TOML: {error}.", where=where) from None
    except RecursionError:
        raise BadInput("This is nested too deeply.", where=where) from None
    _override(tree, environment)
    return _Reader(text, where).config(tree)


def _override(tree: dict[str, Any], environment: Mapping[str, str]) -> None:
    for name, value in environment.items():
        parts = name.lower().split("__")
        if not name.startswith("OSTLER_") or len(parts) < 2:
            continue
        parts[0] = parts[0].removeprefix("ostler_")
        table = tree
        for part in parts[:-1]:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                raise BadInput(f"'{part}' is no section of the configuration.", where=name)
        table[parts[-1]] = _Given(name, value)


@dataclass(frozen=True)
class _Given:
    """A value of the environment: which variable gave it, and its text."""

    variable: str
    text: str

    def parsed(self, hint: Any) -> Any:
        """As TOML if it is TOML, else as text; a text may also be written without quotes, whatever it looks like."""
        try:
            value = tomllib.loads(f"value = {self.text}")["value"]
        except (tomllib.TOMLDecodeError, RecursionError):
            return self.text
        return self.text if hint is str and not isinstance(value, str) else value


class _Reader:
    """Turns the parsed tree into dataclasses, and knows on which line a key stands."""

    def __init__(self, text: str, where: str) -> None:
        self._lines = text.splitlines()
        self._where = where

    def config(self, tree: Mapping[str, Any]) -> Config:
        hints = typing.get_type_hints(Config)
        sections = {name: self._value(hints[name], value, name, "") for name, value in tree.items() if name in hints}
        for name in tree:
            if name not in Config.__dataclass_fields__:
                known = ", ".join(f"[{known}]" for known in Config.__dataclass_fields__)
                self._refuse(name, None, f"Unknown section; known are {known}", _variable(tree[name]))
        config = Config(**sections)
        for name, pool in config.pools.items():
            try:
                parse_capabilities(list(pool.capabilities), "")
            except BadInput as error:
                self._refuse(f"pools.{name}", "capabilities", error.message.rstrip("."))
        for name in config.fabrics:
            if FABRIC_NAME.fullmatch(name) is None:
                self._refuse(
                    f"fabrics.{name}", None, "The name of a fabric has letters, digits, '.', '_', '-', 64 at most"
                )
        return config

    def _section(self, kind: type[T], table: Mapping[str, Any], section: str) -> T:
        hints = typing.get_type_hints(kind)
        values: dict[str, Any] = {}
        for key, value in table.items():
            if key not in hints:
                self._refuse(section, key, f"Unknown key; known are {', '.join(hints)}", _variable(value))
            try:
                values[key] = self._value(hints[key], value, section, key)
            except BadInput as error:
                if isinstance(value, _Given):
                    raise BadInput(error.message, where=value.variable) from None
                raise
        try:
            return kind(**values)
        except ValueError as error:
            self._refuse(section, next((key for key in values if key in str(error).split()), None), str(error))

    def _value(self, hint: Any, value: Any, section: str, key: str) -> Any:
        origin, arguments = get_origin(hint), get_args(hint)
        path = f"{section}.{key}" if key else section
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            return self._section(hint, self._table(value, path), path)
        if origin is abc.Mapping and dataclasses.is_dataclass(arguments[1]):
            tables = self._table(value, path)
            return {name: self._value(arguments[1], one, path, name) for name, one in tables.items()}
        if isinstance(value, _Given):
            value = value.parsed(hint)
        if origin in (types.UnionType, typing.Union):
            hint = next(kind for kind in arguments if kind is not type(None))
            return self._value(hint, value, section, key)
        if origin is abc.Mapping:
            return self._table(value, path)
        if origin is tuple:
            if not isinstance(value, list):
                self._refuse(section, key, f"A list is expected, not {_word(type(value))}")
            return tuple(self._value(arguments[0], one, section, key) for one in value)
        if hint is float and type(value) is int:
            value = float(value) if abs(value) < 2**53 else math.inf
        if type(value) is not hint:
            # Never the value itself: it may be a secret that somebody put in the wrong place.
            self._refuse(section, key, f"{_word(hint)} is expected, not {_word(type(value))}")
        if hint in (int, float) and not 0 <= value < math.inf:
            self._refuse(section, key, f"A number of 0 or more is expected, not {value}")
        if hint is float and key.endswith("_share") and value > 1:
            self._refuse(section, key, f"A share of at most 1 is expected, not {value}")
        return value

    def _table(self, value: Any, section: str) -> Mapping[str, Any]:
        if not isinstance(value, dict):
            self._refuse(section, None, f"A section [{section}] is expected, not a value", _variable(value))
        return value

    def _refuse(self, section: str, key: str | None, why: str, variable: str | None = None) -> typing.NoReturn:
        if variable is not None:
            raise BadInput(f"{why}.", where=variable)
        line = self._line(section, key)
        place = f"{self._where}:{line}" if line else self._where
        raise BadInput(f"{why}.", where=f"{place} [{section}]{' ' + key if key else ''}")

    def _line(self, section: str, key: str | None) -> int | None:
        """The line of a key in a section, as people write TOML; None when it stands in no line (the environment)."""
        parent, _, last = section.rpartition(".")
        inside, above = False, parent == ""
        elsewhere: int | None = None
        for number, line in enumerate(self._lines, 1):
            header = re.match(r"\s*\[+\s*([^\]]+?)\s*\]+", line)
            if header:
                name = header.group(1).replace('"', "").replace(" ", "")
                inside, above = name == section, name == parent
                if (inside and key is None) or (key is not None and name == f"{section}.{key}"):
                    return number
            elif key is not None and inside and _assigns(line, key):
                return number
            elif above and _assigns(line, last):
                elsewhere = elsewhere or number  # an inline table, or a dotted key
        return elsewhere


def _assigns(line: str, key: str) -> bool:
    return re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[.=]", line) is not None


def _variable(value: Any) -> str | None:
    """The variable of the environment that gave a value, or the first one in a section of such."""
    while isinstance(value, dict) and value:
        value = next(iter(value.values()))
    return value.variable if isinstance(value, _Given) else None


def _word(kind: Any) -> str:
    words: dict[Any, str] = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
    words |= {list: "a list", dict: "a section"}
    return words.get(kind, getattr(kind, "__name__", "something else"))
