"""The channel killed with SIGKILL at random points: what was acknowledged is there, in order,
positions written with their batches, totals right."""

import subprocess
import sys
from pathlib import Path

from tests.channel.child import HELD, POSITION
from tests.channel.making import LIMITS, opened
from tests.seeds import some_dice
from tiers.channel.checking import value_problems

ROUNDS = 12


async def test_nothing_acknowledged_is_lost_by_sigkill(tmp_path: Path) -> None:
    rng = some_dice()
    for _ in range(ROUNDS):
        acknowledged = run_and_kill(tmp_path, rng.randrange(2**32), rng.choice((1, 2, 40, 300)))
        async with opened(tmp_path, LIMITS) as channel:
            entries = channel.entries("out")
            last = entries[-1].position
            assert last >= acknowledged
            assert [entry.position for entry in entries] == list(
                range(max(1, last - HELD + 1), last + 1)
            )
            assert channel.records(b"position/") == {POSITION: b"%d" % last}
            ids = [channel.envelope(entry.position).id for entry in entries]
            assert len(set(ids)) == len(ids), "a number is given once, whatever was killed"
            for entry in entries:
                assert len(channel.record(entry.position)) == entry.size
            totals = channel.stats().queues["out"]
            assert (totals.batches, totals.events) == (len(entries), len(entries))
            assert totals.size_bytes == sum(entry.size for entry in entries)
            assert channel.stats().set_aside == ""
            assert channel.next_seq() == 1
            assert list(value_problems(channel._environment, bodies=True)) == []


def run_and_kill(directory: Path, seed: int, lines: int) -> int:
    """Kills the child somewhere after `lines` acknowledgements; the last number it gave."""
    command = [sys.executable, "-m", "tests.channel.child", str(directory), str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        seen = [child.stdout.readline() for _ in range(lines)]
        child.kill()
        seen += child.stdout.read().splitlines(keepends=True)
    numbers = [int(line) for line in seen if line.endswith(b"\n")]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), "out of order"
    return numbers[-1]
