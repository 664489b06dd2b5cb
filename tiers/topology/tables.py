"""Every key of a topology file as Markdown tables, made from the models that check the file."""

from collections.abc import Iterator

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tiers import registry
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
    """The tables for the README, those of our own sources and sinks at the end."""
    pieces = [_table(title, model) for title, model in _TABLES]
    for what, builtin, group in (("Source", SOURCES, SOURCE_GROUP), ("Sink", SINKS, SINK_GROUP)):
        for name in sorted(builtin):
            options = registry.load(builtin, group, name).Options
            pieces.append(_table(f'{what} `type = "{name}"`', options))
    return "\n".join(pieces)


def _table(title: str, model: type[BaseModel]) -> str:
    return f"**{title}**\n\n{_ROWS}{''.join(_rows(model))}"


def _rows(model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        if name != "type":
            meaning = (field.description or _KNOWN.get(name, "")).replace("|", "\\|")
            yield f"| `{key_of(name, field)}` | {_default(field)} | {meaning} |\n"


def _default(field: FieldInfo) -> str:
    """As one would write it in the file."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None or (not value and isinstance(value, str | tuple | list | dict)):
        return "none"
    text = write(field, value)
    quoted = isinstance(value, str) or (text[-1:].isalpha() and not isinstance(value, bool))
    return f'`"{text}"`' if quoted else f"`{text}`"


# Keys of the contracts, which say what they mean in a comment.
_KNOWN = {
    "name": "Name in status; by default its type",
    "headers": 'Headers of all its events: `{ service = "web" }`',
}
