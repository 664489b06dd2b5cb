"""From the text of a topology file to a `Topology`, or to everything that is wrong with it."""

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tiers import registry
from tiers.errors import ConfigError, Problem, UsageError
from tiers.sinks import BUILTIN as SINKS
from tiers.sinks import GROUP as SINK_GROUP
from tiers.sources import BUILTIN as SOURCES
from tiers.sources import GROUP as SOURCE_GROUP
from tiers.topology import settings
from tiers.topology.address import WANTED, Address
from tiers.topology.checks import check
from tiers.topology.draft import Draft, PlacedSink, PlacedSource, agent_key, tier_key
from tiers.topology.environment import expand
from tiers.topology.examples import suggestion
from tiers.topology.model import AgentSettings, Tier, Topology
from tiers.topology.problems import Problems, join, nearest, show

NAME_BYTES_MAX: Final = 64
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_NAME_WANTED: Final = (
    f"a name of at most {NAME_BYTES_MAX} letters, digits, '_', '.' and '-', a letter or digit first"
)


def load(path: Path, env: Mapping[str, str] = os.environ) -> Topology:
    """The topology in the file `path`. Raises ConfigError with every problem of the file, and
    UsageError where there is no file to read."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"no topology file {path}{suggestion(path)}") from None
    except OSError as error:
        raise UsageError(f"topology file {path}: {error.strerror or error}") from error
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problem = Problem(f"line {line}", "text in UTF-8", f"byte {data[error.start]:#04x}")
        raise ConfigError(str(path), [problem]) from error
    return parse(text, str(path), env)


def parse(text: str, file: str = "topology", env: Mapping[str, str] = os.environ) -> Topology:
    """The topology in `text`; `file` is its name in messages. Raises ConfigError."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        what, _, place = str(error).rpartition(" (at ")
        if not what:
            what, place = str(error), "?"
        raise ConfigError(file, [Problem(place.rstrip(")"), "valid TOML", what)]) from error
    except RecursionError as error:
        raise ConfigError(file, [Problem("file", "TOML", "lists or tables too deep")]) from error
    problems = Problems()
    draft = _Reader(problems).file(expand(raw, env, problems), file, text)
    check(draft, problems)
    if problems.found:
        raise ConfigError(file, problems.found)
    return draft.topology


class _Reader:
    """Reads table after table, leaving out what is wrong."""

    def __init__(self, problems: Problems) -> None:
        self.problems = problems
        self.sources: list[PlacedSource] = []
        self.sinks: list[PlacedSink] = []

    def file(self, raw: object, file: str, text: str) -> Draft:
        instead = {"name": "unnamed", "tiers": {}}
        top = self.problems.read(settings.FileTable, raw, "", instead)
        assert top is not None
        self.name(top.name, "name")
        if not top.tiers and not self.problems.under("tiers"):
            self.problems.add("tiers", "at least one table [tiers.NAME]", "none")
        batch, channel, delivery = (
            self.problems.read(model, raw, key, {})
            for key, model, raw in (
                ("batch", settings.BatchSettings, top.batch),
                ("channel", settings.ChannelSettings, top.channel),
                ("delivery", settings.DeliverySettings, top.delivery),
            )
        )
        assert isinstance(batch, settings.BatchSettings)
        assert isinstance(channel, settings.ChannelSettings)
        assert isinstance(delivery, settings.DeliverySettings)
        tiers = {name: self.tier(name, table, list(top.tiers)) for name, table in top.tiers.items()}
        homes = {agent: tier.name for tier in tiers.values() for agent in tier.agents}
        topology = Topology(
            name=top.name,
            tiers=tiers,
            agents={n: self.agent(n, table, homes) for n, table in top.agents.items()},
            batch=_fit_event_size(batch),
            channel=channel,
            delivery=delivery,
            insecure=top.insecure,
            data=top.data,
            file=file,
            text=text,
        )
        return Draft(topology, self.sources, self.sinks)

    def tier(self, name: str, raw: object, declared: list[str]) -> Tier:
        key = tier_key(name)
        self.name(name, key)
        table = self.problems.read(settings.TierTable, raw, key, {"agents": None})
        assert table is not None
        if not isinstance(raw, dict):
            self.problems.hush(key)
        sources = [
            (place, self.options(each, place, SOURCES, SOURCE_GROUP))
            for place, each in _entries(key, "sources", table.sources)
        ]
        sinks = [
            (place, self.options(each, place, SINKS, SINK_GROUP))
            for place, each in _entries(key, "sinks", table.sinks)
        ]
        self.sources += [PlacedSource(place, name, "", o) for place, o in sources if o is not None]
        self.sinks += [PlacedSink(place, name, o) for place, o in sinks if o is not None]
        return Tier(
            name=name,
            agents=self.agents(table.agents, join(key, "agents")),
            next=self.next(table.next, join(key, "next"), declared),
            sources=tuple(options for _, options in sources if options is not None),
            sinks=tuple(options for _, options in sinks if options is not None),
        )

    def agents(self, raw: object, key: str) -> dict[str, Address | None]:
        """Names alone in a list, or names and addresses in a table."""
        agents: dict[str, Address | None] = {}
        if isinstance(raw, dict):
            for name, value in raw.items():
                if self.name(name, join(key, name)):
                    agents[name] = self.address(value, join(key, name), ports=2)
        elif isinstance(raw, list):
            for index, name in enumerate(raw):
                if self.name(name, join(key, index)):
                    if name in agents:
                        self.problems.add(join(key, index), "each agent once", f"{name!r} again")
                    agents[name] = None
        elif not self.problems.under(key):
            hint = f"write agents = [{raw!r}]" if isinstance(raw, str) else ""
            wanted = "a list of names, or a table of names and addresses"
            self.problems.add(key, wanted, show(raw), hint)
        if not raw and isinstance(raw, list | dict):
            self.problems.add(key, "at least one agent", "none")
        return agents

    def next(self, raw: object, key: str, declared: list[str]) -> tuple[str, ...]:
        """One tier's name, or a list of them; unknown ones are left out."""
        names = raw if isinstance(raw, list | tuple) else [raw]
        known: list[str] = []
        for index, name in enumerate(names):
            place = join(key, index) if isinstance(raw, list) else key
            if not isinstance(name, str):
                self.problems.add(place, "the name of a tier, or a list of names", show(name))
            elif name not in declared:
                self.problems.add(place, "the name of a tier", show(name), nearest(name, declared))
            elif name in known:
                self.problems.add(place, "each tier once", f"{name!r} again")
            else:
                known.append(name)
        return tuple(known)

    def agent(self, name: str, raw: object, homes: Mapping[str, str]) -> AgentSettings:
        key = agent_key(name)
        if isinstance(raw, dict) and raw.get("sinks"):
            wanted = "sinks in the table of a tier: all its agents write to one store"
            self.problems.add(join(key, "sinks"), wanted, "sinks of one agent")
            raw = {k: v for k, v in raw.items() if k != "sinks"}
        table = self.problems.read(settings.AgentTable, raw, key, {})
        assert table is not None
        sources = [
            (place, self.options(each, place, SOURCES, SOURCE_GROUP))
            for place, each in _entries(key, "sources", table.sources)
        ]
        self.sources += [
            PlacedSource(place, homes.get(name, ""), name, options)
            for place, options in sources
            if options is not None
        ]
        return AgentSettings(
            listen=self.address(table.listen, join(key, "listen"), ports=2),
            data=table.data,
            status=self.address(table.status, join(key, "status")),
            sources=tuple(options for _, options in sources if options is not None),
        )

    def options(self, raw: object, key: str, builtin: dict[str, str], group: str) -> Any:
        """The options of one source or sink, checked by the class that its `type` names."""
        if not isinstance(raw, dict):
            self.problems.add(key, "a table", show(raw))
            return None
        kind, known = raw.get("type"), registry.names(builtin, group)
        wanted = f"one of {', '.join(known)}"
        if not isinstance(kind, str):
            self.problems.add(join(key, "type"), wanted, show(kind) if "type" in raw else "nothing")
            return None
        try:
            model = registry.load(builtin, group, kind).Options
        except KeyError:
            hint = nearest(kind, known, listed=False)
            self.problems.add(join(key, "type"), wanted, show(kind), hint)
            return None
        except UsageError as error:
            self.problems.add(join(key, "type"), "a type that can be used", str(error))
            return None
        named = {**raw, "name": raw.get("name") or kind}
        options = self.problems.read(model, named, key, {"name": kind})
        if isinstance(named["name"], str):
            self.name(named["name"], join(key, "name"))
        return options

    def address(self, raw: object, key: str, ports: int = 1) -> Address | None:
        if raw is None:
            return None
        try:
            return Address.parse(raw, ports)
        except ValueError as error:
            hint = ""
            if isinstance(raw, str) and raw.startswith((":", "*:")):
                hint = f'every address of the machine is "0.0.0.0:{raw.rpartition(":")[2]}"'
            self.problems.add(key, str(error) or WANTED, show(raw), hint)
            return None

    def name(self, name: object, key: str) -> bool:
        """Whether `name` may be one: it becomes a directory, a record key, part of a file name."""
        good = isinstance(name, str) and _NAME.fullmatch(name) and len(name) <= NAME_BYTES_MAX
        if not good:
            self.problems.add(key, _NAME_WANTED, show(name))
        return bool(good)


def _entries(key: str, part: str, raw: list[Any]) -> list[tuple[str, object]]:
    return [(join(key, part, index), each) for index, each in enumerate(raw)]


def _fit_event_size(batch: settings.BatchSettings) -> settings.BatchSettings:
    """Whoever only makes batches smaller than the default `event_size` means events as well."""
    if "event_bytes_max" in batch.model_fields_set or batch.event_bytes_max <= batch.size_bytes_max:
        return batch
    return batch.model_copy(update={"event_bytes_max": batch.size_bytes_max})
