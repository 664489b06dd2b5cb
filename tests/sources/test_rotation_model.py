"""Random lives of log files: appended to, rotated, deleted, the agent stopped and started.

Against the plainest model: whatever was written must come out, each line once. Only what no
follower can do is left out: data that is destroyed (deleted, truncated) before anyone looked, and
a generation that came and went while nobody who had followed its predecessor was there.
"""

import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.sources.test_tail import ROTATE_WAIT_S, Follower, append


class LogLife(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.root = Path(self.directory.name)
        self.written: list[bytes] = []
        self.generation = 0

    @initialize(wide=st.booleans(), open_files_max=st.sampled_from([1, 2, 100]))
    def start(self, wide: bool, open_files_max: int) -> None:
        # Names of generations are inside the wide glob and outside the narrow one.
        pattern = self.root / ("*.log*" if wide else "*.log")
        self.follower = Follower(pattern, block_size_max=40, open_files_max=open_files_max)
        for name in "ab":
            self.append(name, 1, False)
        self.follower.read()

    @rule(name=st.sampled_from("ab"), lines=st.integers(1, 8), header=st.booleans())
    def append(self, name: str, lines: int, header: bool) -> None:
        path = self.root / f"{name}.log"
        for _ in range(lines):
            line = b"%s line %d\n" % (name.encode(), len(self.written))
            if header:
                line = b"# the same beginning of every file " + line
            self.written.append(line)
            append(path, line)

    @rule(name=st.sampled_from("ab"))
    def rotate(self, name: str) -> None:
        path = self.root / f"{name}.log"
        if path.exists():
            self.generation += 1
            path.rename(self.root / f"{name}.log.{self.generation:04d}")

    @rule(steps=st.integers(1, 4), seconds=st.sampled_from([0.1, 2.0, 2 * ROTATE_WAIT_S]))
    def follow(self, steps: int, seconds: float) -> None:
        self.follower.now += seconds
        for _ in range(steps):
            self.follower.step()

    @rule()
    def restart(self) -> None:
        self.follower.restart()

    @rule()
    def read_all_then_truncate(self) -> None:
        self.follower.read()
        path = self.root / "a.log"
        if path.exists():
            with path.open("rb+") as file:
                file.truncate(0)

    @rule(name=st.sampled_from("ab"))
    def read_all_then_delete_oldest(self, name: str) -> None:
        self.follower.read()
        generations = sorted(self.root.glob(f"{name}.log*"))
        if len(generations) > 1:  # app.log sorts before app.log.0001; keep the newest of all
            path = self.root / f"{name}.log"
            (generations[0] if not path.exists() else generations[1]).unlink()

    @invariant()
    def nothing_is_doubled(self) -> None:
        if hasattr(self, "follower"):
            lines = self.lines()
            assert len(lines) == len(set(lines))

    def lines(self) -> list[bytes]:
        data = b"".join(block for _, block in self.follower.blocks)
        return [line + b"\n" for line in data.split(b"\n")[:-1]]

    def teardown(self) -> None:
        if hasattr(self, "follower"):
            self.follower.read()
            assert sorted(self.lines()) == sorted(self.written)
            self.follower.read(after_s=2 * ROTATE_WAIT_S)
            assert sorted(self.lines()) == sorted(self.written)
            self.follower.following.close()
        self.directory.cleanup()


TestLogLife = LogLife.TestCase
TestLogLife.settings = settings(max_examples=60, stateful_step_count=30)
