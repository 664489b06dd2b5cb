"""What an agent said of itself, as a row that a person or a program reads.

An answer comes from another process, perhaps of another version: whatever is missing or of
another type counts as nothing, and makes no row fail. Its texts are made printable here. An agent
that could not be asked is a row with the reason.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tiers.channel import meters as of_channel
from tiers.core.meters import Meter
from tiers.core.printable import printable_text
from tiers.observe.client import Answer
from tiers.sinks import meters as of_sinks
from tiers.sources import meters as of_sources
from tiers.transport import meters as of_hops
from tiers.units import show_duration, show_size

_BEHIND_S: Final = 1.0  # less is no news
_FULL_S: Final = 86_400.0  # more is none


@dataclass(frozen=True, slots=True)
class PeerRow:
    """One next-hop agent, or one agent that sends here."""

    agent: str
    state: str  # of a sender's peer: connecting, up, suspect, down, draining; "sends": a sender
    credit_bytes: int
    in_flight_bytes: int


@dataclass(frozen=True, slots=True)
class Shown:
    """Something that is the matter with an agent now, see observe/conditions.py."""

    code: str
    part: str
    text: str
    since_s: float
    at_risk: bool
    doing: str
    todo: str


@dataclass(frozen=True, slots=True)
class Row:
    """One agent at one moment. Counters are since its start."""

    agent: str
    tier: str
    state: str  # as the agent says, or "unreachable"
    healthy: bool
    events_in: int = 0
    bytes_in: int = 0
    events_out: int = 0
    bytes_out: int = 0
    used_bytes: int = 0
    free_bytes: int = 0
    queued_events: int = 0  # in its outputs' queues; an event with two outputs counts twice
    oldest_s: float = 0.0
    dead: int = 0  # batches in the dead letters
    dropped: tuple[tuple[str, int], ...] = ()  # that sources had to drop, or no output wanted
    flagged: tuple[str, ...] = ()  # what became of flagged batches, a line per output
    behind: tuple[str, ...] = ()  # what sources have not read yet; when the channel will be full
    file: str = ""  # which topology file it runs, where that is another than the one it is asked by
    peers: tuple[PeerRow, ...] = ()
    conditions: tuple[Shown, ...] = ()
    error: str = ""  # what is the matter, or was last; the reason where it is unreachable


# What became of flagged batches at an output, in a word each.
_SETTLED: Final = (
    (of_hops.FLAGGED, "flagged"),
    (of_sinks.CLAIMED, "claimed"),
    (of_sinks.PARKED, "parked"),
    (of_sinks.DROPPED, "dropped"),
    (of_sinks.FENCED, "fenced"),
    (of_sinks.VOIDED, "voided"),
    (of_sinks.TAKEN_OVER, "taken over"),
)


def row(agent: str, tier: str, answer: Answer, topology_hash: str = "") -> Row:
    """The row of an agent that gave `answer`; `topology_hash` is that of the file by which it was
    asked."""
    if isinstance(answer, str):
        return Row(agent, tier, "unreachable", healthy=False, error=printable_text(answer))
    channel = _map(answer, "channel")
    outputs = _maps(answer, "outputs")
    conditions = tuple(_conditions(answer))
    return Row(
        agent=agent,
        tier=tier,
        state=_text(answer, "state") or "unknown",
        healthy=answer.get("healthy") is True,
        events_in=_number(answer, "events_in"),
        bytes_in=_number(answer, "bytes_in"),
        events_out=_number(answer, "events_out"),
        bytes_out=_number(answer, "bytes_out"),
        used_bytes=_number(channel, "used_bytes"),
        free_bytes=_number(channel, "free_bytes"),
        queued_events=sum(_number(output, "events") for output in outputs),
        oldest_s=_seconds(channel, "oldest_s"),
        dead=_number(channel, "dead"),
        dropped=tuple(_dropped(answer)),
        flagged=tuple(_flagged(answer, outputs)),
        behind=(*_behind(answer), *_fills(answer)),
        file=_other_file(answer, topology_hash),
        peers=tuple(_peers(answer, outputs)),
        conditions=conditions,
        error="; ".join(one.text for one in conditions) or _last(answer),
    )


def all_healthy(rows: Iterable[Row]) -> bool:
    return all(each.healthy for each in rows)


def show_peer(peer: PeerRow) -> str:
    """`agg-1 up, 16.0 MiB credit`."""
    return f"{peer.agent} {peer.state}, {show_size(peer.credit_bytes)} credit"


HEADINGS: Final = (
    *("agent", "tier", "state", "events in", "bytes in"),
    *("events out", "bytes out", "used", "free", "oldest"),
)


def cells(each: Row) -> tuple[str, ...]:
    """What stands under `HEADINGS`, peers and error apart."""
    if each.state == "unreachable":
        return (each.agent, each.tier, each.state, *[""] * (len(HEADINGS) - 3))
    return (
        each.agent,
        each.tier,
        _state(each),
        f"{each.events_in:,}",
        show_size(each.bytes_in),
        f"{each.events_out:,}",
        show_size(each.bytes_out),
        show_size(each.used_bytes),
        show_size(each.free_bytes),
        show_duration(each.oldest_s) if each.oldest_s else "-",
    )


def _state(each: Row) -> str:
    plain = each.healthy or each.state not in ("running", "draining", "drained")
    return each.state if plain else f"{each.state}, unhealthy"


def _peers(answer: Mapping[str, Any], outputs: list[Mapping[str, Any]]) -> Iterable[PeerRow]:
    credit, in_flight = (
        {(_text(labels, "output"), _text(labels, "peer")): value for labels, value in told}
        for told in (_told(answer, of_hops.PEER_CREDIT), _told(answer, of_hops.PEER_IN_FLIGHT))
    )
    for output in outputs:
        for peer in _maps(_map(output, "detail"), "peers"):
            name = _text(peer, "agent") or "?"
            key = _text(output, "name"), name
            state = _text(peer, "state") or "unknown"
            yield PeerRow(name, state, credit.get(key, 0), in_flight.get(key, 0))
    for sender in _maps(_map(answer, "receiver"), "senders"):
        yield PeerRow(_text(sender, "agent") or "?", "sends", _number(sender, "credit_bytes"), 0)


def _dropped(answer: Mapping[str, Any]) -> Iterable[tuple[str, int]]:
    for labels, count in _told(answer, of_sources.DROPPED):
        if count:
            yield f"{_text(labels, 'source')}: dropped, {_text(labels, 'reason')}", count
    for _, count in _told(answer, of_channel.UNROUTED_EVENTS):
        if count:
            yield "events that no output wanted", count


def _behind(answer: Mapping[str, Any]) -> Iterable[str]:
    unread = {_text(labels, "source"): size for labels, size in _told(answer, of_sources.UNREAD)}
    for one in _maps(_map(answer, "meters"), of_sources.BEHIND.shown):
        source, waits_s = _text(_map(one, "labels"), "source"), _seconds(one, "value")
        if waits_s >= _BEHIND_S and unread.get(source):
            waits = show_duration(waits_s)
            yield f"{source}: {show_size(unread[source])} unread, behind by {waits}"


def _fills(answer: Mapping[str, Any]) -> Iterable[str]:
    for one in _maps(_map(answer, "meters"), of_channel.FULL.shown):
        if 0 < (full_s := _seconds(one, "value")) < _FULL_S:
            yield f"channel: full in {show_duration(full_s)}, as it is filling now"


def _other_file(answer: Mapping[str, Any], topology_hash: str) -> str:
    runs = _text(answer, "topology_hash")
    if not runs or not topology_hash or runs == topology_hash:
        return ""
    generation = _number(answer, "generation")
    return (
        f"runs another topology file than this ({topology_hash}): {runs}, generation {generation}"
    )


def _flagged(answer: Mapping[str, Any], outputs: list[Mapping[str, Any]]) -> Iterable[str]:
    """Batches, but for those fenced and voided, which are files."""
    counts: dict[str, list[str]] = {}
    for meter, word in _SETTLED:
        for labels, count in _told(answer, meter):
            if count:
                counts.setdefault(_text(labels, "output"), []).append(f"{count:,} {word}")
    for output in (_text(one, "name") for one in outputs):
        if output in counts:
            yield f"{output}: {', '.join(counts[output])}"


def _conditions(answer: Mapping[str, Any]) -> Iterable[Shown]:
    """What is the matter now, what a person should act on first."""
    now_ms = _number(answer, "now_ms")
    told = _maps(answer, "conditions")
    for one in sorted(told, key=lambda one: one.get("unhealthy") is not True):
        since_s = max(0, now_ms - _number(one, "since_ms")) / 1000
        yield Shown(
            code=_text(one, "code"),
            part=_text(one, "part"),
            text=_text(one, "text"),
            since_s=since_s,
            at_risk=one.get("at_risk") is True,
            doing=_text(one, "doing"),
            todo=_text(one, "todo"),
        )


def show_condition(one: Shown) -> str:
    """`no_peer aggregator: ... (since 3min; no event at risk; keeps ...; to do: ...)`."""
    risk = "EVENTS AT RISK" if one.at_risk else "no event at risk"
    more = [f"since {show_duration(one.since_s)}", risk, one.doing]
    if one.todo:
        more.append(f"to do: {one.todo}")
    return f"{one.code} {one.part}: {one.text} ({'; '.join(filter(None, more))})"


def _last(answer: Mapping[str, Any]) -> str:
    """The last thing that was wrong."""
    last = _map(answer, "last_error")
    if not (text := _text(last, "text")):
        return ""
    ago_s = max(0, _number(answer, "now_ms") - _number(last, "at_ms")) / 1000
    return f"{text} ({show_duration(ago_s)} ago)"


def _told(answer: Mapping[str, Any], meter: Meter) -> list[tuple[Mapping[str, Any], int]]:
    """What it tells of a number: labels and value of each sample."""
    samples = _maps(_map(answer, "meters"), meter.shown)
    return [(_map(one, "labels"), _number(one, "value")) for one in samples]


def _map(answer: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = answer.get(key)
    return value if isinstance(value, dict) else {}


def _maps(answer: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    value = answer.get(key)
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _text(answer: Mapping[str, Any], key: str) -> str:
    value = answer.get(key)
    return printable_text(value) if isinstance(value, str) else ""


def _number(answer: Mapping[str, Any], key: str) -> int:
    value = answer.get(key)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63:
        return value
    return 0


def _seconds(answer: Mapping[str, Any], key: str) -> float:
    value = answer.get(key)
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12:
        return float(value)
    return 0.0
