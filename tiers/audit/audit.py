"""Proof of delivery: what was accepted, where it is, and whether any of it was published twice.

Each output that is a store has its own account: of its tier's channels only the queue of that
output counts there, of those upstream only the queues that lead to its tier. A batch that waits
for one store is no excuse for its absence from another.

Agents are asked first, upstream ones before those that they send to (the channel of a stopped one
is read in its turn), and the stores are read last: a batch only ever moves that way, so one that
moves meanwhile is seen twice rather than never. In a store manifests are listed before tmp, and
tmp before void: a file with a manifest that is in neither of the two is published for good.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tiers import sinks
from tiers.audit.holdings import AgentHolding, Queue, holding_of
from tiers.audit.occurrences import Copies
from tiers.audit.published import Double, Shelf, count_files, read_store
from tiers.contracts import Store
from tiers.core import runs
from tiers.core.change import NO_OUTPUT
from tiers.core.commit import store_names
from tiers.core.paths import day_name
from tiers.core.runs import Runs
from tiers.observe.client import ask_all
from tiers.observe.stopped import audit_of_stopped
from tiers.registry import load
from tiers.topology.model import Topology

Reach = Mapping[str, tuple[Path | None, str | None]]


@dataclass(frozen=True, slots=True)
class Orphan:
    """Batches in one agent's channel that wait for an output that the topology no longer has, or
    are its dead letters. They count nowhere: nobody will deliver them."""

    agent: str
    output: str
    queue: Queue


@dataclass(slots=True)
class OriginAccount:
    """What became of all batches of one origin, at one output."""

    origin: str  # hex
    agent: str  # empty: none of those asked
    accepted: int | None  # batches; None: not known
    published: Runs = field(default_factory=list)
    events: int = 0  # in published files, each copy counted
    held: dict[str, Runs] = field(default_factory=dict)  # by agent
    dead: dict[str, Runs] = field(default_factory=dict)  # by agent
    dropped: dict[str, Runs] = field(default_factory=dict)  # by agent: on purpose
    skipped: dict[str, Runs] = field(default_factory=dict)  # by agent: not routed to this output
    gaps: Runs = field(default_factory=list)  # that nothing explains, though all was asked
    unknown: Runs = field(default_factory=list)  # that may be where nobody could be asked
    doubles: list[Double] = field(default_factory=list)
    forgotten: Runs = field(default_factory=list)  # that may be of days whose manifests are gone


@dataclass(slots=True)
class OutputAccount:
    """The account of one output."""

    output: str  # "tier/output"
    shelf: Shelf
    origins: list[OriginAccount] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.shelf.problems and not any(o.gaps or o.doubles for o in self.origins)


@dataclass(slots=True)
class Report:
    """The whole audit."""

    topology: str
    outputs: list[OutputAccount] = field(default_factory=list)
    unproven: dict[str, str] = field(default_factory=dict)  # "tier/output" without a store: why
    orphans: list[Orphan] = field(default_factory=list)
    agents: int = 0  # of the topology
    unasked: dict[str, str] = field(default_factory=dict)  # agent: why
    news: dict[str, str] = field(default_factory=dict)  # agent: what happened to its disk lately

    @property
    def ok(self) -> bool:
        """Nothing is wrong as far as could be asked."""
        return all(output.ok for output in self.outputs)

    @property
    def unknown(self) -> int:
        """Batches of which nobody that could be asked knows; an output counts each."""
        return sum(runs.total(o.unknown) for output in self.outputs for o in output.origins)

    @property
    def proven(self) -> bool:
        """Nothing is wrong, and all were asked."""
        return self.ok and not self.unasked and not self.unknown

    def to_json(self) -> dict[str, Any]:
        return {
            "topology": self.topology,
            "ok": self.ok,
            "proven": self.proven,
            "agents": self.agents,
            "unasked": self.unasked,
            "news": self.news,
            "outputs": [_output_json(output) for output in self.outputs],
            "unproven": self.unproven,
            "orphans": [_orphan_json(orphan) for orphan in self.orphans],
        }


async def audit(topology: Topology, reach: Reach, *, files: bool = False) -> Report:
    """The audit of a topology. `reach` has directory and address of each agent; the channel of one
    that is stopped is read where it is on this machine. `files`: published files are opened, too.
    A store that cannot be read is a problem in its account, not an error."""
    report = Report(topology.name, agents=len(topology.agent_names()))
    holdings: list[AgentHolding] = []
    for name in topology.order():
        tier = topology.tiers[name]
        asked = {agent: reach[agent] for agent in tier.agents if agent in reach}
        for agent, answer in (await ask_all(asked, audit=True)).items():
            directory = reach[agent][0]
            if isinstance(answer, str) and directory is not None:
                answer = await asyncio.to_thread(audit_of_stopped, directory, answer)
            holding = holding_of(agent, tier.name, answer)
            if isinstance(holding, str):
                report.unasked[agent] = holding
            else:
                holdings.append(holding)
    report.news = {holding.agent: holding.news for holding in holdings if holding.news}
    report.orphans = [orphan for holding in holdings for orphan in _orphans(topology, holding)]
    for name in topology.order():
        for options in topology.tiers[name].sinks:
            output = f"{name}/{options.name}"
            if why := options.unproven():
                report.unproven[output] = why
                continue
            shelf = await asyncio.to_thread(_open_and_read, options, files)
            account = OutputAccount(output, shelf)
            counted = counting(topology, name, options.name, holdings)
            reaching = topology.reaching(name)
            silent = [a for a in report.unasked if topology.tier_of(a).name in reaching]
            account.origins = accounts(shelf, counted, all_asked=not silent)
            report.outputs.append(account)
    return report


def counting(
    topology: Topology, tier: str, output: str, holdings: Iterable[AgentHolding]
) -> list[AgentHolding]:
    """What of these belongs in the account of `output`, a sink of `tier`."""
    reaching = topology.reaching(tier)
    found = []
    for holding in holdings:
        outputs = {output}
        if holding.tier != tier:
            # There is one way from tier to tier, so this is one output at most.
            outputs = reaching.intersection(topology.tiers[holding.tier].next)
        if holding.tier in reaching:
            route = topology.tiers[holding.tier].route
            since_ms = holding.since_ms if any(map(route.may_skip, outputs)) else 0
            found.append(replace(holding.towards(outputs), since_ms=since_ms))
    return found


def _orphans(topology: Topology, holding: AgentHolding) -> list[Orphan]:
    known = topology.tiers[holding.tier].outputs
    return [
        Orphan(holding.agent, output, queue)
        for output, queue in holding.outputs.items()
        if output not in (*known, NO_OUTPUT) and (queue.held or queue.dead)
    ]


def _open_and_read(options: Any, files: bool) -> Shelf:
    store: Store = load(sinks.BUILTIN, sinks.GROUP, options.type).open_store(options)
    try:
        shelf = read_store(store)
        if files:
            count_files(store, shelf)
        return shelf
    finally:
        store.close()


# --- accounts ----------------------------------------------------------------------------------


def accounts(
    shelf: Shelf, holdings: Iterable[AgentHolding], *, all_asked: bool = True
) -> list[OriginAccount]:
    """One account per origin that anybody knows of, those of known agents first. Where not all
    agents could be asked, or not all of the store be read, what is missing may be there."""
    holdings = list(holdings)
    known = {origin for holding in holdings for origin in holding.origins()}
    published = {origin.hex() for origin in shelf.copies}
    # An agent that is no origin (it has only passed batches on) has no account.
    busy = {o for holding in holdings for o, own in holding.own.items() if own.last}
    whole = all_asked and not shelf.unread
    found = [
        _origin_account(origin, shelf, holdings, whole=whole)
        for origin in {*published, *known, *busy}
    ]
    worth = [
        account
        for account in found
        if account.published
        or account.held
        or account.dead
        or account.dropped
        or account.skipped
        or account.gaps
        or account.unknown
        or account.forgotten
    ]
    return sorted(worth, key=lambda account: (not account.agent, account.agent, account.origin))


def _origin_account(
    origin: str, shelf: Shelf, holdings: Sequence[AgentHolding], *, whole: bool
) -> OriginAccount:
    # More than one where a machine was cloned with what it had: whoever knows most is right.
    owners = [holding for holding in holdings if origin in holding.own]
    told = [holding.own[origin] for holding in owners]
    accepted = max((own.last for own in told), default=None)
    agents = " and ".join(holding.agent for holding in owners)
    account = OriginAccount(origin, agents, accepted)
    copies = shelf.copies.get(bytes.fromhex(origin), Copies())
    account.published = copies.published()
    account.events = copies.events
    account.doubles = shelf.doubles.get(bytes.fromhex(origin), [])
    for holding in holdings:
        if held := holding.held(origin):
            account.held[holding.agent] = held
        if dead := holding.dead(origin):
            account.dead[holding.agent] = dead
        if dropped := holding.dropped(origin):
            account.dropped[holding.agent] = dropped
        if skipped := holding.skipped(origin):
            account.skipped[holding.agent] = skipped
    kept = (*account.held.values(), *account.dead.values())
    kept += (*account.dropped.values(), *account.skipped.values())
    explained = runs.union(account.published, *kept)
    last = max((end for _, end in explained), default=0)
    if accepted is not None:
        # What its owner accepted after it was asked may be seen anywhere below, or nowhere yet. Of
        # an origin that has ended nothing is: who went back in time knows less than others do.
        going_on = any(origin == holding.present for holding in owners)
        last = account.accepted = accepted if going_on else max(last, accepted)
    begun_ms = min((own.begun_ms for own in told), default=0)
    since_ms = max((holding.since_ms for holding in holdings), default=0)
    for gap in runs.minus([[1, last]] if last else [], explained):
        earliest = shelf.day_of(copies.file_before(gap[0])) or (day_name(begun_ms) if told else "")
        if _may_be_forgotten(gap[1], earliest, copies, shelf):
            account.forgotten.append(gap)
        elif not whole or _may_be_skipped(begun_ms, earliest, since_ms):
            account.unknown.append(gap)
        else:
            account.gaps.append(gap)
    return account


def _may_be_forgotten(last: int, earliest: str, copies: Copies, shelf: Shelf) -> bool:
    """Whether these may have been published on a day whose manifests are gone. An origin's batches
    are numbered in the order in which they were sealed: so these are of no day before that of the
    last one below them that is published, nor after that of the first one above."""
    latest = shelf.day_of(copies.file_after(last)) or "9999"
    return any(earliest <= store_names.generations(day)[0] <= latest for day in shelf.forgotten)


def _may_be_skipped(begun_ms: int, earliest: str, since_ms: int) -> bool:
    """Whether an agent that does not give all to its outputs may have kept these from one before
    its channel began: with its disk that is forgotten."""
    return begun_ms < since_ms and earliest <= day_name(since_ms)


def _orphan_json(orphan: Orphan) -> dict[str, Any]:
    held, dead = orphan.queue.held, orphan.queue.dead
    return {"agent": orphan.agent, "output": orphan.output, "held": held, "dead": dead}


def _output_json(output: OutputAccount) -> dict[str, Any]:
    shelf, origins = output.shelf, output.origins
    return {
        "output": output.output,
        "store": shelf.where,
        "ok": output.ok,
        "files": len(shelf.published),
        "events": sum(origin.events for origin in origins),
        "bytes": sum(one.size_bytes for one in shelf.published),
        "pending": shelf.pending,
        "void": shelf.void,
        "missing_batches": sum(runs.total(origin.gaps) for origin in origins),
        "unknown_batches": sum(runs.total(origin.unknown) for origin in origins),
        "doubled_events": sum(d.events for origin in origins for d in origin.doubles),
        "forgotten_days": sorted(shelf.forgotten),
        "problems": shelf.problems,
        "counted_files": shelf.counted,
        "removed_files": shelf.removed,
        "origins": [
            {
                "origin": origin.origin,
                "agent": origin.agent or None,
                "accepted": origin.accepted,
                "events": origin.events,
                "published": origin.published,
                "held": origin.held,
                "dead": origin.dead,
                "dropped": origin.dropped,
                "skipped": origin.skipped,
                "gaps": origin.gaps,
                "unknown": origin.unknown,
                "doubles": [_double_json(double) for double in origin.doubles],
                "forgotten": origin.forgotten,
            }
            for origin in origins
        ],
    }


def _double_json(double: Double) -> dict[str, Any]:
    return {"seq": double.seq, "events": double.events, "files": list(double.files)}
