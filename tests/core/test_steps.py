"""From the parts at work to those that are wanted."""

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from tiers.core.steps import Key, StepKind, Steps, plan

KEYS = [Key(kind, name) for kind in StepKind for name in ("a", "b")]
SPECS = st.dictionaries(st.sampled_from(KEYS), st.integers(0, 2))


def perform(running: Mapping[Key, int], wanted: Mapping[Key, int], steps: Steps) -> dict[Key, int]:
    """What is at work after all steps; each must be possible when its turn comes."""
    now = dict(running)
    for key in steps.change:
        assert now[key] != wanted[key], "it is that already"
        now[key] = wanted[key]
    for stage in steps.retire:
        for key in stage:
            del now[key]
    for key in steps.start:
        assert key not in now, "it is at work"
        now[key] = wanted[key]
    return now


@given(SPECS, SPECS, st.sets(st.sampled_from(KEYS)))
def test_the_steps_lead_to_what_is_wanted(
    running: dict[Key, int], wanted: dict[Key, int], anew: set[Key]
) -> None:
    steps = plan(running, wanted, anew)
    assert perform(running, wanted, steps) == wanted
    touched = {*steps.change, *steps.start, *(key for stage in steps.retire for key in stage)}
    same = {key for key in running if running[key] == wanted.get(key)}
    assert touched.isdisjoint(same), "what is wanted as it is, is not touched"
    assert anew.isdisjoint(steps.change)
    assert bool(steps) == (running != wanted)


@given(SPECS, SPECS)
def test_only_what_has_to_be_is_made_anew(running: dict[Key, int], wanted: dict[Key, int]) -> None:
    steps = plan(running, wanted)
    assert set(steps.start) == wanted.keys() - running.keys()
    assert {key for stage in steps.retire for key in stage} == running.keys() - wanted.keys()


@given(SPECS, SPECS, st.sets(st.sampled_from(KEYS)))
def test_the_way_out_is_there_before_anything_comes_in(
    running: dict[Key, int], wanted: dict[Key, int], anew: set[Key]
) -> None:
    steps = plan(running, wanted, anew)
    stages = [key.kind.stage for key in steps.start]
    assert stages == sorted(stages)
    retired = [{key.kind.stage for key in stage} for stage in steps.retire]
    assert all(len(stage) == 1 for stage in retired), "a stage at a time"
    flat = [stage.pop() for stage in retired]
    assert flat == sorted(set(flat), reverse=True), "each once, sources first"


def test_who_sends_and_who_takes_part_together() -> None:
    assert StepKind.SENDER.stage == StepKind.RECEIVER.stage
    assert (
        StepKind.STATUS.stage < StepKind.SINK.stage < StepKind.SENDER.stage < StepKind.SOURCE.stage
    )


def test_a_key_says_what_it_is() -> None:
    assert str(Key(StepKind.SOURCE, "web")) == "source web"
    assert str(Key(StepKind.RECEIVER)) == "receiver"
