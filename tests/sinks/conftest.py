"""Fixtures of sink tests."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.sinks.parts import open_channel
from tiers.channel.channel import Channel
from tiers.core import backoff
from tiers.sinks.files import sink as file_sink


@pytest.fixture
async def channel(tmp_path: Path) -> AsyncIterator[Channel]:
    channel = await open_channel(tmp_path / "sink-1")
    yield channel
    await channel.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Back-off and the wait for calls that hang, cut short."""
    monkeypatch.setattr(backoff, "BACKOFF_MIN_S", 0.001)
    monkeypatch.setattr(backoff, "BACKOFF_MAX_S", 0.01)
    monkeypatch.setattr(backoff, "REFUSED_MIN_S", 0.001)
    monkeypatch.setattr(backoff, "REFUSED_MAX_S", 0.01)
    monkeypatch.setattr(file_sink, "_STOP_S", 0.02)
