"""A search of all that a sink and a store can do with one file after the other.

The search drives the code that ships. It takes one batch through up to three file ids, with a
crash at every step, answers lost before and after the deed, and calls carried out at any time
after their caller believed them lost, and another sink that fences any file that it can see.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import pytest

from tests.core.test_commit import REFS, plan
from tiers.core.commit.calls import CallAnswer
from tiers.core.commit.publication import ENDS, TABLE, Publication, State

IDS = 3


class World(NamedTuple):
    """One batch. `places` has a set of marks per file id: t(mp), p(artial tmp), v(oid),
    m(anifest), f(inal), F(inal of a partial tmp). `late` are calls that may yet be carried out."""

    state: State | None  # of the publication; None: nothing is planned
    file_id: int  # of the publication, and the counter in memory
    planned: int  # file id of the plan in the channel; 0: none
    counter: int  # in the channel
    held: bool  # the batch is in the channel
    places: tuple[frozenset[str], ...]
    late: frozenset[tuple[str, int]]


START = World(None, 0, 0, 0, True, (frozenset(),) * (IDS + 1), frozenset())


def moved(
    here: frozenset[str], source: str, targets: dict[str, str], over: bool = False
) -> frozenset[str]:
    """`here` after a move of `source` (t, or p with it) to where `targets` says."""
    for mark in source:
        if mark in here and (over or targets[mark] not in here):
            return (here - {mark}) | {targets[mark]}
    return here


def carry_out(world: World, deed: str, file_id: int) -> World:
    """The store does what a call of any time asks it to do."""
    here = world.places[file_id]
    if deed == "write":
        here = (here - {"p"}) | {"t"}
    elif deed == "partial":
        here = (here - {"t"}) | {"p"}
    elif deed == "intend":
        here = here | {"m"}
    elif deed == "publish":
        here = here if here & {"f", "F"} else moved(here, "tp", {"t": "f", "p": "F"})
    elif deed == "void":
        here = moved(here, "tp", {"t": "v", "p": "v"})
    elif deed == "void over":
        here = moved(here, "tp", {"t": "v", "p": "v"}, over=True)
    else:
        raise AssertionError(deed)
    places = list(world.places)
    places[file_id] = here
    return world._replace(places=tuple(places))


DEEDS = {
    State.WRITE: "write",
    State.INTEND: "intend",
    State.PUBLISH: "publish",
    State.VOID: "void",
    State.VOID_OVER: "void over",
}
ASKED = {State.ASK_TMP: "tp", State.ASK_VOID: "v", State.ASK_MANIFEST: "m"}


def truth(world: World, state: State) -> CallAnswer:
    """What the store answers when it carries out the call of `state`."""
    here = world.places[world.file_id]
    if state in ASKED:
        return CallAnswer.THERE if here & set(ASKED[state]) else CallAnswer.ABSENT
    if state is State.CHECK_CLOSED:
        return CallAnswer.ABSENT
    if state in (State.PUBLISH, State.VOID, State.VOID_OVER):
        if not here & {"t", "p"}:
            return CallAnswer.SOURCE_GONE
        if state is State.VOID and "v" in here:
            return CallAnswer.TARGET_THERE
    if state is State.INTEND and "m" in here:
        return CallAnswer.TARGET_THERE
    return CallAnswer.DONE


def told(world: World, answer: CallAnswer) -> World:
    """The publication is told; what it then holds is the world's new state."""
    assert world.state is not None
    publication = Publication(replace(plan(world.file_id), refs=REFS[:1]), world.state)
    publication.call(1)
    if world.state is State.CHECK_CLAIMS and answer is CallAnswer.DONE:
        publication.listed(())
    else:
        publication.answer(answer)
    if publication.state in ENDS:
        return world._replace(state=None)
    return world._replace(state=publication.state)


def crashed(world: World) -> World:
    if world.planned:
        return world._replace(state=State.ASK_TMP, file_id=world.planned)
    return world._replace(state=None, file_id=world.counter)


def steps(world: World) -> Iterator[tuple[str, World]]:
    for deed, file_id in world.late:
        later = world._replace(late=world.late - {(deed, file_id)})
        yield f"LATE {deed} {file_id}", carry_out(later, deed, file_id)
    for file_id, here in enumerate(world.places):
        if {"t", "m"} <= here:
            yield f"fence {file_id}", carry_out(world, "void", file_id)
    state, file_id = world.state, world.file_id
    if state is None:
        if world.held and file_id < IDS:
            yield "plan", world._replace(state=State.PLAN, file_id=file_id + 1)
        return
    yield "crash", crashed(world)
    if state is State.PLAN:
        kept = world._replace(planned=file_id, counter=file_id)
        yield "kept", told(kept, CallAnswer.DONE)
        yield "crash, kept", crashed(kept)
    elif state is State.RELEASE:
        released = world._replace(planned=0, held=False)
        yield "released", told(released, CallAnswer.DONE)
        yield "crash, released", crashed(released)
    elif state is State.ABANDON:
        forgot = world._replace(planned=0)
        yield "abandoned", told(forgot, CallAnswer.DONE)
        yield "crash, abandoned", crashed(forgot)
    else:
        yield from store_steps(world, state, file_id)


