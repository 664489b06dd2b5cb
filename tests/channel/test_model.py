"""The channel against a model of plain lists and dicts, with hypothesis."""

import asyncio
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.channel.making import LIMITS, record
from tiers.channel import refetching, withheld
from tiers.channel.channel import Channel
from tiers.channel.checking import value_problems
from tiers.channel.living import ORIGIN
from tiers.core.batch import BatchId, Hop
from tiers.core.change import NO_OUTPUT, Change, Handed, Put
from tiers.core.hop.peers import HandedTo
from tiers.core.runs import Runs

ORIGINS = (b"A" * 16, b"B" * 16)
OUTPUTS = ("one", "two", "three")
KEYS = (b"position/a", b"position/b", b"plan/x", b"mark/\xff\xff")


@dataclass
class Model:
    """What ought to be true, in the plainest words."""

    outputs: list[str] = field(default_factory=lambda: ["one", "two"])
    queues: dict[str, dict[int, tuple[Put, bool]]] = field(default_factory=dict)
    handed: dict[tuple[str, int], HandedTo] = field(default_factory=dict)
    records: dict[bytes, bytes] = field(default_factory=dict)
    dead: list[tuple[int, str, str]] = field(default_factory=list)
    batches: dict[int, Put] = field(default_factory=dict)
    seen: dict[BatchId, bool] = field(default_factory=dict)  # whether it was passed on
    # Of batches with a damaged copy: positions of all copies, and the outputs that want another.
    again: dict[BatchId, tuple[set[int], set[str]]] = field(default_factory=dict)
    skipped: set[tuple[str, BatchId]] = field(default_factory=set)
    dropped: set[tuple[str, BatchId]] = field(default_factory=set)
    next_position: int = 1

    def apply(self, change: Change) -> tuple[int, ...]:
        positions = tuple(self._put(put) for put in change.puts)
        for key, value in change.records.items():
            if value is None:
                self.records.pop(key, None)
            else:
                self.records[key] = value
        for output, position in change.flags:
            queue = self.queues.setdefault(output, {})
            if position in queue:
                queue[position] = (queue[position][0], True)
        for handed in change.handed:
            queue = self.queues.setdefault(handed.output, {})
            if handed.position in queue:
                put, flagged = queue[handed.position]
                queue[handed.position] = (put, flagged or handed.flagged)
                self.handed[handed.output, handed.position] = handed.to
        buried = {(output, position) for output, position, _ in change.dead}
        for output, position, _ in change.damaged:
            put_there = self.queues.setdefault(output, {}).get(position)
            if put_there and put_there[0].arrived and (output, position) not in buried:
                copies, wanting = self.again.setdefault(put_there[0].id, (set(), set()))
                copies.add(position)
                wanting.add(output)
                self.seen.pop(put_there[0].id, None)
        for output, position, reason in (*change.dead, *change.damaged):
            if self.queues.setdefault(output, {}).pop(position, None):
                self.dead.append((position, output, reason))
        for output, position in change.releases:
            self.queues.setdefault(output, {}).pop(position, None)
        for output, position in change.drops:
            if any(one[:2] == (position, output) for one in self.dead):
                of = self.outputs if output == NO_OUTPUT else [output]
                self.dropped |= {(one, self.batches[position].id) for one in of}
            self.dead = [one for one in self.dead if one[:2] != (position, output)]
        queued = {p for queue in self.queues.values() for p in queue}
        for batch, (copies, wanting) in list(self.again.items()):
            if not wanting and not copies & queued:
                del self.again[batch]
                self.seen[batch] = True
        for position, put in self.batches.items():
            if put.arrived and position not in queued and put.id not in self.again:
                self.seen[put.id] = True
        held = queued | {p for p, *_ in self.dead}
        self.batches = {p: put for p, put in self.batches.items() if p in held}
        return positions

    def _put(self, put: Put) -> int:
        position, self.next_position = self.next_position, self.next_position + 1
        if put.letter:
            return self._put_again(put, position)
        if put.arrived:
            if put.id in self.seen:
                return 0
            self.seen[put.id] = False
        outputs = set(put.outputs)
        if put.arrived and put.id in self.again:
            copies, wanting = self.again[put.id]
            outputs = wanting.copy()
            wanting.clear()
            copies.add(position)
            if not outputs:
                return 0
        elif outputs or not put.dead:
            self.skipped |= {(output, put.id) for output in put.skipped}
        if not outputs:
            if put.dead:
                self.batches[position] = put
                self.dead.append((position, NO_OUTPUT, put.dead))
            elif put.arrived:
                self.seen[put.id] = True
            return position
        self.batches[position] = put
        for output in outputs:
            self.queues.setdefault(output, {})[position] = (put, put.flagged)
        return position

    def _put_again(self, put: Put, position: int) -> int:
        there = [one for one in self.dead if one[0] == put.letter and one[1] in put.outputs]
        unrouted = [one for one in self.dead if one[:2] == (put.letter, NO_OUTPUT)]
        self.dead = [one for one in self.dead if one not in (*there, *unrouted)]
        if unrouted:
            there = [(put.letter, output, "") for output in put.outputs]
            self.skipped |= {(one, put.id) for one in self.outputs if one not in put.outputs}
        if not there:
            return 0
        queued = any(put.letter in queue for queue in self.queues.values())
        last = not queued and put.letter not in {at for at, *_ in self.dead}
        arrived = self.batches[put.letter].arrived and last
        self.batches[position] = replace(put, arrived=arrived)
        for _, output, _ in there:
            self.queues.setdefault(output, {})[position] = (self.batches[position], put.flagged)
        return position


