"""The commit protocol that ships, where the disk of a sink goes back in time, or is there twice on
a machine that can be told apart: still never twice, never forgotten, and always able to finish.

Here within small bounds; `scripts/search --disk` searches further.
"""

from collections.abc import Callable

import pytest

from tests.search.commit import Search
from tests.search.expecting import holds, is_seen
from tests.search.sink import At, Sink, Sinks
from tiers.core.commit import store_names
from tiers.core.commit.manifest_index import Manifests

Patch = pytest.MonkeyPatch
LIMIT = 100_000  # states; a rule that is left out is seen long before


@pytest.mark.parametrize(
    "world",
    [
        Search((1,), files=2, troubles=1, fault="back"),
        Search((2,), files=2, troubles=1, fault="back"),
        Search((1, 2), files=1, troubles=0, fault="back"),
        Search((1,), files=1, troubles=1, fault="cloned"),
        Search((2,), files=2, troubles=0, fault="cloned"),
    ],
)
def test_a_disk_that_went_back_or_is_there_twice(world: Search) -> None:
    holds(world)


def no_look_for_itself(patch: Patch) -> None:
    patch.setattr(Sinks, "_is_unknown", lambda *_: False)


def renewed_and_not_flagged(patch: Patch) -> None:
    started = Sinks.started

    def unflagged(self: Sinks, name: str, at: At, *, other: bool = False) -> At:
        after = started(self, name, at, other=other)
        return after._replace(sink=after.sink._replace(copy=at.sink.copy))

    patch.setattr(Sinks, "started", unflagged)


def lives_write_under_one_name(patch: Patch) -> None:
    patch.setattr(Sink, "start_name", "")


def files_of_earlier_starts_are_its_own(patch: Patch) -> None:
    def is_own(self: Manifests, name: str) -> bool:
        written = store_names.split_file_name(name)
        return written is not None and written[0].split(".")[0] == self.own.split(".")[0]

    patch.setattr(Manifests, "_is_own", is_own)


@pytest.mark.parametrize(
    ("mutant", "world"),
    [
        (no_look_for_itself, Search((1,), files=2, troubles=0, fault="back")),
        (renewed_and_not_flagged, Search((1,), files=2, troubles=0, fault="back")),
        (lives_write_under_one_name, Search((1, 2), files=2, troubles=0, fault="cloned")),
        (files_of_earlier_starts_are_its_own, Search((1,), files=2, troubles=0, fault="cloned")),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_what_is_left_out_is_seen(
    mutant: Callable[[Patch], None], world: Search, monkeypatch: Patch
) -> None:
    mutant(monkeypatch)
    is_seen(world, LIMIT)
