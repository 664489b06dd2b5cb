"""`scripts/bench`: that it measures what it says, not how fast this machine is."""

import json
import math
import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent
LINES = 20_000


def test_bench_local_prints_every_figure(tmp_path: Path) -> None:
    command = [str(ROOT / "scripts" / "bench"), "local", "--lines", str(LINES), "--json"]
    ended = subprocess.run(
        [*command, "--dir", str(tmp_path)], stdout=subprocess.PIPE, check=False, timeout=240
    )
    assert ended.returncode == 0, ended.stdout
    told = json.loads(ended.stdout)
    assert told["lines"] == LINES
    assert 160 < told["bytes"] / LINES < 190
    assert told["limit_events_per_second"] > 0
    for kind in ("plain", "zstd"):
        figures = told[kind]
        assert figures["events_per_second"] > 0
        assert figures["cpu_s_per_million"] > 0
        assert figures["ratio_to_limit"] > 0
        assert figures["memory_bytes_max"] > 10_000_000  # a Python with its libraries
    assert [run["kind"] for run in told["runs"]] == ["plain", "zstd"]
    assert all(set(run["cpu_s"]) == {"edge", "aggregator", "sink"} for run in told["runs"])
    assert len(told["limits"]) == 3
    assert len(told["latencies_s"]) == 30
    assert told["latency_s_median"] > 0
    assert os.listdir(tmp_path) == []  # noqa: PTH208


def test_bench_against_tells_the_ratios_of_pairs_and_their_spread(tmp_path: Path) -> None:
    command = [str(ROOT / "scripts" / "bench"), "against", "HEAD", "--only", "idle", "--json"]
    few = ["--runs", "2", "--idle-s", "0.5", "--lines", "1000", "--dir", str(tmp_path)]
    ended = subprocess.run([*command, *few], stdout=subprocess.PIPE, check=False, timeout=240)
    assert ended.returncode == 0, ended.stdout
    figures = json.loads(ended.stdout)["figures"]
    assert set(figures) == {f"idle CPU of {agent}" for agent in ("edge", "aggregator", "sink")}
    for figure in figures.values():
        assert len(figure["HEAD"]) == len(figure["tree"]) == 2
        pairs = zip(figure["HEAD"], figure["tree"], strict=True)
        logs = [math.log(tree / head) for head, tree in pairs]
        mean, distance = sum(logs) / 2, abs(logs[0] - logs[1])
        assert math.isclose(figure["ratio"], math.exp(mean))
        # Of two: the standard error is half of their distance; 12.706 of them either way.
        assert math.isclose(figure["from"], math.exp(mean - 12.706 * distance / 2))
        assert math.isclose(figure["to"], math.exp(mean + 12.706 * distance / 2))
    assert os.listdir(tmp_path) == []  # noqa: PTH208


def test_bench_senders_settle_and_are_acked_also_after_the_aggregator_was_killed(
    tmp_path: Path,
) -> None:
    command = [str(ROOT / "scripts" / "bench"), "senders", "--senders", "20", "--json"]
    few = ["--rate", "100", "--seconds", "1", "--dir", str(tmp_path)]
    ended = subprocess.run([*command, *few], stdout=subprocess.PIPE, check=False, timeout=240)
    assert ended.returncode == 0, ended.stdout
    figures = json.loads(ended.stdout)
    assert figures["senders"] == 20
    assert figures["sessions_s"] > 0
    assert figures["sessions_again_s"] > 0
    assert 0 < figures["acked_per_second"] <= 101
    assert figures["cpu_s_per_1000"] > 0
    assert figures["turned_away"] == 0
    assert figures["troubles"] == {}
    assert os.listdir(tmp_path) == []  # noqa: PTH208


def test_bench_senders_fails_in_words_where_sessions_do_not_come(tmp_path: Path) -> None:
    command = [str(ROOT / "scripts" / "bench"), "senders", "--senders", "5", "--within", "0.001"]
    ended = subprocess.run(
        [*command, "--dir", str(tmp_path)], stderr=subprocess.PIPE, check=False, timeout=240
    )
    assert ended.returncode == 1
    assert b"5 senders 5 have no session after 0.001 s" in ended.stderr


def test_bench_headers_compares_many_values_with_one(tmp_path: Path) -> None:
    command = [str(ROOT / "scripts" / "bench"), "headers", "--hosts", "20", "--runs", "1"]
    few = ["--rate", "2000", "--seconds", "1", "--json", "--dir", str(tmp_path)]
    ended = subprocess.run([*command, *few], stdout=subprocess.PIPE, check=False, timeout=240)
    assert ended.returncode == 0, ended.stdout
    figures = json.loads(ended.stdout)
    one, many = figures["turns"]
    assert [one["kind"], many["kind"]] == ["one value", "20 values"]
    assert figures["cpu_ratio"] == many["cpu_s_per_million"] / one["cpu_s_per_million"]
    assert one["events_per_batch"] > many["events_per_batch"] > 1
    assert os.listdir(tmp_path) == []  # noqa: PTH208
