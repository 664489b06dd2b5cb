"""The hop searched as far as CI has time for, and proof that the search sees what is left out."""

import pytest

from tests.search.explorer import Found, search
from tests.search.hop import Hop, World
from tests.simulation.planted import BUGS

LIMIT = 60_000


def planted(name: str, model: Hop) -> Found[World]:
    (bug,) = [bug for bug in BUGS if bug.name == name]
    with bug.planted():
        return search(model, LIMIT, live=False)


def test_two_batches_without_trouble() -> None:
    found = search(Hop(batches=2, troubles=0), LIMIT)
    assert (found.wrong, found.stuck, found.whole) == ("", 0, True), str(found)


def test_one_batch_and_any_one_trouble_at_any_moment() -> None:
    found = search(Hop(batches=1, troubles=1), LIMIT)
    assert (found.wrong, found.stuck, found.whole) == ("", 0, True), str(found)


@pytest.mark.parametrize(
    ("bug", "model"),
    [
        ("peers rotated without a flag", Hop(batches=1, troubles=1)),
        ("flag dropped on the way", Hop(batches=1, troubles=1)),
        ("answers too soon", Hop(batches=1, troubles=1)),
        ("session not compared", Hop(batches=1, troubles=1, prune=False)),
        ("mark behind what was sent", Hop(batches=1, troubles=1)),
        ("channel id not compared", Hop(batches=1, troubles=1, disks=True)),
        ("released at stored", Hop(batches=1, troubles=0, guarantee="end")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_left_out_is_seen(bug: str, model: Hop) -> None:
    found = planted(bug, model)
    print(found)
    assert found.wrong
