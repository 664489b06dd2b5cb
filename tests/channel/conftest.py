"""Every channel, for the suites of their contract."""

from pathlib import Path

import pytest

from tests.channel.memory import MemoryDisk
from tests.channel.places import Place
from tiers.channel.disk import LMDB, Disk


@pytest.fixture(params=["lmdb", "memory"])
def disk(request: pytest.FixtureRequest) -> Disk:
    return LMDB if request.param == "lmdb" else MemoryDisk({})


@pytest.fixture
def place(tmp_path: Path, disk: Disk) -> Place:
    return Place(tmp_path, disk)
