"""The commit protocol that ships, searched: never twice, never forgotten, always able to finish.

Here within small bounds; `scripts/search` searches further. Every rule that commit.md calls
necessary is left out once, and the search finds what it was for.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.search.commit import Search
from tests.search.expecting import holds, is_seen
from tests.search.explorer import search
from tests.search.stored import Late, Store
from tests.simulation.planted import BUGS
from tiers.core.commit import claims, publication
from tiers.core.commit.calls import CallAnswer
from tiers.core.commit.claim import Claim, decode_claim
from tiers.core.commit.claims import Settlement, Step
from tiers.core.commit.publication import TABLE, Publication, State

LIMIT = 250_000  # states; a rule that is left out is seen long before


@pytest.mark.parametrize("copies", [(1,), (2,)])
def test_one_sink_alone(copies: tuple[int, ...]) -> None:
    holds(Search(copies, files=3, troubles=3, closes=True))


def test_three_sinks_with_a_copy_each() -> None:
    found = holds(Search((1, 2, 2), files=1, troubles=0))
    assert found.states > 300_000


def test_two_sinks_with_a_copy_each() -> None:
    found = holds(Search((1, 2), files=2, troubles=1))
    assert found.states > 30_000


Patch = pytest.MonkeyPatch


def no_look(patch: Patch) -> None:
    def skip(self: Settlement) -> None:
        self._listing, self._reading, self._asking = [], [], []
        self._ask_on()

    patch.setattr(Settlement, "_look", skip)


def no_fence(patch: Patch) -> None:
    def skip(self: Settlement) -> None:
        self._asking.pop(0)
        self._ask_on()

    patch.setattr(Settlement, "_pending", skip)


def no_check(patch: Patch) -> None:
    patch.setitem(TABLE, (State.INTEND, CallAnswer.DONE), State.PUBLISH)


def check_before_the_intent(patch: Patch) -> None:
    patch.setitem(TABLE, (State.WRITE, CallAnswer.DONE), State.CHECK_CLAIMS)
    patch.setitem(TABLE, (State.CHECK_CLOSED, CallAnswer.ABSENT), State.STAGE)
    patch.setitem(TABLE, (State.INTEND, CallAnswer.DONE), State.PUBLISH)


def flagged_and_not_claimed(patch: Patch) -> None:
    def take(self: Settlement) -> None:
        self.numbers = dict.fromkeys(self.batches, 0)
        self._claiming = []
        self._look()

    patch.setattr(Settlement, "__post_init__", take)
    patch.setattr(Publication, "_checked", _unchecked)


def _unchecked(self: Publication) -> None:
    self._claims, self.yielded = [], {}
    self.state = State.CHECK_CLOSED


def a_claims_number_is_not_compared(patch: Patch) -> None:
    decode = decode_claim

    def same(data: bytes, batch: object) -> Claim:
        claim = decode(data, batch)  # type: ignore[arg-type]
        return Claim(claim.sink, claim.batch, 1)

    call = Settlement.call
    patch.setattr(Settlement, "call", lambda self, number: call(self, 1))
    patch.setattr(claims, "decode_claim", same)
    patch.setattr(publication, "decode_claim", same)
    patch.setitem(claims._PLAIN, (Step.CLAIM, CallAnswer.TARGET_THERE), Step.READ_CLAIM)
    content = Settlement.content

    def believe(self: Settlement, data: bytes | None) -> None:
        content(self, data)
        if self.step is Step.REPLACE and not self.waited:
            self.answer(CallAnswer.DONE)  # an older one of my own counts as mine

    patch.setattr(Settlement, "content", believe)


def void_asked_before_tmp(patch: Patch) -> None:
    asks = (State.ASK_TMP, State.ASK_VOID, State.ASK_MANIFEST)
    for (state, answer), after in list(TABLE.items()):
        if after is State.ASK_TMP and state not in asks:
            patch.setitem(TABLE, (state, answer), State.ASK_VOID)
    patch.setitem(TABLE, (State.ASK_VOID, CallAnswer.ABSENT), State.ASK_TMP)
    patch.setitem(TABLE, (State.ASK_TMP, CallAnswer.ABSENT), State.ASK_MANIFEST)
    patch.setattr(Publication, "found", lambda plan: Publication(plan, State.ASK_VOID))


def a_closed_day_is_ignored(patch: Patch) -> None:
    patch.setitem(TABLE, (State.CHECK_CLOSED, CallAnswer.THERE), State.PUBLISH)


def a_rename_is_believed(patch: Patch) -> None:
    patch.setitem(TABLE, (State.PUBLISH, CallAnswer.SOURCE_GONE), State.RELEASE)


def a_lost_rename_is_disbelieved(patch: Patch) -> None:
    patch.setitem(TABLE, (State.PUBLISH, CallAnswer.LOST), State.ABANDON)


def a_tmp_is_removed_not_voided(patch: Patch) -> None:
    after = Store.after

    def removing(self: Store, deed: Late) -> Store:
        done = after(self, deed)
        if deed.kind != "move" or "/void/" not in deed.target:
            return done
        return done._replace(files=tuple(one for one in done.files if one[0] != deed.target))

    patch.setattr(Store, "after", removing)


MUTANTS: list[tuple[Callable[[Patch], None], Search]] = [
    (no_look, Search((1, 2), files=2, troubles=0)),
    (no_fence, Search((1, 2), files=2, troubles=0)),
    (no_check, Search((1, 2), files=2, troubles=0)),
    (check_before_the_intent, Search((1, 2), files=2, troubles=0)),
    (flagged_and_not_claimed, Search((2, 2), files=2, troubles=0)),
    (a_claims_number_is_not_compared, Search((2, 2), files=2, troubles=2)),
    (void_asked_before_tmp, Search((1, 2), files=2, troubles=1, dies=True)),
    (a_closed_day_is_ignored, Search((1, 2), files=2, troubles=0, closes=True)),
    (a_rename_is_believed, Search((1, 2), files=2, troubles=0, dies=True)),
    (a_lost_rename_is_disbelieved, Search((1,), files=2, troubles=1)),
    (a_tmp_is_removed_not_voided, Search((1, 2), files=2, troubles=0)),
]
# Of the simulator's bugs those that are none of the above.
PLANTED = [
    ("check of flagged ones only", Search((1, 2), files=2, troubles=0)),
    ("claims of others taken", Search((1, 2), files=2, troubles=0)),
    ("released before published", Search((1, 2), files=2, troubles=0)),
    ("rename's answer believed", Search((1,), files=2, troubles=1)),
    ("restart asks nothing", Search((1,), files=2, troubles=1)),
    ("pending file left", Search((1,), files=2, troubles=1)),
    ("void not asked", Search((1, 2), files=2, troubles=0, dies=True)),
]


@pytest.mark.parametrize(("mutant", "world"), MUTANTS, ids=lambda one: getattr(one, "__name__", ""))
def test_what_is_left_out_is_seen(
    mutant: Callable[[Patch], None], world: Search, monkeypatch: Patch
) -> None:
    mutant(monkeypatch)
    is_seen(world, LIMIT)


@pytest.mark.parametrize(("name", "world"), PLANTED)
def test_what_the_simulator_sees_is_seen(name: str, world: Search) -> None:
    (bug,) = [bug for bug in BUGS if bug.name == name]
    with bug.planted():
        is_seen(world, LIMIT)


def test_the_worlds_of_the_mutants_hold_without_them() -> None:
    """So that what is seen above is the mutant."""
    for world in {repr(world): world for _, world in [*MUTANTS, *PLANTED]}.values():
        found = search(replace(world), limit=40_000, live=False)
        assert not found.wrong, found