def store_steps(world: World, state: State, file_id: int) -> Iterator[tuple[str, World]]:
    name, deed = state.name.lower(), DEEDS.get(state)
    answer = truth(world, state)
    done = carry_out(world, deed, file_id) if deed and answer is CallAnswer.DONE else world
    yield f"{name}: {answer.name}", told(done, answer)
    yield f"{name}: refused", told(world, CallAnswer.REFUSED)
    # Lost before the deed, after it, and to be carried out by and by; each ends in a crash as well.
    lost = [("before", world), ("after", done)]
    if deed:
        lost.append(("late", world._replace(late=world.late | {(deed, file_id)})))
    if state is State.WRITE:
        lost.append(("partly", carry_out(world, "partial", file_id)))
    for when, after in lost:
        yield f"{name}: lost {when}", told(after, CallAnswer.LOST)
        yield f"{name}: crash {when}", crashed(after)


def wrong(world: World) -> str:
    finals = sum("f" in here for here in world.places)
    if any("F" in here for here in world.places):
        return "half a file is published"
    if finals > 1:
        return "published twice"
    if not world.held and not finals:
        return "released and not published"
    return ""


def search() -> tuple[str, int, set[World]]:
    """What goes wrong (with its trace), the number of states, and those that cannot finish."""
    came: dict[World, tuple[World | None, str]] = {START: (None, "")}
    edges: dict[World, list[World]] = {}
    todo = [START]
    while todo:
        world = todo.pop()
        if found := wrong(world):
            trace = []
            at: World | None = world
            while at is not None:
                at, label = came[at]
                trace.append(label)
            return f"{found}: {' | '.join(reversed(trace))}", len(came), set()
        edges[world] = []
        for label, after in steps(world):
            edges[world].append(after)
            if after not in came:
                came[after] = (world, label)
                todo.append(after)
    before: dict[World, list[World]] = {}
    for world, afters in edges.items():
        for after in afters:
            before.setdefault(after, []).append(world)
    # Finished, or out of file ids, which only the search is.
    live = {w for w in edges if not w.held or (w.state is None and w.file_id == IDS)}
    todo = list(live)
    while todo:
        for world in before.get(todo.pop(), []):
            if world not in live:
                live.add(world)
                todo.append(world)
    return "", len(edges), set(edges) - live


def test_every_interleaving_publishes_once_and_can_finish() -> None:
    found, states, stuck = search()
    assert not found
    assert not stuck
    assert states > 1000


@pytest.mark.parametrize(
    ("state", "answer", "instead"),
    [
        (State.WRITE, CallAnswer.LOST, State.STAGE),  # a write believed
        (State.PUBLISH, CallAnswer.LOST, State.RELEASE),  # a rename believed
        (State.PUBLISH, CallAnswer.LOST, State.ABANDON),  # a rename disbelieved
        (State.PUBLISH, CallAnswer.SOURCE_GONE, State.RELEASE),  # fenced, and not asked
        (State.ASK_TMP, CallAnswer.THERE, State.ABANDON),  # planned again with its tmp in place
        (State.ASK_VOID, CallAnswer.THERE, State.RELEASE),
        (State.ASK_VOID, CallAnswer.ABSENT, State.ABANDON),  # the manifest not asked
        (State.ASK_MANIFEST, CallAnswer.ABSENT, State.RELEASE),
        (State.VOID, CallAnswer.LOST, State.ABANDON),
        (State.VOID, CallAnswer.SOURCE_GONE, State.ABANDON),
    ],
)
def test_the_search_catches_a_wrong_transition(
    monkeypatch: pytest.MonkeyPatch, state: State, answer: CallAnswer, instead: State
) -> None:
    monkeypatch.setitem(TABLE, (state, answer), instead)
    found, _, _ = search()
    assert found, "the search cannot see this"


def test_the_search_catches_void_asked_before_tmp(monkeypatch: pytest.MonkeyPatch) -> None:
    # Order void, manifest, tmp: a pending file with its manifest then counts as published.
    monkeypatch.setitem(TABLE, (State.ASK_TMP, CallAnswer.ABSENT), State.ABANDON)
    monkeypatch.setitem(TABLE, (State.ASK_MANIFEST, CallAnswer.ABSENT), State.ASK_TMP)
    monkeypatch.setattr(Publication, "found", lambda one: Publication(one, State.ASK_VOID))
    for state, answer in list(TABLE):
        if TABLE[state, answer] is State.ASK_TMP and state not in ASKED:
            monkeypatch.setitem(TABLE, (state, answer), State.ASK_VOID)
    monkeypatch.setattr(f"{__name__}.crashed", _crashed_asking_void)
    found, _, _ = search()
    assert found, "the search cannot see this"


def _crashed_asking_void(world: World) -> World:
    if world.planned:
        return world._replace(state=State.ASK_VOID, file_id=world.planned)
    return world._replace(state=None, file_id=world.counter)
