"""A kill while letters are queued again and dropped: each batch is in one place."""

import subprocess
import sys
from pathlib import Path

from tests.channel.making import opened, put, record
from tests.seeds import some_dice
from tiers.channel import inspection, withheld
from tiers.channel.letters import every_letter
from tiers.core import runs
from tiers.core.batch import BatchId
from tiers.core.change import Change, Put

PEER = b"P" * 16
OWN, APART = 300, 20  # letters


async def test_a_letter_is_in_one_place_whenever_its_agent_is_killed(tmp_path: Path) -> None:
    rng = some_dice()
    async with opened(tmp_path) as channel:
        own = channel.origin
        await channel.submit(Change(puts=[put(channel) for _ in range(OWN)]))
        for body in (b"known\n", b"apart\n"):
            arriving = [
                Put(BatchId(PEER, n), record(PEER, n, body), 1, ["out"], arrived=True)
                for n in range(1, APART + 1)
            ]
            await channel.submit(Change(puts=arriving))
        await channel.submit(Change(dead=[("out", n + 1, "bad") for n in range(OWN)]))
        assert channel.stats().dead == OWN + APART
    apart = APART
    while True:
        done = run_and_kill(tmp_path, rng.randrange(2**32), rng.choice((1, 5, 60)))
        assert inspection.problems(tmp_path / "channel") == []
        async with opened(tmp_path) as channel:
            letters = list(every_letter(channel))
            assert not done & {one.position for one in letters}, "what was told is so"
            entries = channel.entries("out")
            ids = [one.id for one in letters] + [one.id for one in entries]
            of_own = [one.seq for one in ids if one.origin == own]
            told = withheld.told_of(channel.records(withheld.PREFIX)).get("out")
            dropped = told.dropped if told is not None else {}
            gone = runs.runs_of(of_own)
            assert len(of_own) == runs.total(gone), "in two places"
            assert runs.total(gone) + runs.total(dropped.get(own, [])) == OWN
            assert runs.common(gone, dropped.get(own, [])) == []
            known = [one.id for one in entries if one.id.origin == PEER]
            assert len(known) == APART, "whose ids they have are as they were"
            left = sum(one.twice_given for one in letters)
            assert left <= apart
            apart = left
            numbers = [one.id for one in entries if one.id.origin not in (own, PEER)]
            assert len(set(numbers)) == len(numbers), "a new batch has a number of its own"
            assert len(numbers) + left <= APART
            if not letters:
                return


def run_and_kill(directory: Path, seed: int, lines: int) -> set[int]:
    """Kills the child somewhere after so many lines; the positions that it told."""
    command = [sys.executable, "-m", "tests.dead.child", str(directory), str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdout is not None
        seen = [child.stdout.readline() for _ in range(lines)]
        child.kill()
        seen += child.stdout.read().splitlines(keepends=True)
    return {int(line) for line in seen if line.endswith(b"\n")}