places = st.tuples(st.sampled_from(OUTPUTS), st.integers(1, 30))
batches = st.tuples(
    st.sampled_from((b"", *ORIGINS)),  # b"": begins here
    st.sampled_from((1, 2, 3, 4095, 4096, 4097)),
    st.sets(st.sampled_from(OUTPUTS)),
    st.sampled_from(("", "unrouted")),
    st.binary(min_size=1, max_size=9000),
    st.integers(1, 5),
    st.booleans(),
)
changes = st.tuples(
    st.lists(batches, max_size=3),
    st.dictionaries(st.sampled_from(KEYS), st.none() | st.binary(max_size=5000), max_size=3),
    st.lists(places, max_size=2),
    st.lists(st.tuples(places, st.text(max_size=9)), max_size=1),
    st.lists(places, max_size=6),
    st.lists(st.tuples(places, st.sampled_from(("agg-1", "agg-ü")), st.booleans()), max_size=2),
    st.lists(places, max_size=1),
    st.lists(st.tuples(st.sampled_from((*OUTPUTS, NO_OUTPUT)), st.integers(1, 30)), max_size=2),
)
Drawn = tuple[list, dict, list, list, list, list, list, list]  # type: ignore[type-arg]


class ChannelMachine(RuleBasedStateMachine):
    """Random changes, several at once, with stops in between."""

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.directory = Path(tempfile.mkdtemp(prefix="tiers-model-"))
        self.model = Model()
        self.open()
        self.channel_id = self.channel.channel_id

    def open(self) -> None:
        opening = Channel.open(self.directory, replace(LIMITS, ask_again=True), self.model.outputs)
        self.channel = self.loop.run_until_complete(opening)

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.loop.run_until_complete(self.channel.close())
            self.loop.close()
            shutil.rmtree(self.directory)

    def change(self, drawn: Drawn) -> Change:
        puts, records, flags, dead, releases, handed, damaged, drops = drawn
        known = self.model.outputs
        return Change(
            puts=tuple(self.put(*batch) for batch in puts),
            records=records,
            flags=[place for place in flags if place[0] in known],
            dead=[(*place, reason) for place, reason in dead if place[0] in known],
            releases=[place for place in releases if place[0] in known],
            handed=[
                Handed(place[0], place[1], HandedTo(agent, b"C" * 16), flagged)
                for place, agent, flagged in handed
                if place[0] in known
            ],
            damaged=[(*place, "damaged") for place in damaged if place[0] in known],
            drops=[place for place in drops if place[0] in (*known, NO_OUTPUT)],
        )

    def put(
        self, origin: bytes, seq: int, wanted: set[str], dead: str, body: bytes, count: int,
        flag: bool,
    ) -> Put:  # fmt: skip
        outputs = sorted(wanted.intersection(self.model.outputs))
        skipped = [output for output in self.model.outputs if output not in outputs]
        if not origin:
            seq = self.channel.next_seq()
        else:  # whenever it comes, a batch is the same
            body, count = b"of %d\n" % seq, 1 + seq % 5
        whose = origin or self.channel.origin
        hops = (Hop("edge-1", seq), Hop("here", 7))
        sealed = record(whose, seq, body, count)
        note = body[:20]
        return Put(
            *(BatchId(whose, seq), sealed, count, outputs, flag, hops),
            arrived=bool(origin),
            note=note,
            dead="" if outputs else dead,
            skipped=skipped,
        )

    @rule(drawn=st.lists(changes, min_size=1, max_size=4))
    def submit(self, drawn: Sequence[Drawn]) -> None:
        futures, wanted = [], []
        for one in drawn:
            change = self.change(one)
            futures.append(self.channel.submit(change))
            wanted.append(self.model.apply(change))

        async def gather() -> list[tuple[int, ...]]:
            return await asyncio.gather(*futures)

        assert self.loop.run_until_complete(gather()) == wanted

    @precondition(lambda self: self.model.dead)
    @rule(data=st.data())
    def put_again(self, data: st.DataObject) -> None:
        """Some letters, of which a first change may have taken one already."""
        letters = data.draw(st.lists(st.sampled_from(self.model.dead), min_size=1, max_size=3))
        puts = []
        for position, output, _ in letters:
            one = self.model.batches[position]
            drawn = data.draw(st.sets(st.sampled_from(self.model.outputs), min_size=1))
            outputs = sorted({output, *drawn} - {NO_OUTPUT})
            puts.append(
                Put(one.id, one.record, one.count, outputs, True, one.hops, letter=position)
            )
        change = Change(puts=puts)
        future = self.channel.submit(change)
        wanted = self.model.apply(change)
        assert self.loop.run_until_complete(future) == wanted

    @rule()
    def reopen(self) -> None:
        self.loop.run_until_complete(self.channel.close())
        self.open()

    @precondition(lambda self: len(self.model.outputs) == 2)
    @rule()
    def reopen_with_another_output(self) -> None:
        last = {origin: one.last for origin, one in self.channel.origins().items()}
        for batch in self.model.seen:
            last[batch.origin] = max(batch.seq, last.get(batch.origin, 0))
        self.model.skipped |= {
            ("three", BatchId(origin, seq))
            for origin, greatest in last.items()
            for seq in range(1, greatest + 1)
        }
        self.loop.run_until_complete(self.channel.close())
        self.model.outputs.append("three")
        self.open()

    @invariant()
    def channel_equals_model(self) -> None:
        if not hasattr(self, "channel"):
            return
        channel, model = self.channel, self.model
        assert channel.channel_id == self.channel_id
        for output in model.outputs:
            queue = sorted(model.queues.get(output, {}).items())
            entries = channel.entries(output)
            assert [
                (entry.position, entry.flagged, entry.hops, entry.count, entry.size)
                for entry in entries
            ] == [(at, flag, put.hops, put.count, len(put.record)) for at, (put, flag) in queue]
            for entry in entries:
                assert channel.entry(output, entry.position) == entry
                assert entry.handed_to == model.handed.get((output, entry.position))
            if len(entries) > 2:
                middle = entries[1].position
                assert channel.entries(output, after=middle, limit=1) == entries[2:3]
            totals = channel.stats().queues[output]
            assert totals.batches == len(queue)
            assert totals.events == sum(put.count for _, (put, _) in queue)
            assert totals.size_bytes == sum(len(put.record) for _, (put, _) in queue)
            assert totals.oldest_ms == (entries[0].stored_ms if entries else None)
        for position, put in model.batches.items():
            assert channel.record(position) == put.record
            assert channel.envelope(position).id == put.id
            assert channel.note(position) == put.note
        assert channel.stats().batches == len(model.batches)
        assert {refetching.key_of(key) for key in model.again} == channel.records(
            refetching.PREFIX
        ).keys()
        records = channel.records(b"").items()
        own = (refetching.PREFIX, ORIGIN, withheld.PREFIX)
        assert dict(one for one in records if not one[0].startswith(own)) == model.records
        assert channel.records(b"position/") == {
            key: value for key, value in model.records.items() if key.startswith(b"position/")
        }
        every = {BatchId(o, seq) for o in ORIGINS for seq in (1, 2, 3, 4, 4095, 4096, 4097)}
        seen = {key: known.passed_on for key, known in channel.seen(every).items()}
        assert seen == model.seen
        assert [
            (letter.position, letter.output, letter.reason) for letter in channel.dead_letters()
        ] == sorted(model.dead, key=lambda one: (one[0], (NO_OUTPUT, *model.outputs).index(one[1])))
        told = withheld.told_of(channel.records(withheld.PREFIX)).items()
        assert {one for output, each in told for one in of(output, each.skipped)} == model.skipped
        assert {one for output, each in told for one in of(output, each.dropped)} == model.dropped
        assert channel.stats().dead == len(model.dead)
        assert list(value_problems(channel._environment, bodies=True)) == []


def of(output: str, told: dict[bytes, Runs]) -> Iterator[tuple[str, BatchId]]:
    for origin, found in told.items():
        for first, last in found:
            yield from ((output, BatchId(origin, seq)) for seq in range(first, last + 1))


TestChannel = ChannelMachine.TestCase
TestChannel.settings = settings(
    max_examples=40,
    stateful_step_count=15,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
