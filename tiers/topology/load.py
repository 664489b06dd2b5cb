"""From the text of a topology file to a `Topology`, or to everything that is wrong with it."""

import codecs
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tiers import registry
from tiers.core.entry.routes import When
from tiers.core.names import NAME_WANTED, is_name
from tiers.errors import ConfigError, Problem, UsageError
from tiers.host.path_names import parse_directory
from tiers.host.regular_file import read_regular_file
from tiers.interceptors import BUILTIN as INTERCEPTORS
from tiers.interceptors import GROUP as INTERCEPTOR_GROUP
from tiers.interceptors.interceptor import InterceptorOptions
from tiers.sinks import BUILTIN as SINKS
from tiers.sinks import GROUP as SINK_GROUP
from tiers.sources import BUILTIN as SOURCES
from tiers.sources import GROUP as SOURCE_GROUP
from tiers.sources.source import SourceOptions
from tiers.topology import settings
from tiers.topology.address import WANTED, Address
from tiers.topology.checks import check
from tiers.topology.conditions import read_when
from tiers.topology.draft import Draft, PlacedSink, PlacedSource, agent_key, tier_key
from tiers.topology.environment import expand
from tiers.topology.examples import suggestion
from tiers.topology.fitting import fitted
from tiers.topology.model import AgentSettings, Tier, Topology
from tiers.topology.problems import Problems, join, nearest, show
from tiers.topology.steady import Content

