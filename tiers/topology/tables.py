"""Every key of a topology file as Markdown tables, made from the models that check the file."""

import inspect
import json
import re
from collections.abc import Iterator

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tiers import registry
from tiers.interceptors import BUILTIN as INTERCEPTORS
from tiers.interceptors import GROUP as INTERCEPTOR_GROUP
from tiers.sinks import BUILTIN as SINKS
from tiers.sinks import GROUP as SINK_GROUP
from tiers.sources import BUILTIN as SOURCES
from tiers.sources import GROUP as SOURCE_GROUP
from tiers.topology import settings
from tiers.topology.settings import key_of, write

_TABLES: tuple[tuple[str, type[BaseModel]], ...] = (
    ("The top of the file", settings.FileTable),
    ("`[tiers.NAME]`", settings.TierTable),
    ("`[agents.NAME]`", settings.AgentTable),
    ("`[batch]`", settings.BatchSettings),
    ("`[channel]`", settings.ChannelSettings),
    ("`[delivery]`", settings.DeliverySettings),
)
_ROWS = "| key | default | meaning |\n|---|---|---|\n"


def settings_table() -> str:
    """The tables for the README, those of our own sources, interceptors and sinks at the end."""
    pieces = [_table(title, model) for title, model in _TABLES]
    rooms = (
        ("Source", SOURCES, SOURCE_GROUP),
        ("Interceptor", INTERCEPTORS, INTERCEPTOR_GROUP),
        ("Sink", SINKS, SINK_GROUP),
    )
    for what, builtin, group in rooms:
        for name in sorted(builtin):
            options = registry.load(builtin, group, name).Options
            pieces.append(_table(f'{what} `type = "{name}"`', options))
    return "\n".join(pieces)


def _table(title: str, model: type[BaseModel]) -> str:
    return f"**{title}**\n\n{_ROWS}{''.join(_rows(model))}"


def _rows(model: type[BaseModel]) -> Iterator[str]:
    comments = _comments(model)
    for name, field in model.model_fields.items():
        if name != "type":
            meaning = field.description or _KNOWN.get(key_of(name, field)) or comments.get(name, "")
            meaning = meaning.replace("|", "\\|")
            yield f"| `{key_of(name, field)}` | {_default(field)} | {meaning} |\n"


def _comments(model: type[BaseModel]) -> dict[str, str]:
    """What the comments beside the fields of a model say: options are documented by these."""
    found: dict[str, str] = {}
    for each in reversed(model.__mro__):
        if issubclass(each, BaseModel) and each is not BaseModel:
            fields = _FIELD.finditer(inspect.getsource(each))
            found |= {field[1]: f"{field[2][0].upper()}{field[2][1:]}" for field in fields}
    return found


def _default(field: FieldInfo) -> str:
    """As one would write it in the file."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None or (not value and isinstance(value, str | tuple | list | dict)):
        return "none"
    if isinstance(value, tuple):
        return f"`{json.dumps(value)}`"
    text = write(field, value)
    quoted = isinstance(value, str) or (text[-1:].isalpha() and not isinstance(value, bool))
    return f'`"{text}"`' if quoted else f"`{text}`"


_FIELD = re.compile(r"^    (\w+): .*  # (.+)$", re.MULTILINE)
# Keys that several types share, and keys whose comment would be longer than their line.
_KNOWN = {
    "name": "Name in status, unique among its like; by default the type",
    "when": "Gets only batches whose headers are so, see [routes](#routes)",
    "interceptors": "What its events come through, in this order, before those of its tier",
    "on_error": "What becomes of a block that it fails on: it goes on as it was (`pass`), is "
    "dropped (`drop`), or goes to the dead letters (`dead`)",
    "headers": 'Headers of all its events: `{ service = "web" }`',
    "path": "Directory below `root`: `{header}` and time codes of the batch's time bucket, UTC",
    "codec": "`none`, `gzip` or `zstd`; the batch's own codec means bytes are copied as they are",
    "level": "Compression level where the codec is another than the batch's; default: `[batch]`'s",
    "roll_after": "A file is published at the latest when its oldest batch is this old",
    "takeover_after": "A sink that has claimed a flagged batch and not published it for so long "
    "loses it to another that has a copy",
    "roll_size": "A file is published at the latest when it has this many bytes, as stored",
    "start": "Where a new source begins in files that are there: `beginning` or `end`",
    "transports": "Any of `udp` and `tcp`",
    "connections_max": "TCP connections at the same time",
    "connections_per_address_max": "Those of one address",
    "receive_buffer": "Asked of the kernel for UDP; at most 1 GiB",
    "rescan": "Time between looks at all files, beside the watch; 1 ms to 1 h",
    "framing": "How messages end over TCP: `auto`, or alone by `octet` counts (before any text), "
    "`newline`, `nul`",
    "idle_after": "A connection that says nothing for so long is closed",
    "unfinished_size_max": "Bytes of unfinished messages of all connections together",
    "follow_links": "`true` follows all symbolic links, `false` none; by default those of root, "
    "and those whose owner owns what they lead to",
    "open_files_max": "Files held open at the same time",
    "extension": "End of file names, before `.gz` or `.zst`",
    "url": 'NameNodes: `"http://nn1:9870;http://nn2:9870"`; which one is active is found out. '
    "No proxy is asked, whatever HTTP_PROXY says",
    "connect_timeout": "How long a connection may take",
    "read_timeout": "How long an answer may take",
    "root": "Where the files go; one root for each output",
}
