"""What an agent answers an audit: the batch ids that each output of its channel holds."""

import os
from pathlib import Path

from tests.channel.making import arrived, opened, put
from tests.channel.test_damage import flip
from tiers.channel.letters import every_letter
from tiers.core.change import Change
from tiers.observe.snapshot import audit
from tiers.observe.stopped import audit_of_stopped

PEER = b"P" * 16


async def test_each_output_answers_for_itself(tmp_path: Path) -> None:
    async with opened(tmp_path, outputs=["a", "b"]) as channel:
        own = channel.origin.hex()
        both = ["a", "b"]
        for _ in range(3):
            await channel.submit(Change(puts=[put(channel, outputs=both)]))
        await channel.submit(Change(puts=[arrived(PEER, 9, outputs=both)]))
        await channel.submit(Change(releases=[("a", 1), ("b", 4)], dead=[("a", 2, "bad")]))
        assert audit(channel) == {
            "origins": {own: {"last": 3, "begun_ms": channel.origins()[channel.origin].begun_ms}},
            "present": own,
            "outputs": {
                "a": {
                    "held": {own: [[3, 3]], PEER.hex(): [[9, 9]]},
                    "dead": {own: [[2, 2]]},
                    "dropped": {},
                    "skipped": {},
                },
                "b": {"held": {own: [[1, 3]]}, "dead": {}, "dropped": {}, "skipped": {}},
            },
            "withheld_since_ms": channel.begun_ms,
        }


async def test_an_output_that_is_gone_answers_too(tmp_path: Path) -> None:
    async with opened(tmp_path, outputs=["a", "b"]) as channel:
        own = channel.origin.hex()
        await channel.submit(Change(puts=[put(channel, outputs=["a", "b"])]))
        await channel.submit(Change(puts=[put(channel, outputs=["a", "b"])]))
        await channel.submit(Change(dead=[("b", 2, "bad")]))
    async with opened(tmp_path, outputs=["a"]) as channel:
        told = audit(channel)["outputs"]
        assert told["b"] == {
            "held": {own: [[1, 1]]},
            "dead": {own: [[2, 2]]},
            "dropped": {},
            "skipped": {},
        }
        assert told["a"] == {"held": {own: [[1, 2]]}, "dead": {}, "dropped": {}, "skipped": {}}
        await channel.submit(Change(releases=[("a", 1), ("a", 2)]))
    async with opened(tmp_path, outputs=["b"]) as channel:
        assert set(audit(channel)["outputs"]) == {"b"}


async def test_a_batch_with_a_damaged_body_is_known_by_its_id(tmp_path: Path) -> None:
    async with opened(tmp_path) as channel:
        own = channel.origin.hex()
        await channel.submit(Change(puts=[put(channel, b"BODY-ONE" * 500)]))
    flip(tmp_path / "channel" / "data.mdb", b"BODY-ONE")
    async with opened(tmp_path) as channel:
        assert audit(channel)["outputs"] == {
            "out": {"held": {own: [[1, 1]]}, "dead": {}, "dropped": {}, "skipped": {}}
        }
        await channel.submit(Change(dead=[("out", 1, "body damaged")]))
        assert audit(channel)["outputs"] == {
            "out": {"held": {}, "dead": {own: [[1, 1]]}, "dropped": {}, "skipped": {}}
        }


async def test_letters_of_one_batch_are_never_split_over_two_looks(tmp_path: Path) -> None:
    outputs = ["a", "b", "c"]
    async with opened(tmp_path, outputs=outputs) as channel:
        for _ in range(2):
            await channel.submit(Change(puts=[put(channel, outputs=outputs)]))
        await channel.submit(Change(dead=[(o, n, "bad") for n in (1, 2) for o in outputs]))
        looks = [channel.dead_letters(after, limit=2) for after in (0, 1, 2)]
        assert [[(one.position, one.output) for one in look] for look in looks] == [
            [(1, "a"), (1, "b"), (1, "c")],
            [(2, "a"), (2, "b"), (2, "c")],
            [],
        ]
        told = [(one.output, one.id.seq) for one in every_letter(channel)]
        assert told == [(output, n) for n in (1, 2) for output in outputs]


async def test_of_a_stopped_agent_its_channel_says_the_same(tmp_path: Path) -> None:
    async with opened(tmp_path, outputs=["a", "b"]) as channel:
        for _ in range(3):
            await channel.submit(Change(puts=[put(channel, outputs=["a", "b"])]))
        await channel.submit(Change(releases=[("a", 1)], dead=[("b", 2, "bad")]))
        told = {"channel": {"id": channel.channel_id.hex()}, "audit": audit(channel)}
        told["audit"]["present"] = ""
        # One that runs and does not answer is left alone.
        reason = audit_of_stopped(tmp_path, "no answer")
        assert isinstance(reason, str)
        assert reason.startswith("no answer, and its channel could not be read: another agent runs")
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "channel").iterdir()}
    assert audit_of_stopped(tmp_path, "not running") == told
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "channel").iterdir()} == before
    assert audit_of_stopped(tmp_path / "nobody", "not running") == "not running"
    os.truncate(tmp_path / "channel" / "data.mdb", 5000)
    reason = audit_of_stopped(tmp_path, "not running")
    assert isinstance(reason, str)
    assert "is damaged" in reason
