"""A real HDFS of the tests' own, through the same scripts/hdfs that people use."""

import itertools
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

from tests.waiting import wait_for
from tiers.sinks.files.stores.hdfs import HdfsStore

CHECKOUT = Path(__file__).resolve().parents[2]
SCRIPT = CHECKOUT / "scripts" / "hdfs"
SETTINGS = (
    # So that a listing of 120 entries takes the NameNode three pages.
    "dfs.ls.limit=50",
    # Small blocks, so that a big file has several.
    "dfs.blocksize=16777216",
)


def missing_part() -> str:
    """Why there can be no HDFS here; empty when there can. Under CI nothing may be missing."""
    missing = []
    if shutil.which("java") is None:
        missing.append("Java")
    if shutil.which("mvn") is None and not (CHECKOUT / ".jars" / "hadoop.stamp").exists():
        missing.append("Maven, to bring Hadoop's jars")
    reason = f"no real HDFS here: {' and '.join(missing)} missing" if missing else ""
    assert not (reason and os.environ.get("CI") == "true"), reason
    return reason


def is_over(pid: int) -> bool:
    """Gone, or waiting for a parent to look."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


class HdfsCluster:
    """One NameNode and one DataNode; `start` after `stop` finds what was in it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.url = ""
        self._roots = itertools.count()
        self._watcher: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        settings = [word for setting in SETTINGS for word in ("--set", setting)]
        # The ports of an earlier start are kept, as clients know them.
        ports = [] if self.url else ["--port-base", "auto"]
        done = self._script("start", *ports, *settings)
        assert done.returncode == 0, done.stderr
        self.url = done.stdout.strip()
        if self._watcher is None:
            # A pytest that is killed stops nothing: 400 MB of Java would stay.
            wait = 'tail --pid="$1" -f /dev/null; exec "$2" stop --dir "$3"'
            words = ["sh", "-c", wait, "sh", str(os.getpid()), str(SCRIPT), str(self.directory)]
            self._watcher = subprocess.Popen(words, start_new_session=True)

    def stop(self) -> None:
        if self._watcher is not None:
            os.killpg(self._watcher.pid, signal.SIGKILL)
            self._watcher.wait()
            self._watcher = None
        done = self._script("stop")
        assert done.returncode == 0, done.stderr

    def pid(self, node: str) -> int:
        """Of "namenode" or "datanode", to be killed."""
        pid = json.loads(self._script("status", "--json").stdout)["pids"][node]
        assert isinstance(pid, int)
        return pid

    def kill(self, node: str) -> None:
        """SIGKILL, and gone: its ports are free. `start` starts it again."""
        pid = self.pid(node)
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: is_over(pid), f"the {node} is gone")

    def new_root(self) -> str:
        """A path below which nobody else writes; not made yet."""
        return f"/root-{next(self._roots)}"

    def store(self, root: str, user: str = "logs") -> HdfsStore:
        return HdfsStore(url=self.url, user=user, root=root, connect_s=5, read_s=60)

    def _script(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [str(SCRIPT), words[0], "--dir", str(self.directory), *words[1:]]
        return subprocess.run(command, capture_output=True, text=True, check=False)
