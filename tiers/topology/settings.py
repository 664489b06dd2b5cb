"""The tables of a topology file as typed models: every key, its unit, default and meaning.

In the file a value carries its unit (`window = "16MiB"`); in code the name does
(`window_bytes_max`). Whatever must hold between two keys is checked in checks.py.
"""

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

from tiers.core.batch import BODY_SIZE_MAX
from tiers.host.path_names import Directory
from tiers.units import Duration, Size, parse_duration, parse_size

KIB: Final = 2**10
MIB: Final = 2**20
GIB: Final = 2**30
DAY_S: Final = 86400.0
_SIZES: Final = (
    *(("TiB", 2**40), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB)),
    *(("GB", 10**9), ("MB", 10**6), ("kB", 10**3)),
)
_DURATIONS_MS: Final = (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000))


class Table(BaseModel):
    """A table of the file: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class BatchSettings(Table):
    """How events are gathered and sealed, where they enter."""

    size_bytes_max: Size = Field(
        default=MIB,
        alias="size",
        ge=2,
        le=BODY_SIZE_MAX,
        description="A batch is sealed at this many raw bytes; at most 16 MiB",
    )
    grown_bytes_max: Size = Field(
        default=4 * MIB,
        alias="size_max",
        ge=2,
        le=BODY_SIZE_MAX,
        description="While two batches of a source are not on disk yet, its next one grows to this "
        "many; at least `size`, at most 16 MiB. Never more than four times a smaller `size`, "
        "unless it is set",
    )
    set_bytes_max: Size = Field(
        default=8 * MIB,
        alias="set_size",
        ge=2,
        le=64 * MIB,
        description="Batches of one source that are cut and stored together have this many raw "
        "bytes at most; at least `size_max`",
    )
    open_max: int = Field(
        default=4096,
        ge=1,
        le=65_536,
        description="Batches of one source that are open at a time, one for each set of headers "
        "and time bucket",
    )
    linger_s: Duration = Field(
        default=0.020,
        alias="linger",
        le=60,
        description="How long later events gather in a batch; 2 ms for each batch of the set "
        "before, 1 s at most, where these were small (less than 64 KiB)",
    )
    time_bucket_s: Duration = Field(
        default=3600.0,
        alias="time_bucket",
        ge=1,
        description="A batch never crosses a multiple of this, counted in UTC from 1970; "
        "no path may have finer time codes",
    )
    codec: Literal["zstd", "gzip", "none"] = Field(
        default="zstd", description="How a batch is compressed, once: `zstd`, `gzip` or `none`"
    )
    level: int = Field(
        default=1, ge=1, le=19, description="Compression level: 1 to 19 for zstd, 1 to 9 for gzip"
    )
    event_bytes_max: Size = Field(
        default=MIB,
        alias="event_size",
        ge=2,
        description="A longer line is split and counted; never more than `size`",
    )


class ChannelSettings(Table):
    """The agent's channel on disk."""

    size_bytes_max: Size = Field(
        default=8 * GIB, alias="size", le=2**50, description="Bytes of batches that a channel holds"
    )
    high: float = Field(
        default=0.9, gt=0, le=1, description="Fraction of `size` above which nothing is taken in"
    )
    low: float = Field(
        default=0.8,
        gt=0,
        le=1,
        description="Fraction of `size` below which a full channel takes in again",
    )
    free_floor_bytes: Size = Field(
        default=512 * MIB, alias="free_floor", description="Free space that is left on the disk"
    )
    commit_bytes_max: Size = Field(
        default=8 * MIB,
        alias="commit_size",
        ge=1,
        le=GIB,
        description="Bytes of batches in one commit",
    )


class DeliverySettings(Table):
    """From one channel to the next."""

    window_bytes_max: Size = Field(
        default=16 * MIB,
        alias="window",
        le=2**40,
        description="Bytes under way to one peer, not yet acked",
    )
    failover_after_s: Duration = Field(
        default=2.0,
        alias="failover_after",
        gt=0,
        description="A silent peer's batches go to other peers after this",
    )
    heartbeat_s: Duration = Field(
        default=0.5,
        alias="heartbeat",
        ge=0.010,
        description="How often a peer is asked whether it lives",
    )
    reconnect_max_s: Duration = Field(
        default=10.0,
        alias="reconnect_max",
        ge=0.010,
        le=3600,
        description="Longest wait between tries to connect",
    )
    bundle_bytes_max: Size = Field(
        default=MIB,
        alias="bundle_size",
        ge=1,
        le=GIB,
        description="Bytes of batches sent in one message",
    )
    message_bytes_max: Size = Field(
        default=32 * MIB,
        alias="message_size",
        le=2 * GIB,
        description="Longest message that is taken",
    )
    receive_memory_bytes_max: Size = Field(
        default=64 * MIB,
        alias="receive_memory",
        ge=MIB,
        le=2**40,
        description="Bytes that all senders of a receiver may have sent and that are not on its "
        "disk yet; a batch of each may come on top",
    )
    guarantee: Literal["hop", "end"] = Field(
        default="hop",
        description='Kept until the next tier has it (`"hop"`), or until it is published (`"end"`)',
    )
    lost_after_s: Duration = Field(
        default=600.0,
        alias="lost_after",
        gt=0,
        description='With `"end"`: what a peer had stored goes to others once it is down so long',
    )
    stalled_after_s: Duration = Field(
        default=30.0,
        alias="stalled_after",
        ge=1,
        description="What is due and does not move for so long makes its agent unhealthy",
    )
    dedupe_retention_s: Duration = Field(
        default=7 * DAY_S,
        alias="dedupe_retention",
        ge=10,
        description="How long a receiver remembers the ids of batches it has passed on",
    )
    shutdown_timeout_s: Duration = Field(
        default=10.0,
        alias="shutdown_timeout",
        description="How long a stop waits for acks under way",
    )


