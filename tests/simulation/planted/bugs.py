"""Bugs on purpose: of a hop, and of a file on its way."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from unittest import mock

from tests.simulation.disk import SimWriter
from tests.simulation.store import Files
from tiers.channel.applying import Applying
from tiers.channel.reader import Reader
from tiers.core.change import Change, Entry
from tiers.core.commit import publication
from tiers.core.commit.calls import CallAnswer
from tiers.core.commit.claims import Outcome, Settlement, Step
from tiers.core.commit.publication import Publication, State
from tiers.core.dedupe import Window
from tiers.core.hop.arriving import Arriving
from tiers.core.hop.holding import Holding
from tiers.core.hop.outbox import Outbox
from tiers.core.hop.peers import Peer, PeerState
from tiers.core.hop.receiver import Receiver
from tiers.core.hop.sender import Sender
from tiers.core.paths import day_name
from tiers.entry.intake import SourceIntake
from tiers.sinks.files.loading import Loaded
from tiers.sinks.files.sink import FileSink
from tiers.sinks.outlet import ChannelOutlet
from tiers.transport.departures import Departures
from tiers.transport.receiving import ReceiverEnd
from tiers.transport.sending import SenderGroup


@dataclass(frozen=True)
class Bug:
    """`patches` are entered for the whole of a run."""

    name: str
    what: str
    patches: Callable[[], list[Any]]
    lives: bool = False  # seen where disks go back, or exist twice
    topology: str = ""  # with which it is seen; empty: any
    reloads: bool = False  # seen where settings change

    @contextlib.contextmanager
    def planted(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for patch in self.patches():
                stack.enter_context(patch)
            yield


def wrapped(owner: Any, name: str, make: Callable[[Any], Any]) -> Any:
    return mock.patch.object(owner, name, make(getattr(owner, name)))


def table(changes: dict[tuple[State, CallAnswer], State]) -> list[Any]:
    return [mock.patch.dict(publication.TABLE, changes)]


def _ack_before_commit() -> list[Any]:
    def make(append: Any) -> Any:
        def early(self: ReceiverEnd, arrived: Any) -> None:
            append(self, arrived)
            self._stored([batch.content for batch in arrived])

        return early

    return [wrapped(ReceiverEnd, "_append", make)]


def _no_dedupe() -> list[Any]:
    def make(put: Any) -> Any:
        return lambda self, one, position: put(self, replace(one, arrived=False), position)

    return [
        wrapped(Applying, "_put", make),
        mock.patch.object(Reader, "seen", lambda self, ids: {}),
    ]


def _delete_before_ack() -> list[Any]:
    def make(send: Any) -> Any:
        def early(self: Departures, sending: Any) -> None:
            send(self, sending)
            self._outlet.release([one.position for one in sending.batches])

        return early

    return [wrapped(Departures, "send", make)]


def _released_as_taken() -> list[Any]:
    def make(take: Any) -> Any:
        async def hasty(self: ChannelOutlet, batches_max: int, *rest: Any) -> Any:
            taken = await take(self, batches_max, *rest)
            self.release([entry.position for entry in taken])
            return taken

        return hasty

    return [wrapped(ChannelOutlet, "take", make)]


def _no_look() -> list[Any]:
    def make(look: Any) -> Any:
        def blind(self: Settlement) -> None:
            if not self.numbers:
                look(self)
                return
            for batch in self._open():
                self.outcomes[batch] = Outcome.MINE
            self.step = Step.ENDED

        return blind

    return [wrapped(Settlement, "_look", make)]


def _no_fence() -> list[Any]:
    return [mock.patch.object(Settlement, "_pending", Settlement._void)]


def _check_before_intent() -> list[Any]:
    return table(
        {
            (State.STAGE, CallAnswer.DONE): State.CHECK_CLAIMS,
            (State.CHECK_CLOSED, CallAnswer.ABSENT): State.INTEND,
            (State.INTEND, CallAnswer.DONE): State.PUBLISH,
        }
    )


def _no_check() -> list[Any]:
    return table({(State.INTEND, CallAnswer.DONE): State.PUBLISH})


def _after_init(owner: Any, then: Callable[[Any], None]) -> list[Any]:
    def make(init: Any) -> Any:
        def changed(self: Any, *args: Any, **named: Any) -> None:
            init(self, *args, **named)
            then(self)

        return changed

    return [wrapped(owner, "__init__", make)]


def _flag_lost_on_restart() -> list[Any]:
    return _after_init(SenderGroup, lambda group: setattr(group, "_flagged_upto", 0))


def _mark_behind() -> list[Any]:
    unmarked = mock.patch.object(Sender, "_want_mark", lambda self, position: None)
    return [*_after_init(Sender, lambda sender: setattr(sender, "_mark", 1 << 40)), unmarked]


def _rename_believed() -> list[Any]:
    def make(answer: Any) -> Any:
        def trusting(self: Publication, what: CallAnswer) -> None:
            lost = self.state is State.PUBLISH and what is CallAnswer.LOST
            answer(self, CallAnswer.DONE if lost else what)

        return trusting

    return [wrapped(Publication, "answer", make)]


def _rotated_unflagged() -> list[Any]:
    def make(requeue: Any) -> Any:
        return lambda self, batches, *, flagged: requeue(self, batches, flagged=False)

    return [wrapped(Outbox, "requeue", make)]


def _positions_apart() -> list[Any]:
    def make(change: Any) -> Any:
        def apart(self: SourceIntake, job: Any) -> Change:
            whole: Change = change(self, job)
            self._channel.submit(Change(records=whole.records))
            return replace(whole, records={})

        return apart

    # One change to a commit, so that the two are two commits.
    return [
        wrapped(SourceIntake, "_change", make),
        mock.patch.object(SimWriter, "_next_group", lambda self: [self._waiting.popleft()]),
    ]


def _local_day() -> list[Any]:
    def make(begin: Any) -> Any:
        def local(self: FileSink, options: Any, context: Any, store: Any) -> None:
            begin(self, options, context, store)
            loading = self._loading
            look_up = loading.look_up

            def today(entries: Sequence[Entry]) -> Loaded:
                loaded, day = look_up(entries), day_name(context.world.now_ms())
                found = [(bucket._replace(day=day), ref, ms) for bucket, ref, ms in loaded.found]
                return loaded._replace(found=found)

            loading.look_up = today  # type: ignore[method-assign]

        return local

    return [wrapped(FileSink, "__init__", make)]


def _restart_asks_nothing() -> list[Any]:
    return [mock.patch.object(Publication, "found", lambda plan: Publication(plan, State.ABANDON))]


def _pending_left() -> list[Any]:
    return table({(State.ASK_TMP, CallAnswer.THERE): State.ABANDON})


def _tmp_taken_as_published() -> list[Any]:
    return table({(State.ASK_TMP, CallAnswer.ABSENT): State.ASK_MANIFEST})


def _session_not_compared() -> list[Any]:
    def make(received: Any) -> Any:
        def lax(self: Receiver, bundle: Any, *rest: Any) -> Any:
            for sender in self.senders.values():
                if sender.channel == bundle.sender:
                    bundle = replace(bundle, session=sender.session)
            return received(self, bundle, *rest)

        return lax

    return [wrapped(Receiver, "received", make)]


def _flag_dropped() -> list[Any]:
    def make(opened: Any) -> Any:
        return lambda self, *args: [replace(one, flagged=False) for one in opened(self, *args)]

    return [wrapped(Receiver, "_opened", make)]


def _answers_too_soon() -> list[Any]:
    def make(answer: Any) -> Any:
        def hasty(self: Receiver, seen: Any) -> None:
            arriving, self._arriving = self._arriving, Arriving()
            answer(self, seen)
            self._arriving = arriving

        return hasty

    return [wrapped(Receiver, "_answer", make)]


def _claim_of_other_taken() -> list[Any]:
    def make(content: Any) -> Any:
        def greedy(self: Settlement, data: bytes | None) -> None:
            if self.step is Step.READ_CLAIM:
                self.step = Step.REPLACE
            else:
                content(self, data)

        return greedy

    return [wrapped(Settlement, "content", make), *_no_check()]


def _release_before_publish() -> list[Any]:
    return table({(State.CHECK_CLOSED, CallAnswer.ABSENT): State.RELEASE})


def _unflagged_in_check() -> list[Any]:
    def make(listed: Any) -> Any:
        def partial(self: Publication, entries: Any) -> None:
            flagged = {
                f"{ref.id.origin.hex()}-{ref.id.seq}" for ref in self.plan.refs if ref.flagged
            }
            listed(self, [one for one in entries if one[0] in flagged])

        return partial

    return [wrapped(Publication, "listed", make)]


def _channel_not_compared() -> list[Any]:
    def welcome_lax(welcome: Any) -> Any:
        def lax(self: Sender, peer: Peer, message: Any, now: float) -> None:
            peer.channel = message.channel
            welcome(self, peer, message, now)

        return lax

    def received_lax(received: Any) -> Any:
        def lax(self: Receiver, bundle: Any, *rest: Any) -> Any:
            return received(self, replace(bundle, receiver=self.me.channel), *rest)

        return lax

    return [
        wrapped(Sender, "_welcome", welcome_lax),
        wrapped(Receiver, "received", received_lax),
    ]


def _credit_ignored() -> list[Any]:
    def boundless(self: Peer) -> int:
        return 1 << 30 if self.state is PeerState.UP and not self.leaving else 0

    return [mock.patch.object(Peer, "room", boundless)]


def _removed_not_voided() -> list[Any]:
    def make(move: Any) -> Any:
        def removing(self: Files, source: str, target: str) -> Any:
            moved = move(self, source, target)
            if "/void/" in target:
                self.files.pop(target, None)
            return moved

        return removing

    return [wrapped(Files, "move", make)]


def _void_asked_first() -> list[Any]:
    swapped = {
        (state, answer): State.ASK_VOID
        for (state, answer), then in publication.TABLE.items()
        if then is State.ASK_TMP
    }
    swapped[State.ASK_VOID, CallAnswer.ABSENT] = State.ASK_TMP
    swapped[State.ASK_TMP, CallAnswer.ABSENT] = State.ASK_MANIFEST
    found = mock.patch.object(Publication, "found", lambda plan: Publication(plan, State.ASK_VOID))
    return [*table(swapped), found]


def _released_at_stored() -> list[Any]:
    return _after_init(Holding, lambda holding: setattr(holding, "_guarantee", "hop"))


def _published_is_what_is_stored() -> list[Any]:
    return [mock.patch.object(Window, "was_passed_on", lambda self, seq: True)]


FIRST: Final = (
    Bug("ack before commit", "a receiver acks before the batch is on disk", _ack_before_commit),
    Bug("no dedupe on disk", "a receiver forgets which ids it stored", _no_dedupe),
    Bug("delete before ack", "a sender lets go when a bundle leaves", _delete_before_ack),
    Bug(
        "released as it is taken",
        "an outlet lets go of what was not delivered",
        _released_as_taken,
    ),
    Bug("no look", "a sink that has a claim looks at no manifests", _no_look),
    Bug("no fence", "a pending file of another sink is taken for void", _no_fence),
    Bug(
        "check before the intent",
        "claims are read before the manifest is there",
        _check_before_intent,
    ),
    Bug("no check", "a file is published without reading the claims anew", _no_check),
    Bug(
        "check of flagged ones only",
        "claims on unflagged batches are not looked at",
        _unflagged_in_check,
    ),
    Bug(
        "flag lost on restart",
        "what was sent before a restart is not flagged",
        _flag_lost_on_restart,
    ),
    Bug("mark behind what was sent", "batches leave before the mark is on disk", _mark_behind),
    Bug(
        "rename's answer believed",
        "a lost answer of the last move counts as done",
        _rename_believed,
    ),
    Bug("peers rotated without a flag", "retries go to another peer as if new", _rotated_unflagged),
    Bug(
        "positions outside the transaction",
        "a source's position is committed before",
        _positions_apart,
    ),
    Bug("day taken from the local clock", "a sink files by its own clock's day", _local_day),
    Bug(
        "restart asks nothing", "planned files are forgotten after a restart", _restart_asks_nothing
    ),
    Bug("pending file left", "a tmp found later is neither voided nor published", _pending_left),
    Bug("void not asked", "no tmp and a manifest counts as published", _tmp_taken_as_published),
    Bug("session not compared", "bundles of old sessions are taken", _session_not_compared),
    Bug("flag dropped on the way", "a receiver stores flagged batches unflagged", _flag_dropped),
    Bug("answers too soon", "unknown is answered of what is on its way to disk", _answers_too_soon),
    Bug(
        "claims of others taken",
        "a claim is replaced at once, without check",
        _claim_of_other_taken,
    ),
    Bug("channel id not compared", "a lost disk is not noticed", _channel_not_compared),
    Bug("credit ignored", "a sender sends more than it may", _credit_ignored),
    Bug("tmp removed, not voided", "a fence leaves no mark", _removed_not_voided),
    Bug("void asked before tmp", "it may be voided in between", _void_asked_first),
    Bug("released at stored", "with `end`, a sender lets go too soon", _released_at_stored),
    Bug(
        "stored told as published",
        "with `end`, a receiver says of all it has that it is published",
        _published_is_what_is_stored,
    ),
    Bug(
        "released before published",
        "a sink lets go once the intent is there",
        _release_before_publish,
    ),
)
