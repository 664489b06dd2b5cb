"""Some of the attacks of `scripts/hostile`, beside a flow: it goes on, and nothing grows."""

from pathlib import Path

import pytest

from tests.hostile.__main__ import MEMORY_MB_MAX
from tests.hostile.attacks import ATTACKS
from tests.hostile.scene import Scene


@pytest.mark.parametrize("name", ["control garbage", "unfinished frames", "pings and resets"])
def test_a_flow_outlives_it(tmp_path: Path, name: str) -> None:
    with Scene(tmp_path) as scene:
        measured = scene.measure(ATTACKS[name], 0.0)
    print(measured)
    assert not measured.died
    assert (measured.missing, measured.doubled) == (0, 0)
    assert max(measured.memory_mb.values()) < MEMORY_MB_MAX
