"""Real processes, and a stranger who seals what it likes: every published file opens."""

import gzip
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
import zmq
import zstandard

from tests.core.strangers import AT, LINES, VARIANTS, Sealed, sealed
from tests.faults.cluster import Cluster, published_files
from tests.faults.settling import all_published
from tests.transport.parts import Stranger
from tests.waiting import wait_for
from tiers.core.hop.messages import (
    PROTOCOL,
    Bundle,
    Carried,
    Hello,
    Later,
    Message,
    Ping,
    Reject,
    Welcome,
    encode,
    encode_bundle,
)
from tiers.topology import Address

_STRANGERS: Final = frozenset(LINES.splitlines(keepends=True))
DAY_MS: Final = 86_400_000


def opened(file: Path) -> bytes:
    """With the libraries that users have, and their tools where these are installed."""
    tool = {".gz": "gzip", ".zst": "zstd"}.get(file.suffix, "")
    if shutil.which(tool):
        subprocess.run([tool, "-t", str(file)], check=True, capture_output=True, timeout=60)
    if file.suffix == ".gz":
        return gzip.decompress(file.read_bytes())
    if file.suffix == ".zst":
        opener = zstandard.ZstdDecompressor()
        with file.open("rb") as of, opener.stream_reader(of, read_across_frames=True) as reader:
            return reader.read()
    return file.read_bytes()


def of_now(batch: Sealed, ahead_ms: int = 0) -> Sealed:
    """Sealed now, unless it says when."""
    now_ms = time.time_ns() // 1_000_000 + ahead_ms
    return replace(
        batch,
        sealed=now_ms if batch.sealed == AT else batch.sealed,
        time=now_ms if batch.time == AT else batch.time,
    )


class Talk:
    """A stranger in a session."""

    def __init__(self, cluster: Cluster, agent: str) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        host, port = cluster.address(agent).split(":")
        self._stranger = Stranger(self._context, Address(host, int(port)))
        self.said: list[Message] = []
        self._session, self._bundles = b"hello...", 0
        hello = Hello(PROTOCOL, "faults", "stranger", b"stranger channel", self._session)
        self._stranger.dealer.send(encode(hello))
        heard = wait_for(self._stranger.heard, "it is welcome")
        assert isinstance(heard, Welcome)
        self.welcome = heard

    def send(self, record: bytes) -> None:
        self._bundles += 1
        one, who = self.welcome, b"stranger channel"
        carried = (Carried(record, False, ()),)
        bundle = Bundle(one.token, who, one.channel, self._bundles, carried)
        self._stranger.push.send(encode_bundle(bundle))
        self.hear()

    def hear(self) -> list[Message]:
        while (heard := self._stranger.heard()) is not None:
            self.said.append(heard)
        return self.said

    def stay(self) -> None:
        self._stranger.dealer.send(encode(Ping(self.welcome.token, 1)))

    def close(self) -> None:
        self._stranger.close()
        self._context.destroy(linger=0)


@pytest.fixture(params=["none", "gzip", "zstd"])
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cluster]:
    keys = f'codec = "{request.param}"'
    made = Cluster(tmp_path, edges=1, aggregators=1, sinks=1, more=keys, roll_after="3s")
    yield made
    made.close()


def test_every_published_file_opens(cluster: Cluster) -> None:
    cluster.start()
    cluster.wait_running()
    cluster.write("edge-1", 2000)
    talk = Talk(cluster, "agg-1")
    try:
        for seq, variant in enumerate(VARIANTS, 1):
            talk.send(sealed(of_now(variant.sealed(seq))))
        talk.send(sealed(of_now(VARIANTS[0].sealed(len(VARIANTS) + 1), 3 * DAY_MS)))
        fates = [variant.fate for variant in VARIANTS]
        wait_for(
            lambda: sum(isinstance(one, Reject) for one in talk.hear()) == fates.count("rejected"),
            "what can never be published is rejected",
        )
        wait_for(lambda: any(isinstance(one, Later) for one in talk.hear()), "later, it is told")
        cluster.write("edge-1", 2000)

        def settled() -> bool:
            talk.stay()
            statuses = [cluster.status(name) for name in cluster.agents]
            waiting = [one["batches"] for each in statuses if each for one in each["outputs"]]
            dead = [each["channel"]["dead"] for each in statuses if each]
            settled = (fates.count("waits"), fates.count("dead"))
            return len(dead) == 3 and (sum(waiting), sum(dead)) == settled

        wait_for(settled, "all others are published, or dead", 120)
        all_published(cluster)
    finally:
        talk.close()
    lines: list[bytes] = []
    for file in published_files(cluster.out):
        lines += opened(file).splitlines(keepends=True)
    own = [line for line in lines if line not in _STRANGERS]
    assert sorted(own) == sorted(cluster.wanted())
    assert len(lines) - len(own) == fates.count("published") * len(_STRANGERS)
