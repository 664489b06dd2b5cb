"""`tiers channel info` and `tiers channel check`, on the channel of a stopped agent."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.channel.making import arrived, opened, put
from tests.channel.test_damage import flip
from tiers.cli import main
from tiers.core.change import Change


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["channel", *map(str, arguments)])


async def make(directory: Path) -> str:
    async with opened(directory, outputs=["next", "files"]) as channel:
        both = ["next", "files"]
        await channel.submit(Change(puts=[put(channel, outputs=both, count=10)]))
        await channel.submit(Change(puts=[put(channel, b"BODY" * 2000, outputs=["files"])]))
        await channel.submit(Change(puts=[arrived(b"o" * 16, 1, outputs=["next"])]))
        await channel.submit(Change(records={b"position/tail/x": b"RECORD-VALUE-42"}))
        await channel.submit(Change(dead=[("files", 1, "too bad")]))
        return channel.channel_id.hex()


async def test_info_shows_what_a_channel_holds(tmp_path: Path) -> None:
    channel_id = await make(tmp_path / "edge-1")
    for directory in (tmp_path / "edge-1", tmp_path / "edge-1" / "channel"):
        result = run("info", directory, "--json")
        assert result.exit_code == 0, result.output
        shown = json.loads(result.output)
        assert shown["id"] == channel_id
        assert (shown["batches"], shown["dead"], shown["next_seq"]) == (3, 1, 3)
        outputs = {one["name"]: one for one in shown["outputs"]}
        assert (outputs["next"]["batches"], outputs["next"]["events"]) == (2, 11)
        assert outputs["files"]["batches"] == 1
        assert outputs["files"]["oldest_ms"] > 0
        assert shown["records"] == {"position/tail/x": "RECORD-VALUE-42"}
        assert shown["windows"] == 1
    text = run("info", tmp_path / "edge-1").output
    assert channel_id in text
    assert "next: 2 batches, 11 events" in text
    assert "position/tail/x" in text


async def test_looking_changes_nothing(tmp_path: Path) -> None:
    await make(tmp_path)
    before = {file.name: file.read_bytes() for file in (tmp_path / "channel").iterdir()}
    assert run("info", tmp_path).exit_code == 0
    assert run("check", tmp_path).exit_code == 0
    assert {file.name: file.read_bytes() for file in (tmp_path / "channel").iterdir()} == before


async def test_check_finds_nothing_in_a_sound_channel(tmp_path: Path) -> None:
    await make(tmp_path)
    result = run("check", tmp_path)
    assert result.exit_code == 0
    assert "nothing is wrong" in result.output
    assert json.loads(run("check", tmp_path, "--json").output)["ok"] is True


@pytest.mark.parametrize(("mark", "told"), [(b"BODY", "position 2"), (b"RECORD-VALUE", "records")])
async def test_check_says_what_is_wrong(tmp_path: Path, mark: bytes, told: str) -> None:
    await make(tmp_path)
    flip(tmp_path / "channel" / "data.mdb", mark)
    result = run("check", tmp_path)
    assert result.exit_code == 1
    assert told in result.output
    assert "checksum" in result.output
    as_json = run("check", tmp_path, "--json")
    assert as_json.exit_code == 1
    assert len(json.loads(as_json.stdout)["problems"]) == 1


async def test_check_of_a_truncated_file(tmp_path: Path) -> None:
    await make(tmp_path)
    data = tmp_path / "channel" / "data.mdb"
    with data.open("r+b") as stream:
        stream.truncate(data.stat().st_size // 2)
    assert run("check", tmp_path).exit_code == 1
    result = run("info", tmp_path)
    assert result.exit_code == 2
    assert "damaged" in result.output


async def test_check_of_a_channel_that_was_set_aside(tmp_path: Path) -> None:
    await make(tmp_path)
    flip(tmp_path / "channel" / "data.mdb", b"RECORD-VALUE")
    async with opened(tmp_path):
        (kept,) = tmp_path.glob("channel.damaged-*")
        result = run("check", kept)
        assert result.exit_code == 1
        assert "records" in result.output
    assert "set aside" in run("info", tmp_path).output


async def test_salvage_says_what_can_be_read(tmp_path: Path) -> None:
    await make(tmp_path)
    result = run("salvage", tmp_path, "--json")
    assert result.exit_code == 0, result.output
    wanted = {"batches": 3, "events": 12, "dead": 1, "lost": 0, "exact": True, "salvaged": False}
    shown = json.loads(result.output)
    assert {key: shown[key] for key in wanted} == wanted
    assert shown["positions"] == 1
    flip(tmp_path / "channel" / "data.mdb", b"BODY")
    result = run("salvage", tmp_path)
    assert result.exit_code == 1
    assert "lost         1 (1 events)" in result.output
    data = tmp_path / "channel" / "data.mdb"
    data.write_bytes(data.read_bytes()[:20_000])
    result = run("salvage", tmp_path)
    assert result.exit_code == 1
    assert "cannot be told" in result.output


async def test_a_running_agent_is_left_alone(tmp_path: Path) -> None:
    async with opened(tmp_path):
        for verb in ("info", "check", "salvage"):
            result = run(verb, tmp_path)
            assert result.exit_code == 2
            assert "another agent runs on" in result.output


def test_a_directory_without_a_channel(tmp_path: Path) -> None:
    for verb in ("info", "check", "salvage"):
        result = run(verb, tmp_path)
        assert result.exit_code == 2
        assert "no channel here" in result.output
        assert run(verb, "--help").exit_code == 0
        assert "Example:" in run(verb, "--help").output
