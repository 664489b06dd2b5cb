"""Thousands of bad days of one hop, each from a seed. Replay one: HOP_SEED=7 scripts/test
tests/simulation/test_hop.py"""

import os

import pytest

from tests.simulation.hop import Violation, World

SEEDS = [int(os.environ["HOP_SEED"])] if "HOP_SEED" in os.environ else list(range(60))


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_lost_nothing_twice_one_unflagged(seed: int) -> None:
    world = World(seed)
    world.run()
    assert set(world.copies) == world.accepted


@pytest.mark.parametrize("seed", SEEDS)
def test_a_lost_disk_never_makes_two_unflagged(seed: int) -> None:
    World(seed, disk_loss=True).run()


@pytest.mark.parametrize("disk_loss", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_with_end_all_is_published_whatever_disk_is_lost(seed: int, disk_loss: bool) -> None:
    world = World(seed, disk_loss=disk_loss, guarantee="end")
    world.run()
    assert world.published == world.accepted


def test_without_faults_no_flag_no_double_and_an_even_load() -> None:
    world = World(1, senders=3, receivers=2, batches=400)
    world.faulty = False
    world.run(faults_s=120)
    assert all(copies == {False: 1} for copies in world.copies.values())
    assert max(world.load.values()) < 1.2 * min(world.load.values())
    assert sum(node.sender.flagged for node in world.senders.values()) == 0


def test_a_flag_that_is_forgotten_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulation can see: without flags after a restart, some seed finds two unflagged."""
    from tests.simulation.hop import SenderNode

    start = SenderNode.start

    def forgetful(node: SenderNode) -> None:
        node.disk.mark, mark = 0, node.disk.mark
        start(node)
        node.disk.mark = mark
        node.sender._mark = mark

    monkeypatch.setattr(SenderNode, "start", forgetful)
    with pytest.raises(Violation, match="two unflagged"):
        for seed in range(200):
            World(seed).run()
