"""One group of changes, applied to one write transaction.

A batch lives as long as an output's queue or a dead letter holds it. When the last lets go, its
record and note are deleted, and if it arrived from a peer its window counts one held less: the
retention of the dedupe window begins with the last that leaves. Its window also remembers when
no output waits for it any more: with `guarantee = "end"` that is news for who has sent it. What is
damaged may then come once more: see again.py.

Another content under an id that is known goes to the dead letters, once: its sender may let go of
it, and nobody takes it for the batch that has the id.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from tiers.channel import refetching
from tiers.channel.accounts import WINDOW_BYTES
from tiers.channel.beginnings import add_outputs, begin_outputs, end_outputs
from tiers.channel.layout import (
    DEAD_KEY,
    QUEUE_KEY,
    STATE,
    Letter,
    QueueItem,
    first_agent,
    guard,
    unguard,
    unpack_letter,
)
from tiers.channel.letters import TWICE_GIVEN, Letters
from tiers.channel.refetching import Again
from tiers.core import dedupe, withheld
from tiers.core.batch import BatchId, sum_of
from tiers.core.change import NO_OUTPUT, Change, Handed, Put
from tiers.core.dedupe import Window


class Applying(Letters):
    """Call `apply` for each change, in order, then `finish`; `state` is then what is true once
    the transaction is on disk, and `passed_on` are the batches that arrived from peers and that no
    output waits for any more."""

    def apply(self, change: Change, positions: Sequence[int]) -> tuple[int, ...]:
        """The positions of the puts; 0 for a put that had arrived before."""
        if change.outputs or change.ends or change.begins:
            place = self._environment, self._txn, self.state
            add_outputs(*place, change.outputs)
            end_outputs(*place, change.ends)
            begin_outputs(*place, change.begins, self._now_ms)
        taken = tuple(
            self._put(put, position) for put, position in zip(change.puts, positions, strict=True)
        )
        for put, position in zip(change.puts, taken, strict=True):
            if put.dead and put.outputs and position:
                self._bury_at_once(put, position)
        for key, value in change.records.items():
            if value is None:
                self._txn.delete(key, db=self._db["records"])
            else:
                self._txn.put(key, guard(key, value), db=self._db["records"])
        for output, position in change.flags:
            self._rewrite(output, position, flagged=True)
        for handed in change.handed:
            self._hand(handed)
        for output, position, reason in change.dead:
            self._bury(output, position, reason)
        for output, position, reason in change.damaged:
            self._bury(output, position, reason, again=self._ask_again)
        for output, position in change.releases:
            item = self._take_from_queue(output, position)
            if item is not None:
                self._let_go(position, item)
        for output, position in change.drops:
            self._drop(output, position)
        for output, batch, more in change.withheld:
            key, known = self._withheld_of(output, batch)
            self._withheld[key] = known.joined(more)
        return taken

    def finish(self) -> None:
        """Writes what was gathered: windows, pieces, what was withheld, and the state."""
        for key, piece in self._pieces.items():
            self._txn.put(key, guard(key, piece), db=self._db["sums"])
        for key, window in self._windows.items():
            value = guard(key, dedupe.encode(window))
            self._txn.put(key, value, db=self._db["seen"])
        for key, known in self._withheld.items():
            value = guard(key, withheld.encode(known))
            self._txn.put(key, value, db=self._db["records"])
        self.state.groups += 1
        self._txn.put(STATE, guard(STATE, self.state.pack()), db=self._db["meta"])

    def _put(self, put: Put, position: int) -> int:
        state = self.state
        state.next_position = position + 1
        if put.letter:
            return self._put_again(put, position)
        if put.arrived:
            key, window = self._window(put.id)
            if put.id.seq in window:
                return self._keep_apart(put, position)
            if window == Window():
                self._move(put.hops[0].agent if put.hops else "", seen=WINDOW_BYTES)
            self._windows[key] = window.stored(put.id.seq)
            self._note_sum(put)
            if (known := self._again_of(put.id)) is not None:
                return self._put_once_more(put, position, known)
        elif put.id.origin == state.origin:
            state.next_seq = max(state.next_seq, put.id.seq + 1)
        if not put.outputs:
            return self._put_unrouted(put, position)
        self._skip(put.skipped, put.id)
        self._put_into(put.outputs, put, position)
        return position

    def _put_into(self, outputs: Iterable[str], put: Put, position: int, **what: Any) -> None:
        """Stored, and in these queues."""
        item = self._store(put, position, **what)
        for output in outputs:
            self._queue(output, position, item)
        self._move(put.hops[0].agent if put.hops else "", queued=item.size)

    def _put_once_more(self, put: Put, position: int, known: Again) -> int:
        """For those outputs that wait for another copy, whatever its route says now."""
        of = [one for one in (*put.outputs, *put.skipped) if one in known.outputs]
        self._keep(put.id, Again([*known.positions, position]))
        if of:
            self._put_into(of, put, position, again=True)
            return position
        # Who wanted it is no longer configured.
        key, window = self._window(put.id)
        self._windows[key] = window.left(self._now_ms)
        self._end_again(put.id)
        return 0

    def _put_unrouted(self, put: Put, position: int) -> int:
        """No output wants it: nobody waits for it from now on."""
        if put.dead:
            self._store_dead(put, position, put.dead)
        else:
            self._skip(put.skipped, put.id)
            if put.arrived:
                key, window = self._window(put.id)
                self._windows[key] = window.left(self._now_ms)
        if put.arrived:
            self._pass_on(put.id)
        return position

    def _keep_apart(self, put: Put, position: int) -> int:
        """A batch whose id is known: to the dead letters where it has another content."""
        sums = dedupe.sums_of(self._piece(put.id)[1], put.id.seq)
        if not sums or sum_of(put.record) in sums:
            return 0
        self._note_sum(put)
        sender, here = (hop.agent for hop in put.hops[-2:]) if len(put.hops) > 1 else ("", "")
        reason = (
            f"{sender} sent another batch under the id {put.id} than the one that {here} knows: "
            f"{TWICE_GIVEN}"
        )
        self._store_dead(put, position, reason, arrived=False)
        self.apart.append(f"kept in the dead letters: {reason}")
        return position

    def _store_dead(self, put: Put, position: int, reason: str, **what: Any) -> None:
        """Stored as a dead letter of its outputs, or of none. It has come, and is kept; without
        room for it no more comes from there."""
        item = self._store(put, position, **what)
        agent, size = first_agent(item.hops), len(put.record)
        full = not self._accounts.may_bury(agent, size, self.moves)
        self._move(agent, dead=size, kept=int(full))
        for output in put.outputs or (NO_OUTPUT,):
            key = DEAD_KEY.pack(position, self.state.id_of(output))
            letter = Letter(output, reason, self._now_ms, item)
            self._txn.put(key, guard(key, letter.pack()), db=self._db["dead"])
            self.state.dead += 1

    def _note_sum(self, put: Put) -> None:
        key, piece = self._piece(put.id)
        self._pieces[key] = dedupe.with_sum(piece, put.id.seq, sum_of(put.record))

    def _rewrite(self, output: str, position: int, **changes: Any) -> None:
        """Change an item that waits, if it still does."""
        item = self._item(output, position)
        if item is not None:
            key = QUEUE_KEY.pack(self.state.outputs[output].id, position)
            value = replace(item, **changes).pack()
            self._txn.put(key, guard(key, value), db=self._db["queue"])

    def _hand(self, handed: Handed) -> None:
        flag = {"flagged": True} if handed.flagged else {}
        self._rewrite(handed.output, handed.position, handed_to=handed.to, **flag)

    def _forget(self, output: str, position: int) -> None:
        """A batch whose record is damaged counts as never seen: who has sent it will be told so,
        and sends it again. The copy that is here counts in no window from now on."""
        item = self._item(output, position)
        if item is None or not (item.arrived or item.again):
            return
        known = self._again_of(item.id) or Again()
        positions = sorted({*known.positions, position})
        self._again = True
        self._keep(item.id, Again(positions, [*known.outputs, output]))
        counted = [at for at in positions if self._uncount(at)]
        key, window = self._window(item.id)
        if item.id.seq in window:
            self._windows[key] = window.forgotten(item.id.seq, held=bool(counted))

    def _uncount(self, position: int) -> bool:
        """The copy at a position counts in no window any more; whether it did."""
        counted = False
        for name, totals in self.state.outputs.items():
            item = self._item(name, position)
            if item is not None:
                counted |= item.arrived
                self._rewrite(name, position, arrived=False, again=True)
            key = DEAD_KEY.pack(position, totals.id)
            stored = self._txn.get(key, db=self._db["dead"])
            if stored is not None:
                letter = unpack_letter(unguard("dead", key, stored))
                counted |= letter.item.arrived
                item = replace(letter.item, arrived=False, again=True)
                value = letter._replace(item=item).pack()
                self._txn.put(key, guard(key, value), db=self._db["dead"])
        return counted

    def _again_of(self, batch: BatchId) -> Again | None:
        key = refetching.key_of(batch)
        stored = self._txn.get(key, db=self._db["records"]) if self._again else None
        return None if stored is None else refetching.unpack(unguard("records", key, stored))

    def _keep(self, batch: BatchId, known: Again) -> None:
        key = refetching.key_of(batch)
        self._txn.put(key, guard(key, known.pack()), db=self._db["records"])

    def _end_again(self, batch: BatchId) -> None:
        """A copy is waited for no more: perhaps none is."""
        known = self._again_of(batch)
        if known is None or known.outputs or any(self._is_queued(at) for at in known.positions):
            return
        self._txn.delete(refetching.key_of(batch), db=self._db["records"])
        self._pass_on(batch)

    def _bury(self, output: str, position: int, reason: str, *, again: bool = False) -> None:
        """To the dead letters, where they have room; else it stays in the queue."""
        item = self._item(output, position)
        if item is None:
            return
        agent = first_agent(item.hops)
        if not self._accounts.may_bury(agent, item.size, self.moves):
            self._move(agent, kept=1)
            return
        if again:
            self._forget(output, position)
        item = self._take_from_queue(output, position)
        assert item is not None, "it was there"
        key = DEAD_KEY.pack(position, self.state.outputs[output].id)
        letter = Letter(output, reason, self._now_ms, item)
        if self._txn.put(key, guard(key, letter.pack()), db=self._db["dead"]):
            self.state.dead += 1
        self._let_go(position, item)

    def _bury_at_once(self, put: Put, position: int) -> None:
        """Where there is no room it is a batch as any other."""
        agent = put.hops[0].agent if put.hops else ""
        if self._accounts.may_bury(agent, len(put.record), self.moves):
            for output in put.outputs:
                self._bury(output, position, put.dead)

    def _let_go(self, position: int, item: QueueItem) -> None:
        """One output has let go of a batch; the last lets it go on its way."""
        if self._is_queued(position):
            return
        if item.again:
            self._end_again(item.id)
        elif item.arrived:
            self._pass_on(item.id)
        agent = first_agent(item.hops)
        if self._is_dead(position):
            self._move(agent, queued=-item.size, dead=item.size)
        else:
            self._move(agent, queued=-item.size)
            self._delete(position, item)

    def _pass_on(self, batch: BatchId) -> None:
        key, window = self._window(batch)
        if batch.seq in window:  # or forgotten, while a copy that does not count was waited for
            self._windows[key] = window.passed_on(batch.seq)
        self.passed_on.append(batch)
