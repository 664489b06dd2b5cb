"""Dead letters that a person does something with.

One that is to be delivered after all goes back to the queue of its output in one change: its batch
gets a new position, since who reads a queue has long been past the old one. One that no output
wanted goes to those that want it by now. One that is dropped leaves a trace, so that an audit does
not take it for a loss (withheld.py).
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from tiers.channel.held import Held
from tiers.channel.layout import (
    DEAD_KEY,
    Letter,
    first_agent,
    unguard,
    unpack_letter,
)
from tiers.contracts import Reading
from tiers.core.change import NO_OUTPUT, LetterHead, Put

TWICE_GIVEN: Final = (
    "two machines gave out the same numbers"  # how the reason of such a letter ends
)


def every_letter(reader: Reading) -> Iterator[LetterHead]:
    """All dead letters, some at a time. From any thread."""
    after = (0, 0)
    while found := reader.letters(after):
        yield from found
        after = found[-1].after


class Letters(Held):
    """What becomes of dead letters, within one transaction."""

    def _put_again(self, put: Put, position: int) -> int:
        """Back to the queues of those outputs that still have it as a dead letter; of one that no
        output wanted, to the queues of all that want it now."""
        unrouted = self._take_letter(NO_OUTPUT, put.letter)
        if unrouted is not None:
            there = dict.fromkeys(put.outputs, unrouted)
        else:
            taken = {output: self._take_letter(output, put.letter) for output in put.outputs}
            there = {output: letter for output, letter in taken.items() if letter is not None}
        if not there:
            return 0
        old = next(iter(there.values())).item
        anew = put.id != old.id
        last = not self._is_here(put.letter)
        # A window counts a batch once: with the last of its letters it goes on being counted.
        item = self._store(
            put,
            position,
            arrived=old.arrived and last and not anew,
            again=old.again and last and not anew,
        )
        for output in there:
            self._queue(output, position, item)
        self._move(first_agent(item.hops), queued=item.size)
        if last:
            self._move(first_agent(old.hops), dead=-old.size)
            self._delete(put.letter, replace(old, arrived=old.arrived and not item.arrived))
        if anew:
            self.state.next_seq = max(self.state.next_seq, put.id.seq + 1)
        if anew or unrouted is not None:
            self._skip((one for one in self.state.outputs if one not in there), put.id)
        return position

    def _drop(self, output: str, position: int) -> None:
        letter = self._take_letter(output, position)
        if letter is None:
            return
        if not letter.reason.endswith(TWICE_GIVEN):  # who has that id is another batch
            of = self.state.outputs if output == NO_OUTPUT else [output]
            self._note_dropped(of, letter.item.id)
        if not self._is_here(position):
            self._move(first_agent(letter.item.hops), dead=-letter.item.size)
            self._delete(position, letter.item)

    def _take_letter(self, output: str, position: int) -> Letter | None:
        """It is a dead letter no more; None where it was none."""
        key = DEAD_KEY.pack(position, self.state.id_of(output))
        stored = self._txn.pop(key, db=self._db["dead"])
        if stored is None:
            return None
        self.state.dead -= 1
        return unpack_letter(unguard("dead", key, stored))

    def _is_here(self, position: int) -> bool:
        return self._is_queued(position) or self._is_dead(position)