class TierTable(Table):
    """One tier. Lists of sources and sinks are checked one by one, by their `type`."""

    agents: Any = Field(
        description='`["edge-1"]`, or with addresses `{ agg-1 = "10.0.0.11:7400" }`: '
        "the data port; control is the next one. A tier that is some tier's `next` needs them"
    )
    next: Any = Field(
        default=(),
        description="The tier to send to, or a list of them; in place of a name also "
        '`{ tier = "aggregator", when = { service = "web" } }`, see [routes](#routes)',
    )
    route: Literal["all", "first"] = Field(
        default="all",
        description="A batch goes to each output that wants it (`all`), or to the first alone: "
        "those of `next` as written, then the sinks (`first`)",
    )
    unrouted: Literal["dead", "drop"] = Field(
        default="dead",
        description="What no output wants goes to the dead letters (`dead`), or is dropped and "
        "counted (`drop`)",
    )
    sources: list[Any] = Field(
        default=[], description="Where events come from: `[[tiers.NAME.sources]]`"
    )
    sinks: list[Any] = Field(
        default=[], description="Where they are written: `[[tiers.NAME.sinks]]`"
    )
    interceptors: list[Any] = Field(
        default=[],
        description="What events of its sources come through, after the interceptors of the source",
    )


class NextTable(Table):
    """An entry of `next` that is more than a name."""

    tier: str = Field(description="The tier to send to")
    when: Any = None


class AgentTable(Table):
    """What is different on one node."""

    listen: Any = Field(default=None, description="Binds here instead of at the address others use")
    data: Directory | None = Field(
        default=None, description="Directory of this agent's files, instead of `data`"
    )
    status: Any = Field(
        default=None, description="Also answers `tiers status` over TCP on this address"
    )
    sources: list[Any] = Field(default=[], description="Sources beside those of its tier")


class FileTable(Table):
    """The top of the file."""

    name: str = Field(description="Name of the topology; agents of another name are refused")
    insecure: bool = Field(
        default=False,
        description="Lets agents bind beyond loopback, without keys: for trusted networks",
    )
    data: Directory | None = Field(
        default=None, description="Agents keep their files in DIR/NAME; `--data` wins over it"
    )
    tiers: dict[str, Any] = Field(description="The tiers: `[tiers.NAME]`")
    agents: dict[str, Any] = Field(
        default={}, description="Settings of single agents: `[agents.NAME]`"
    )
    batch: Any = Field(default={}, description="See `[batch]`")
    channel: Any = Field(default={}, description="See `[channel]`")
    delivery: Any = Field(default={}, description="See `[delivery]`")


def write_size(count: int) -> str:
    """Bytes as one writes them in the file: `1048576` -> `"1MiB"`. `parse_size` reads it back."""
    for unit, length in _SIZES:
        if count and count % length == 0:
            return f"{count // length}{unit}"
    return f"{count}B"


def write_duration(seconds: float) -> str:
    """Seconds as one writes them in the file: `0.02` -> `"20ms"`, `604800` -> `"7d"`."""
    for unit, length in _DURATIONS_MS:
        if seconds and round(seconds * 1000, 6) % length == 0:
            return f"{round(seconds * 1000) // length}{unit}"
    return f"{seconds * 1000:.6f}".rstrip("0").rstrip(".") + "ms"


def key_of(name: str, field: FieldInfo) -> str:
    """What a field is called in the file."""
    return field.alias or name


def write(field: FieldInfo, value: object) -> str:
    """A setting's value as one writes it in the file, without quotation marks."""
    readers = [getattr(mark, "func", None) for mark in field.metadata]
    if parse_size in readers and isinstance(value, int):
        return write_size(value)
    if parse_duration in readers and isinstance(value, int | float):
        return write_duration(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
