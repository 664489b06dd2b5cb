"""`scripts/power`, a sample of it; and that it finds what it is there to find."""

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from tests.power.cuts import Cuts, record
from tests.seeds import a_seed

CUTS = 120
RESTARTS = 2

pytestmark = pytest.mark.skipif(
    shutil.which("gcc") is None and os.environ.get("CI") != "true", reason="no gcc here"
)


async def test_whatever_a_power_cut_leaves_what_was_acked_is_there(tmp_path: Path) -> None:
    cuts = Cuts(*await asyncio.to_thread(record, tmp_path), tmp_path, a_seed())
    await cuts.run(CUTS, RESTARTS)
    assert cuts.acked > 10 * CUTS


@pytest.mark.parametrize("careless", ["commit", "file", "names", "ack"])
async def test_a_sync_that_is_left_out_or_waited_for_too_late_is_found(
    tmp_path: Path, careless: str
) -> None:
    cuts = Cuts(*await asyncio.to_thread(record, tmp_path, careless), tmp_path, a_seed())
    with pytest.raises(AssertionError, match="power cut after entry"):
        await cuts.run(CUTS, 0)
