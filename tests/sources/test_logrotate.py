"""The logrotate that everybody has, with the settings that people have, on a disk and in memory."""

import os
import random
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.sources.test_tail import ROTATE_WAIT_S, Follower

LOGROTATE = shutil.which("logrotate") or shutil.which("logrotate", path="/usr/sbin")
MEMORY = Path("/dev/shm")  # tmpfs
ROTATIONS = 12
STYLES = {
    "rename": "nocreate",
    "create": "create",
    "copytruncate": "copytruncate",
    "compress": "create\ncompress",
    "compress copies": "copytruncate\ncompress",
    "delaycompress": "create\ncompress\ndelaycompress",
    "dates": "create\ndateext\ndateformat -%Y%m%d-%s",
    "dates inside": "create\ndateext\nextension .log\ndateformat -%Y%m%d-%s",
    "elsewhere": "create\nolddir old",
}

pytestmark = pytest.mark.skipif(LOGROTATE is None, reason="no logrotate: scripts/setup installs it")


@pytest.fixture(params=["disk", "memory"])
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    if request.param == "disk":
        yield tmp_path
    elif not MEMORY.is_dir():
        pytest.skip("no tmpfs")
    else:
        with TemporaryDirectory(dir=MEMORY) as made:
            yield Path(made)


def rotate(directory: Path, style: str) -> None:
    assert LOGROTATE is not None
    configuration, state = directory / "conf", directory / "state"
    configuration.write_text(f"{directory}/app.log {{\nrotate 5\nmissingok\n{style}\n}}\n")
    configuration.chmod(0o644)
    command = [LOGROTATE, "--force", "--state", str(state), str(configuration)]
    # Twice in a second it finds the name of a date taken, and rotates nothing.
    subprocess.run(command, check=False, capture_output=True)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("glob", ["app.log", "*.log", "app.log*"])
def test_every_line_once_through_real_rotations(directory: Path, style: str, glob: str) -> None:
    """Read, half read, or not at all when it is rotated; the agent up, or down meanwhile. Where the
    log is copied and truncated unread, only what is in the copy can be read."""
    r = random.Random(f"{style} {glob}")
    (directory / "old").mkdir()
    directory.chmod(0o755)
    follower = Follower(directory / glob, block_size_max=400)
    log = directory / "app.log"
    written = [b"first"]
    log.write_bytes(b"first\n")
    follower.read()
    writer = log.open("ab", buffering=0)
    for _ in range(ROTATIONS):
        for _ in range(r.randint(1, 6)):
            written.append(b"%06d %s" % (len(written), b"x" * r.choice([0, 300])))
            writer.write(written[-1] + b"\n")
        for _ in range(r.choice([0, 1, 2, 50])):
            follower.now += 0.5
            follower.step()
        if r.random() < 0.3:
            follower.restart()
        rotate(directory, STYLES[style])
        if "copytruncate" not in STYLES[style]:
            writer.close()
            writer = log.open("ab", buffering=0)
        follower.read()
    writer.close()
    for _ in range(5):
        follower.read(after_s=ROTATE_WAIT_S)
    taken = Counter(line for _, data in follower.blocks for line in data.split(b"\n")[:-1])
    assert set(written) - set(taken) == set(), "lost"
    doubled = sum((n - 1) * (len(line) + 1) for line, n in taken.items())
    assert doubled <= follower.counts["bytes_perhaps_doubled"], f"{doubled} bytes twice"
    assert follower.counts["bytes_lost"] == 0
    assert len(os.listdir(directory)) > 3  # noqa: PTH208
