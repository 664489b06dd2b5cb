"""`tiers demo`, with real agents, and how it judges."""

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.faults.counting import Count, Pauses
from tiers.cli import main
from tiers.cli.demo import result_lines
from tiers.topology import find_topology, load
from tiers.trial.demo import Demo, DemoResult, fill_in, published_files
from tiers.trial.numbered_lines import read_blocks


def demo(*options: str) -> Result:
    return CliRunner().invoke(main, ["demo", *options])


def as_json(result: Result) -> dict[str, Any]:
    assert result.exit_code in (0, 1), result.output
    told = json.loads(result.stdout)
    assert isinstance(told, dict)
    return told


def test_every_line_once_though_an_aggregator_was_killed(tmp_path: Path) -> None:
    published = tmp_path / "demo" / "published"
    pauses = Pauses(lambda: {"": len(published_files(published)) if published.exists() else 0})
    pauses.lines_wait()
    try:
        told = as_json(demo("--events", "50000", "--data", str(tmp_path / "demo"), "--json"))
    finally:
        pauses.close()
    kinds = ("accepted", "published", "missing", "doubled")
    counted = {kind: told[kind] for kind in kinds} | {"strange": told["foreign"]}
    print(Count(**counted, longest_pause_s=pauses.longest_s[""]))
    assert told["ok"], told
    assert told["killed"].startswith("agg-")
    assert (told["accepted"], told["missing"], told["doubled"]) == (50_000, 0, 0)
    assert told["published"] == 50_000
    files = published_files(Path(told["files"]))
    numbers = {
        line.split(b"?id=")[1][:10]
        for file in files
        for block in read_blocks(file)
        for line in block.splitlines()
    }
    assert len(numbers) == 50_000
    # Only what came out is left, and the topology that says how.
    assert sorted(path.name for path in (tmp_path / "demo").iterdir()) == [
        "published",
        "quickstart.toml",
    ]


def test_a_file_of_ones_own_with_lines_of_every_kind(tmp_path: Path) -> None:
    random = Random(5)
    lines = [random.randbytes(random.randint(0, 300)).replace(b"\n", b"") for _ in range(2000)]
    lines += [b"the same"] * 100 + [b""] * 5 + [b"long" * 700_000]
    random.shuffle(lines)
    file = tmp_path / "own.log"
    file.write_bytes(b"\n".join(lines))  # the last line has no newline
    place = tmp_path / "demo"
    result = demo("--input", str(file), "--data", str(place), "--no-kill", "--keep", "--json")
    told = as_json(result)
    assert told["ok"], told
    # The line of 2.8 MB comes out in three pieces, since an event is at most 1 MiB.
    expected = len(lines) + 2 - (not lines[-1])
    assert told["accepted"] == told["published"] == expected
    assert told["killed"] == ""
    assert (place / "agents" / "edge-1" / "agent.log").exists()
    assert b"".join(f.read_bytes() for f in (place / "logs").iterdir()) != b""


def test_an_empty_file_is_delivered_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "empty.log").touch()
    told = as_json(demo("--input", str(tmp_path / "empty.log"), "--json"))
    assert told["ok"], told
    assert (told["accepted"], told["published"], told["killed"]) == (0, 0, "")


def test_a_directory_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "something").touch()
    result = demo("--data", str(tmp_path))
    assert result.exit_code == 2
    assert "is not empty" in result.output


def test_a_disk_too_small_for_it_is_said_at_once(tmp_path: Path) -> None:
    result = demo("--data", str(tmp_path / "demo"), "--events", str(10**15))
    assert result.exit_code == 2
    assert "are free, and this takes up to" in result.output


def test_a_place_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = demo("--data", str(tmp_path / "file" / "demo"))
    assert result.exit_code == 2
    assert "Not a directory" in result.output


def test_demo_has_help_with_an_example() -> None:
    result = demo("--help")
    assert result.exit_code == 0
    assert "Example: tiers demo" in result.output


def test_the_topology_it_writes_stands_for_itself(tmp_path: Path) -> None:
    strange = tmp_path / 'a "quoted" \\ [0-9]* directory'
    made = Demo(strange, events=10)
    made.prepare()
    read = load(made.place.topology, {})
    assert read.data_of("edge-1") == strange / "agents" / "edge-1"
    address = read.tiers["aggregator"].agents["agg-1"]
    assert address is not None
    assert address.loopback
    assert address.host != "127.0.0.1"
    assert (strange / "generated.log").read_bytes().count(b"\n") == 10


def test_variables_without_a_value_keep_their_default() -> None:
    text = find_topology("quickstart").read_text()
    assert "${" not in fill_in(text, {})
    assert fill_in('x = "${A:-b}/${C:-d}"', {"A": 'q"'}) == 'x = "q\\"/d"'


def outcome(**differing: Any) -> DemoResult:
    fine: dict[str, Any] = {
        **{"accepted": 10, "published": 10, "missing": 0, "doubled": 0},
        **{"foreign": 0, "events_per_second": 5, "seconds": 2.0, "killed": "agg-1"},
        **{"audit_ok": True, "files": "/f"},
    }
    return DemoResult(**(fine | differing))


@pytest.mark.parametrize(
    ("differing", "ok"),
    [
        ({}, True),
        ({"missing": 1}, False),
        ({"doubled": 1}, False),
        ({"foreign": 1}, False),
        ({"audit_ok": False}, False),
    ],
)
def test_what_is_good_and_what_is_not(differing: dict[str, Any], ok: bool) -> None:
    assert outcome(**differing).ok is ok
    text = "\n".join(result_lines(outcome(**differing)))
    assert "accepted" in text