_DEPTH_MAX: Final = 16  # of tables and lists within each other; none of ours is half as deep
_TOO_DEEP: Final = Problem("file", "TOML", "lists or tables too deep")
_OTHER_ENCODINGS: Final = {  # by their marks, longest first
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
FILE_BYTES_MAX: Final = 1 << 20  # of a topology: ten thousand agents take half of it


def load(path: Path, env: Mapping[str, str] = os.environ) -> Topology:
    """The topology in the file `path`. Raises ConfigError with every problem of the file, and
    UsageError where there is no file to read."""
    return understand(look(path), path, env)


def look(path: Path) -> Content:
    """What the file holds; in words, why it cannot be read."""
    try:
        return read_regular_file(path, FILE_BYTES_MAX)
    except FileNotFoundError:
        return f"no topology file {path}{suggestion(path)}"
    except OSError as error:
        return f"topology file {path}: {error.strerror or error}"


def understand(content: Content, path: Path, env: Mapping[str, str] = os.environ) -> Topology:
    """The topology that `path` held at a look. Raises as `load`."""
    if isinstance(content, str):
        raise UsageError(content)
    return parse(_decode(content, str(path)), str(path), env)


def data_directory(content: Content, agent: str, override: Path | None) -> Path | None:
    """The DIR of an agent's files, also of a topology that is wrong, as far as it says one."""
    if override is not None or isinstance(content, str):
        return override
    try:
        raw = tomllib.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None
    agents = raw.get("agents")
    own = agents.get(agent) if isinstance(agents, dict) else None
    said = (own.get("data") if isinstance(own, dict) else None) or raw.get("data")
    if not isinstance(said, str):  # however deep it is
        return None
    try:
        filled = expand(said, os.environ, problems := Problems())
        return None if problems.found else parse_directory(filled)
    except ValueError:
        return None


def _decode(data: bytes, file: str) -> str:
    """Editors of some systems put a byte order mark before UTF-8, or write UTF-16."""
    for mark, encoding in _OTHER_ENCODINGS.items():
        if data.startswith(mark):
            hint = "save it as UTF-8"
            problem = Problem("file", "text in UTF-8", f"the byte order mark of {encoding}", hint)
            raise ConfigError(file, [problem])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        start = error.start
        line = data.count(b"\n", 0, start) + 1
        found = f"byte {data[start]:#04x}"
        problem = Problem(f"line {line}", "text in UTF-8", found, "save it as UTF-8")
        raise ConfigError(file, [problem]) from error


def parse(text: str, file: str = "topology", env: Mapping[str, str] = os.environ) -> Topology:
    """The topology in `text`; `file` is its name in messages. Raises ConfigError."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        what, _, place = str(error).rpartition(" (at ")
        if not what:
            what, place = str(error), "?"
        raise ConfigError(file, [Problem(place.rstrip(")"), "valid TOML", what)]) from error
    except ValueError as error:  # Python reads no integer of more digits, and says so by this
        raise ConfigError(file, [Problem("file", "TOML", "a number of too many digits")]) from error
    except RecursionError as error:
        raise ConfigError(file, [_TOO_DEEP]) from error
    if _is_deeper(raw, _DEPTH_MAX):
        raise ConfigError(file, [_TOO_DEEP])
    problems = Problems()
    draft = _Reader(problems).file(expand(raw, env, problems), file, text)
    check(draft, problems)
    if problems.found:
        raise ConfigError(file, problems.found)
    return draft.topology


def _is_deeper(raw: object, levels: int) -> bool:
    """Keys with dots make tables as deep as they are long without a recursion."""
    level = [raw]
    for _ in range(levels):
        level = [
            inner
            for one in level
            if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
    return bool(level)


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
            batch=fitted(batch, channel, delivery),
            channel=channel,
            delivery=delivery,
            insecure=top.insecure,
            data=top.data,
            file=file,
            text=text,
            variables=self.problems.veil.values,
        )
        return Draft(topology, self.sources, self.sinks)

    def tier(self, name: str, raw: object, declared: list[str]) -> Tier:
        key = tier_key(name)
        self.name(name, key)
        table = self.problems.read(settings.TierTable, raw, key, {"agents": None})
        assert table is not None
        if not isinstance(raw, dict):
            self.problems.hush(key)
        sources = self.source_list(table.sources, key)
        sinks = self.sink_list(table.sinks, key)
        names, conditions = self.next(table.next, join(key, "next"), declared)
        self.sources += [PlacedSource(place, name, "", options) for place, options in sources]
        self.sinks += [PlacedSink(place, name, options) for place, options in sinks]
        return Tier(
            name=name,
            agents=self.agents(table.agents, join(key, "agents")),
            next=names,
            conditions=conditions,
            first=table.route == "first",
            unrouted=table.unrouted,
            sources=tuple(options for _, options in sources),
            sinks=tuple(options for _, options in sinks),
            interceptors=self.interceptors(table.interceptors, key),
        )

    def source_list(self, raw: list[Any], key: str) -> list[tuple[str, SourceOptions]]:
        """The sources that can be read, and where they stand."""
        found = []
        for place, each in _entries(key, "sources", raw):
            options = self.options(each, place, SOURCES, SOURCE_GROUP)
            if options is not None:
                interceptors = self.interceptors(options.interceptors, place)
                found.append((place, options.model_copy(update={"interceptors": interceptors})))
        return found

    def sink_list(self, raw: list[Any], key: str) -> list[tuple[str, Any]]:
        """The sinks that can be read, and where they stand."""
        found = []
        for place, each in _entries(key, "sinks", raw):
            options = self.options(each, place, SINKS, SINK_GROUP)
            if options is not None and "when" in options.model_fields_set:
                when = read_when(options.when, join(place, "when"), self.problems)
                options = options.model_copy(update={"when": when})
            if options is not None:
                found.append((place, options))
        return found

    def interceptors(self, raw: Sequence[Any], key: str) -> tuple[InterceptorOptions, ...]:
        read = (
            self.options(each, place, INTERCEPTORS, INTERCEPTOR_GROUP)
            for place, each in _entries(key, "interceptors", raw)
        )
        return tuple(options for options in read if options is not None)

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

    def next(
        self, raw: object, key: str, declared: list[str]
    ) -> tuple[tuple[str, ...], dict[str, When]]:
        """One tier's name, a table of it and what it wants, or a list of these; unknown tiers are
        left out."""
        entries = raw if isinstance(raw, list | tuple) else [raw]
        known: list[str] = []
        conditions: dict[str, When] = {}
        for index, entry in enumerate(entries):
            place, name, when = join(key, index) if isinstance(raw, list) else key, entry, None
            if isinstance(entry, dict):
                table = self.problems.read(settings.NextTable, entry, place)
                if table is None:
                    continue
                name, when = table.tier, table.when
                place = join(place, "tier")
            if not isinstance(name, str):
                self.problems.add(place, "the name of a tier, or a list of names", show(name))
            elif name not in declared:
                self.problems.add(place, "the name of a tier", show(name), nearest(name, declared))
            elif name in known:
                self.problems.add(place, "each tier once", f"{name!r} again")
            else:
                known.append(name)
                if when is not None:
                    place = place.removesuffix(".tier")
                    conditions[name] = read_when(when, join(place, "when"), self.problems)
        return tuple(known), conditions

    def agent(self, name: str, raw: object, homes: Mapping[str, str]) -> AgentSettings:
        key = agent_key(name)
        if isinstance(raw, dict) and raw.get("sinks"):
            wanted = "sinks in the table of a tier: all its agents write to one store"
            self.problems.add(join(key, "sinks"), wanted, "sinks of one agent")
            raw = {k: v for k, v in raw.items() if k != "sinks"}
        table = self.problems.read(settings.AgentTable, raw, key, {})
        assert table is not None
        sources = self.source_list(table.sources, key)
        home = homes.get(name, "")
        self.sources += [PlacedSource(place, home, name, options) for place, options in sources]
        return AgentSettings(
            listen=self.address(table.listen, join(key, "listen"), ports=2),
            data=table.data,
            status=self.address(table.status, join(key, "status")),
            sources=tuple(options for _, options in sources),
        )

    def options(self, raw: object, key: str, builtin: dict[str, str], group: str) -> Any:
        """The options of a source, sink or interceptor, checked by the class that `type` names."""
        if not isinstance(raw, dict):
            self.problems.add(key, "a table", show(raw))
            return None
        kind = raw.get("type")
        if not isinstance(kind, str):
            wanted = f"one of {', '.join(registry.names(builtin, group))}"
            self.problems.add(join(key, "type"), wanted, show(kind) if "type" in raw else "nothing")
            return None
        try:
            model = registry.load(builtin, group, kind).Options
        except KeyError:
            known = registry.names(builtin, group)
            hint = nearest(kind, known, listed=False)
            self.problems.add(join(key, "type"), f"one of {', '.join(known)}", show(kind), hint)
            return None
        except UsageError as error:
            self.problems.add(join(key, "type"), "a type that can be used", str(error))
            return None
        named = {"name": kind, **raw}
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
        good = is_name(name)
        if not good:
            self.problems.add(key, NAME_WANTED, show(name))
        return good


def _entries(key: str, part: str, raw: Sequence[Any]) -> list[tuple[str, object]]:
    return [(join(key, part, index), each) for index, each in enumerate(raw)]
