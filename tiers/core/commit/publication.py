"""How a planned file becomes a published one, exactly once (commit.md). Pure: no store, no clock.

A `Publication` is one planned file on its way. It says what to do now (`call`), is told what came
of that (`answer`), and moves along one table:

    PLAN -> WRITE -> STAGE -> INTEND -> CHECK -> PUBLISH -> RELEASE -> published
              |                  |        |         |
              |                  |        v         |
              |                  |  (VOID) yield    |
              +------------------+------------------+--> ASK_TMP -> ASK_VOID -> ASK_MANIFEST
                                                           |           |              |
                                                           v           v              v
                                                          VOID ----> EMPTY     RELEASE, or none:
                                                                      |               |
                                                                      v               |
                                                            again <- ABANDON <--------+

Three things carry it. Whatever another agent may read arrives by a move. After a lost answer, as
after a restart, nothing is believed: it is asked what became of the file, tmp before void before
manifest, since a file only ever moves that way. And a tmp is never removed, only moved: a call
that is carried out late then finds nothing to move. *Again* means: its batches are as they were,
and go into another file under a new id.

Flagged batches come here claimed (claims.py). The check, after the intent and never before, reads
the claims on the file's batches anew: *write the intent, then read the claims* against
*write the claim, then read the intents* makes one of two sinks see the other, as in Dekker's
algorithm. Where another sink has claimed one, or the day was closed, the file yields: it is
voided, what others claim is parked as flagged, and the rest is planned again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from tiers.core.change import Bad
from tiers.core.commit import store_names
from tiers.core.commit.calls import (
    CallAnswer,
    Exists,
    List,
    Listing,
    MakeParents,
    Move,
    Read,
    Replace,
    StoreCall,
    WriteSmall,
)
from tiers.core.commit.claim import decode_claim
from tiers.core.commit.filing import Ref
from tiers.core.commit.manifest import Item, Manifest, encode
from tiers.core.commit.planned import Plan
from tiers.errors import StoreRefused


class State(Enum):
    """Where a file is. Each state but the last two is one call."""

    PLAN = auto()
    WRITE = auto()
    STAGE = auto()
    INTEND = auto()
    INTEND_PARENT = auto()
    CHECK_CLAIMS = auto()
    CHECK_CLAIM = auto()
    CHECK_CLOSED = auto()
    PUBLISH = auto()
    PUBLISH_PARENT = auto()
    RELEASE = auto()
    ASK_TMP = auto()
    ASK_VOID = auto()
    ASK_MANIFEST = auto()
    VOID = auto()
    VOID_PARENT = auto()
    VOID_OVER = auto()
    STAGE_EMPTY = auto()
    EMPTY = auto()
    ABANDON = auto()
    PUBLISHED = auto()  # an end: the batches are out of the channel
    AGAIN = auto()  # an end: the batches are to be planned anew


# --- calls: exactly one at a time, to the channel (durable when answered) or to the store --------


@dataclass(frozen=True, slots=True)
class KeepPlan:
    """To the channel, in one change: this plan, and the counter of file ids raised to its id."""

    plan: Plan


@dataclass(frozen=True, slots=True)
class Release:
    """To the channel, in one change: let go of all batches, forget the plan."""

    plan: Plan


@dataclass(frozen=True, slots=True)
class Abandon:
    """To the channel, in one change: forget the plan, bad ones go to the dead letters, those that
    others claim are flagged."""

    plan: Plan
    bad: Sequence[Bad] = ()
    flagged: Sequence[int] = ()  # positions


@dataclass(frozen=True, slots=True)
class Write:
    """To the store: all batches of the plan, streamed into `path`."""

    plan: Plan
    path: str


Call = KeepPlan | Release | Abandon | Write | StoreCall

_S, _A = State, CallAnswer
# Every transition. A clear refusal, and a lost answer of a call that says nothing about the file
# (staging, making parents, asking), repeats the state or begins asking anew: see `answer`.
TABLE: Final[dict[tuple[State, CallAnswer], State]] = {
    (_S.PLAN, _A.DONE): _S.WRITE,
    # The PUT and its length are one call: DONE means that tmp is there, whole and durable.
    (_S.WRITE, _A.DONE): _S.STAGE,
    (_S.WRITE, _A.BAD): _S.ASK_TMP,
    (_S.WRITE, _A.LOST): _S.ASK_TMP,
    (_S.WRITE, _A.REFUSED): _S.ASK_TMP,  # a prefix may be there
    # A staged name is drawn anew each time and nobody reads it, so staging again is harmless.
    (_S.STAGE, _A.DONE): _S.INTEND,
    (_S.STAGE, _A.LOST): _S.STAGE,
    (_S.INTEND, _A.DONE): _S.CHECK_CLAIMS,
    (_S.INTEND, _A.NO_PARENT): _S.INTEND_PARENT,
    (_S.INTEND, _A.SOURCE_GONE): _S.ASK_TMP,
    (_S.INTEND, _A.TARGET_THERE): _S.ASK_TMP,
    (_S.INTEND, _A.LOST): _S.ASK_TMP,
    (_S.INTEND_PARENT, _A.DONE): _S.INTEND,
    (_S.INTEND_PARENT, _A.LOST): _S.INTEND_PARENT,
    # Looking again is harmless, as long as it is after the intent. See `listed` and `content`.
    (_S.CHECK_CLAIMS, _A.LOST): _S.CHECK_CLAIMS,
    (_S.CHECK_CLAIM, _A.LOST): _S.CHECK_CLAIM,
    (_S.CHECK_CLOSED, _A.ABSENT): _S.PUBLISH,
    (_S.CHECK_CLOSED, _A.THERE): _S.VOID,
    (_S.CHECK_CLOSED, _A.LOST): _S.CHECK_CLOSED,
    (_S.PUBLISH, _A.DONE): _S.RELEASE,
    (_S.PUBLISH, _A.NO_PARENT): _S.PUBLISH_PARENT,
    (_S.PUBLISH, _A.SOURCE_GONE): _S.ASK_TMP,  # fenced, or published by a call thought lost
    (_S.PUBLISH, _A.TARGET_THERE): _S.ASK_TMP,  # a stranger's file has our name: take another
    (_S.PUBLISH, _A.LOST): _S.ASK_TMP,
    (_S.PUBLISH_PARENT, _A.DONE): _S.PUBLISH,
    (_S.PUBLISH_PARENT, _A.LOST): _S.PUBLISH_PARENT,
    (_S.RELEASE, _A.DONE): _S.PUBLISHED,
    # What became of it: in this order, never another, and from the start after a lost answer.
    (_S.ASK_TMP, _A.THERE): _S.VOID,
    (_S.ASK_TMP, _A.ABSENT): _S.ASK_VOID,
    (_S.ASK_TMP, _A.LOST): _S.ASK_TMP,
    (_S.ASK_VOID, _A.THERE): _S.STAGE_EMPTY,
    (_S.ASK_VOID, _A.ABSENT): _S.ASK_MANIFEST,
    (_S.ASK_VOID, _A.LOST): _S.ASK_TMP,
    (_S.ASK_MANIFEST, _A.THERE): _S.RELEASE,
    (_S.ASK_MANIFEST, _A.ABSENT): _S.ABANDON,
    (_S.ASK_MANIFEST, _A.LOST): _S.ASK_TMP,
    (_S.VOID, _A.DONE): _S.STAGE_EMPTY,
    (_S.VOID, _A.NO_PARENT): _S.VOID_PARENT,
    (_S.VOID, _A.SOURCE_GONE): _S.ASK_TMP,
    # Void and tmp: a PUT was carried out after its tmp had been voided. It must go there, too.
    (_S.VOID, _A.TARGET_THERE): _S.VOID_OVER,
    (_S.VOID, _A.LOST): _S.ASK_TMP,
    (_S.VOID_PARENT, _A.DONE): _S.VOID,
    (_S.VOID_PARENT, _A.LOST): _S.ASK_TMP,
    (_S.VOID_OVER, _A.DONE): _S.STAGE_EMPTY,
    (_S.VOID_OVER, _A.NO_PARENT): _S.VOID_PARENT,
    (_S.VOID_OVER, _A.SOURCE_GONE): _S.ASK_TMP,
    (_S.VOID_OVER, _A.LOST): _S.ASK_TMP,
    # Emptying only saves room: whatever comes of it, the mark stays.
    (_S.STAGE_EMPTY, _A.DONE): _S.EMPTY,
    (_S.STAGE_EMPTY, _A.LOST): _S.ABANDON,
    (_S.STAGE_EMPTY, _A.REFUSED): _S.ABANDON,
    (_S.EMPTY, _A.DONE): _S.ABANDON,
    (_S.EMPTY, _A.SOURCE_GONE): _S.ABANDON,
    (_S.EMPTY, _A.NO_PARENT): _S.ABANDON,
    (_S.EMPTY, _A.LOST): _S.ABANDON,
    (_S.EMPTY, _A.REFUSED): _S.ABANDON,
    (_S.ABANDON, _A.DONE): _S.AGAIN,
}
ENDS: Final = frozenset({State.PUBLISHED, State.AGAIN})
_CHANNEL_STATES: Final = frozenset({State.PLAN, State.RELEASE, State.ABANDON})
# A refusal changed nothing, so these simply ask again (more slowly) until somebody has acted.
# Not so where one claim may not be read: it concerns one batch, see `refused`.
TABLE.update(
    ((state, CallAnswer.REFUSED), state)
    for state in State
    if state not in ENDS | _CHANNEL_STATES | {State.CHECK_CLAIM}
    if (state, CallAnswer.REFUSED) not in TABLE
)


@dataclass(slots=True)
class Publication:
    """One planned file on its way to being published, or to being planned again."""

    plan: Plan
    state: State = State.PLAN
    size_bytes: int = 0  # of the file, once it is written
    bad: list[Bad] = field(default_factory=list)
    yielded: dict[int, str] = field(default_factory=dict)  # position -> who claims it
    stopped: dict[int, str] = field(default_factory=dict)  # position -> why it must wait
    closed: bool = False  # the day was closed meanwhile
    _small: str = ""
    _claims: list[Ref] = field(default_factory=list)  # batches whose claims are to be read

    @classmethod
    def found(cls, plan: Plan) -> "Publication":
        """For a plan found in the channel after a restart."""
        return cls(plan, State.ASK_TMP)

    @property
    def ended(self) -> bool:
        return self.state in ENDS

    def call(self, number: int) -> Call:
        """What to do now. `number` is drawn at random, anew for each call."""
        plan, day, name = self.plan, self.plan.day, self.plan.name
        tmp = store_names.tmp_path(day, name)
        manifest, void = store_names.manifest_path(day, name), store_names.void_path(day, name)
        match self.state:
            case State.PLAN:
                return KeepPlan(plan)
            case State.WRITE:
                return Write(plan, tmp)
            case State.STAGE | State.STAGE_EMPTY:
                self._small = store_names.small_path(day, plan.writer, number)
                return WriteSmall(self._small, self._content())
            case State.INTEND:
                return Move(self._small, manifest)
            case State.INTEND_PARENT:
                return MakeParents(manifest)
            case State.CHECK_CLAIMS:
                return List(store_names.claims_path(day))
            case State.CHECK_CLAIM:
                return Read(store_names.claim_path(day, self._claims[0].id))
            case State.CHECK_CLOSED:
                return Exists(store_names.closed_path(day))
            case State.PUBLISH:
                return Move(tmp, plan.path)
            case State.PUBLISH_PARENT:
                return MakeParents(plan.path)
            case State.RELEASE:
                return Release(plan)
            case State.ASK_TMP:
                return Exists(tmp)
            case State.ASK_VOID:
                return Exists(void)
            case State.ASK_MANIFEST:
                return Exists(manifest)
            case State.VOID:
                return Move(tmp, void)
            case State.VOID_PARENT:
                return MakeParents(void)
            case State.VOID_OVER:
                return Replace(tmp, void)
            case State.EMPTY:
                return Replace(self._small, void)
            case _:
                assert self.state is State.ABANDON, f"{self.state} has no call"
                return Abandon(plan, tuple(self.bad), tuple(self.yielded))

    def answer(self, answer: CallAnswer) -> None:
        """Take what came of the call."""
        assert (self.state, answer) in TABLE, f"{answer} is no answer in {self.state}"
        if self.state is State.CHECK_CLOSED and answer is CallAnswer.THERE:
            self.closed = True
        self.state = TABLE[self.state, answer]

    def refused(self, why: str) -> bool:
        """The store said no. True where a person has to act before this file can go on."""
        if self.state is State.CHECK_CLAIM:
            self.stopped[self._claims.pop(0).position] = why
            self._checked()
            return False
        self.answer(CallAnswer.REFUSED)
        return True

    def listed(self, entries: Listing) -> None:
        """CHECK_CLAIMS: these claims are there; empty where there is no such directory."""
        assert self.state is State.CHECK_CLAIMS, self.state
        names = {name for name, _ in entries}
        for ref in self.plan.refs:
            if store_names.claim_name(ref.id) in names:
                self._claims.append(ref)
            elif ref.flagged:
                self.yielded[ref.position] = "its claim is gone"
        self._checked()

    def content(self, data: bytes | None) -> None:
        """CHECK_CLAIM: what the claim says; None where it is gone."""
        assert self.state is State.CHECK_CLAIM, self.state
        ref = self._claims.pop(0)
        try:
            claim = decode_claim(data, ref.id) if data is not None else None
        except StoreRefused as error:
            self.stopped[ref.position] = f"{store_names.claim_path(self.plan.day, ref.id)}: {error}"
        else:
            mine = (self.plan.sink, self.plan.numbers.get(ref.id))
            if claim is None or (claim.sink, claim.number) != mine:
                holder = claim.sink if claim is not None else "nobody any more"
                self.yielded[ref.position] = f"claimed by {holder}"
        self._checked()

    def _checked(self) -> None:
        if self._claims:
            self.state = State.CHECK_CLAIM
        elif self.yielded or self.stopped:
            self.state = State.VOID
        else:
            self.state = State.CHECK_CLOSED

    def written(self, size_bytes: int) -> None:
        """WRITE is DONE: tmp is there, whole, of this length."""
        self.size_bytes = size_bytes
        self.answer(CallAnswer.DONE)

    def met(self, bad: Sequence[Bad]) -> None:
        """WRITE met these: the file ends here, and is planned again without them."""
        self.bad += bad
        self.answer(CallAnswer.BAD)

    def _content(self) -> bytes:
        if self.state is State.STAGE_EMPTY:
            return b""
        plan = self.plan
        items = [Item(ref.id, ref.events, ref.flagged) for ref in plan.refs]
        return encode(
            Manifest(
                plan.writer,
                plan.file_id,
                plan.day,
                plan.path,
                plan.codec,
                self.size_bytes,
                items,
                plan.format,
            )
        )
