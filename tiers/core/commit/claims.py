"""Who may publish a flagged batch: step 1 of commit.md. Pure: no store, no clock.

A flagged batch may lie in several sinks. A `Settlement` takes those of one file to be through

    claim each  ->  look: list manifests, read new ones, ask what became of their files  ->  ended
      (other's: parked)                                (pending: fence; published: drop)

and, for batches that were parked before, first looks without a fence, then takes over claims that
are older than `takeover_ms`, and then looks again. It says what to do now (`call`), is told what
came of it (`answer`, `listed`, `content`, `clock`), and ends with an outcome for each batch.

A claim carries a number drawn anew. *Mine* is only one whose move was answered; after a lost
answer the number is given up, since its twin may still land, and the next one replaces it. The
numbers go into the file's plan, and its check (core/commit/publication.py) compares them.

What the store says is outside data. Where a claim or a manifest cannot be read, nothing may be
concluded: the batches that it may concern are stopped, and nothing is moved.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from tiers.core.batch import BatchId
from tiers.core.commit import store_names
from tiers.core.commit.calls import (
    CallAnswer,
    Exists,
    List,
    Listing,
    MakeParents,
    Move,
    Read,
    ReadClock,
    Replace,
    StoreCall,
    WriteSmall,
)
from tiers.core.commit.claim import Claim, decode_claim, encode_claim
from tiers.core.commit.manifest_index import File, Manifests
from tiers.errors import StoreRefused

# Batches to a settlement. Each takes two store calls one after the other, and none is published
# before the last is claimed: with more of them the first claims would grow old, and other sinks
# take them over.
CLAIMS_MAX: Final = 256


class Outcome(Enum):
    """What is to become of a batch here."""

    MINE = auto()  # publish it, under the claim's number
    PARKED = auto()  # another sink holds the claim: wait, and look again
    PUBLISHED = auto()  # it is in another sink's published file: let go of this copy
    STOPPED = auto()  # a claim or manifest cannot be read: somebody has to look at it


class Step(Enum):
    """Where a settlement is. Each but the last is one call."""

    STAGE = auto()
    CLAIM = auto()
    CLAIM_PARENT = auto()
    READ_CLAIM = auto()
    REPLACE = auto()
    LIST = auto()
    READ = auto()
    ASK_TMP = auto()
    ASK_VOID = auto()
    ASK_MANIFEST = auto()
    FENCE = auto()
    FENCE_PARENT = auto()
    FENCE_OVER = auto()
    CLOCK = auto()
    AGES = auto()
    ENDED = auto()


# Steps that a lost answer leaves where they are: they change nothing that anybody reads.
_REPEATED: Final = frozenset(
    {
        Step.CLAIM_PARENT,
        Step.READ_CLAIM,
        Step.LIST,
        Step.READ,
        Step.ASK_TMP,
        Step.FENCE_PARENT,
        Step.CLOCK,
        Step.AGES,
    }
)
# Every answer that is the same whatever batch or file it is about.
_PLAIN: Final[dict[tuple[Step, CallAnswer], Step]] = {
    (Step.STAGE, CallAnswer.LOST): Step.STAGE,
    (Step.CLAIM, CallAnswer.NO_PARENT): Step.CLAIM_PARENT,
    (Step.CLAIM, CallAnswer.SOURCE_GONE): Step.STAGE,
    (Step.CLAIM, CallAnswer.TARGET_THERE): Step.READ_CLAIM,
    (Step.CLAIM, CallAnswer.LOST): Step.STAGE,
    (Step.CLAIM_PARENT, CallAnswer.DONE): Step.CLAIM,
    (Step.REPLACE, CallAnswer.NO_PARENT): Step.CLAIM_PARENT,
    (Step.REPLACE, CallAnswer.SOURCE_GONE): Step.STAGE,
    (Step.REPLACE, CallAnswer.LOST): Step.STAGE,
    (Step.ASK_TMP, CallAnswer.ABSENT): Step.ASK_VOID,
    (Step.ASK_VOID, CallAnswer.ABSENT): Step.ASK_MANIFEST,
    (Step.ASK_VOID, CallAnswer.LOST): Step.ASK_TMP,
    (Step.ASK_MANIFEST, CallAnswer.LOST): Step.ASK_TMP,
    (Step.FENCE, CallAnswer.NO_PARENT): Step.FENCE_PARENT,
    (Step.FENCE, CallAnswer.SOURCE_GONE): Step.ASK_TMP,
    (Step.FENCE, CallAnswer.TARGET_THERE): Step.FENCE_OVER,
    (Step.FENCE, CallAnswer.LOST): Step.ASK_TMP,
    (Step.FENCE_PARENT, CallAnswer.DONE): Step.FENCE,
    (Step.FENCE_OVER, CallAnswer.NO_PARENT): Step.FENCE_PARENT,
    (Step.FENCE_OVER, CallAnswer.SOURCE_GONE): Step.ASK_TMP,
    (Step.FENCE_OVER, CallAnswer.LOST): Step.ASK_TMP,
}
_PLAIN.update(((step, CallAnswer.LOST), step) for step in _REPEATED)


@dataclass(slots=True)
class Settlement:
    """Step 1 for flagged batches of one day (with its generation) and one file to be."""

    sink: str
    day: str
    batches: Sequence[BatchId]
    manifests: Manifests  # what the sink has read so far, kept from one settlement to the next
    takeover_ms: int
    waited: bool = False  # these were parked before: look first, claim only what is old
    step: Step = Step.STAGE
    outcomes: dict[BatchId, Outcome] = field(default_factory=dict)
    numbers: dict[BatchId, int] = field(default_factory=dict)  # of claims that are mine
    why: dict[BatchId, str] = field(default_factory=dict)  # of those parked or stopped
    fenced: list[File] = field(default_factory=list)
    taken_over: list[BatchId] = field(default_factory=list)
    _claiming: list[BatchId] = field(default_factory=list)
    _gone: set[BatchId] = field(default_factory=set)  # whose claims were there, and then not
    _listing: list[str] = field(default_factory=list)
    _reading: list[File] = field(default_factory=list)
    _asking: list[File] = field(default_factory=list)
    _number: int = 0
    _now_ms: int = 0

    def __post_init__(self) -> None:
        assert 0 < len(self.batches) <= CLAIMS_MAX, len(self.batches)
        if self.waited:
            self._look()
        else:
            self._claiming = list(self.batches)

    @property
    def ended(self) -> bool:
        return self.step is Step.ENDED

    def call(self, number: int) -> StoreCall:
        """What to do now. `number` (64 bits) is drawn at random, anew for each call."""
        match self.step:
            case Step.STAGE:
                self._number = number
                claim = Claim(self.sink, self._claiming[0], number)
                return WriteSmall(self._small(), encode_claim(claim))
            case Step.CLAIM:
                return Move(self._small(), self._claim())
            case Step.REPLACE:
                return Replace(self._small(), self._claim())
            case Step.CLAIM_PARENT:
                return MakeParents(self._claim())
            case Step.READ_CLAIM:
                return Read(self._claim())
            case Step.LIST:
                return List(store_names.manifests_path(self._listing[0]))
            case Step.READ:
                return Read(self._reading[0].manifest)
            case Step.CLOCK:
                return ReadClock()
            case Step.AGES:
                return List(store_names.claims_path(self.day))
            case _:
                return self._call_about_file()

    def _call_about_file(self) -> StoreCall:
        file = self._asking[0]
        match self.step:
            case Step.ASK_TMP:
                return Exists(file.tmp)
            case Step.ASK_VOID:
                return Exists(file.void)
            case Step.ASK_MANIFEST:
                return Exists(file.manifest)
            case Step.FENCE:
                return Move(file.tmp, file.void)
            case Step.FENCE_OVER:
                return Replace(file.tmp, file.void)
            case _:
                assert self.step is Step.FENCE_PARENT, f"{self.step} has no call"
                return MakeParents(file.void)

    def lost(self) -> None:
        """The call was not answered: the deed may have been done, or may yet be."""
        self.answer(CallAnswer.LOST)

    def refused(self, why: str) -> bool:
        """The store said no, and nothing was changed. True where the same is to be called again,
        more slowly, until somebody has acted. False where it was about one claim or one file: what
        that may concern is stopped, and the rest goes on."""
        match self.step:
            case Step.READ:
                self.manifests.unreadable[self._reading.pop(0)] = why
                self._read_on()
            case Step.READ_CLAIM | Step.REPLACE:
                self._settle(self._claiming.pop(0), Outcome.STOPPED, why)
                self._next_claim()
            case Step.STAGE | Step.CLAIM | Step.CLAIM_PARENT | Step.LIST | Step.CLOCK | Step.AGES:
                return True
            case _:
                self._stop(self._asking.pop(0), why)
        return False

    def answer(self, answer: CallAnswer) -> None:
        """Take what came of a call that changes or asks; LOST of any call."""
        if (self.step, answer) in _PLAIN:
            self.step = _PLAIN[self.step, answer]
            return
        match self.step, answer:
            case Step.STAGE, CallAnswer.DONE:
                self.step = Step.REPLACE if self.waited else Step.CLAIM
            case ((Step.CLAIM | Step.REPLACE), CallAnswer.DONE):
                self._claimed()
            case Step.ASK_TMP, CallAnswer.THERE:
                self._pending()
            case Step.ASK_VOID, CallAnswer.THERE:
                self._void()
            case Step.ASK_MANIFEST, CallAnswer.THERE:
                self._published()
            case Step.ASK_MANIFEST, CallAnswer.ABSENT:  # it was removed meanwhile, with its day
                self._asking.pop(0)
                self._ask_on()
            case _:
                assert self.step in (Step.FENCE, Step.FENCE_OVER) and answer is CallAnswer.DONE
                self.fenced.append(self._asking[0])
                self._void()

    # -- claims ----------------------------------------------------------------------------

    def _small(self) -> str:
        return store_names.small_path(self.day, self.sink, self._number)

    def _claim(self) -> str:
        return store_names.claim_path(self.day, self._claiming[0])

    def _claimed(self) -> None:
        batch = self._claiming.pop(0)
        self.numbers[batch] = self._number
        if self.waited:
            self.taken_over.append(batch)
        self._next_claim()

    def _next_claim(self) -> None:
        if self._claiming:
            self.step = Step.STAGE
        elif self.numbers:
            self._look()
        else:
            self.step = Step.ENDED

    def content(self, data: bytes | None) -> None:
        """Take what was read; None where there is no such file."""
        if self.step is Step.READ:
            self.manifests.read(self._reading.pop(0), data)
            self._read_on()
            return
        assert self.step is Step.READ_CLAIM, self.step
        batch = self._claiming[0]
        if data is None:  # it went away with its day, or was taken away by hand
            self._vanished(batch)
            return
        try:
            holder = decode_claim(data, batch).sink
        except StoreRefused as error:
            self._settle(batch, Outcome.STOPPED, f"{self._claim()}: {error}")
        else:
            if holder == self.sink:
                self.step = Step.REPLACE  # one from before a restart or a lost answer
                return
            self._settle(batch, Outcome.PARKED, f"claimed by {holder}")
        del self._claiming[0]
        self._next_claim()

    def _vanished(self, batch: BatchId) -> None:
        """Something is in the claim's place, and no file: once may be chance."""
        if batch not in self._gone:
            self._gone.add(batch)
            self.step = Step.CLAIM
            return
        self._settle(batch, Outcome.STOPPED, f"{self._claim()}: it is there, and is no file")
        del self._claiming[0]
        self._next_claim()

    def clock(self, now_ms: int) -> None:
        """Take the store's time."""
        self._now_ms = now_ms
        self.step = Step.AGES

    def _old_ones(self, claims: Listing) -> None:
        """Of the parked, those whose claim is old enough (or gone) may be taken over. One that is
        as far in the future will not get older: the clock was put right since."""
        ages = {name: abs(self._now_ms - modified_ms) for name, modified_ms in claims}
        for batch in self._open():
            if ages.get(store_names.claim_name(batch), self.takeover_ms) >= self.takeover_ms:
                self._claiming.append(batch)
            else:
                self._settle(batch, Outcome.PARKED, "its claim is not old enough to take over")
        self._next_claim()

    # -- the look --------------------------------------------------------------------------

    def _look(self) -> None:
        """By a listing that begins now, after the last claim; closed generations as well."""
        self._listing = store_names.generations(self.day)
        self.step = Step.LIST

    def listed(self, entries: Listing) -> None:
        """Take a directory's entries; empty where there is no such directory."""
        if self.step is Step.AGES:
            self._old_ones(entries)
            return
        assert self.step is Step.LIST, self.step
        day = self._listing.pop(0)
        self._reading += self.manifests.unread(day, [name for name, _ in entries])
        self._read_on()

    def _read_on(self) -> None:
        if self._listing:
            self.step = Step.LIST
        elif self._reading:
            self.step = Step.READ
        else:
            days = store_names.generations(self.day)
            files = self.manifests.holding(self._open(), days)
            self._asking = [*self.manifests.in_the_way(days), *files]
            self._ask_on()

    def _open(self) -> list[BatchId]:
        return [batch for batch in self.batches if batch not in self.outcomes]

    def _ask_on(self) -> None:
        while self._asking and self._asking[0] in self.manifests.published:
            self._drop(self._asking.pop(0))
        if self._asking and self._open():
            self.step = Step.ASK_TMP
        elif not self.numbers and self._open():
            self.step = Step.CLOCK  # the first look at parked ones is over
        else:
            for batch in self._open():
                self.outcomes[batch] = Outcome.MINE
            self.step = Step.ENDED

    def _pending(self) -> None:
        file = self._asking[0]
        if file in self.manifests.unreadable:
            self._stop(file, self.manifests.unreadable[file])
        elif self.numbers:
            self.step = Step.FENCE
        else:
            self._asking.pop(0)
            self._ask_on()

    def _void(self) -> None:
        self.manifests.voided(self._asking.pop(0))
        self._ask_on()

    def _published(self) -> None:
        file = self._asking[0]
        if file in self.manifests.unreadable:
            self._stop(file, self.manifests.unreadable[file])
            return
        self.manifests.published.add(file)
        self._ask_on()

    def _drop(self, file: File) -> None:
        for batch in self._open():
            if self.manifests.has(file, batch):
                self._settle(batch, Outcome.PUBLISHED, file.name)

    def _stop(self, file: File, why: str) -> None:
        """What became of a file cannot be told; if its manifest cannot be read, it may have any of
        the batches, or none."""
        for batch in self._open():
            if file in self.manifests.unreadable or self.manifests.has(file, batch):
                self._settle(batch, Outcome.STOPPED, why)
        self._ask_on()

    def _settle(self, batch: BatchId, outcome: Outcome, why: str) -> None:
        self.outcomes[batch] = outcome
        self.why[batch] = why
        self.numbers.pop(batch, None)
