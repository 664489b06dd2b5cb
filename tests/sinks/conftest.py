"""Fixtures of sink tests."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.sinks.parts import open_channel
from tiers.channel.channel import Channel
from tiers.core import commit
from tiers.sinks import file_sink


@pytest.fixture
async def channel(tmp_path: Path) -> AsyncIterator[Channel]:
    channel = await open_channel(tmp_path / "sink-1")
    yield channel
    await channel.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Back-off and the wait for calls that hang, cut short."""
    monkeypatch.setattr(commit, "BACKOFF_MIN_S", 0.001)
    monkeypatch.setattr(commit, "BACKOFF_MAX_S", 0.01)
    monkeypatch.setattr(commit, "REFUSED_MIN_S", 0.001)
    monkeypatch.setattr(commit, "REFUSED_MAX_S", 0.01)
    monkeypatch.setattr(file_sink, "_STOP_S", 0.02)
