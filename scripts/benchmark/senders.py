"""`scripts/bench senders`: many senders with small batches, and one aggregator, over ZeroMQ.

The aggregator is an agent as it is, a process of its own with a channel and an fsync before every
ack; what it should send on waits there. The senders (crowd.py) live in this process. Theirs is one
address: as agents behind one NAT, all of them lose the aggregator at once when it dies, and come
again at once.
"""

import asyncio
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from benchmark.crowd import PEER, Crowd
from benchmark.meter import cpu_s, peak_memory
from benchmark.tiers_local import start
from tiers.agent.descriptors import raise_limit
from tiers.errors import TiersError
from tiers.observe.client import ask
from tiers.topology import Address
from tiers.trial.demo import free_loopback

_PORT: Final = 7400
_LOOK_S: Final = 0.02
_CALM_S: Final = 4.0  # until the meter of turns has begun
_ALL_ACKED_WITHIN_S: Final = 60.0
_DESCRIPTORS_OF_A_SENDER: Final = 9
_NAME: Final = "senders"
_TOPOLOGY: Final = """
name = "{name}"
data = "{root}/agents"
[tiers.edge]
agents = ["edge"]
next = "aggregator"
[[tiers.edge.sources]]
type = "tail"
paths = ["{root}/logs/*.log"]
[tiers.aggregator]
agents = {{ aggregator = "{host}:{port}" }}
next = "sink"
[tiers.sink]
agents = {{ sink = "{host}:7410" }}
[[tiers.sink.sinks]]
type = "directory"
root = "{root}/published"
"""


@dataclass(frozen=True, slots=True)
class Figures:
    """What one aggregator does for so many senders."""

    senders: int
    sessions_s: float  # from the first connection until all had one
    sessions_again_s: float  # the same, from the start of the aggregator that had been killed
    idle_percent: float  # of a core that it takes while all have a session and nothing comes
    offered_per_second: int  # batches
    acked_per_second: float
    cpu_s_per_1000: float  # of the aggregator, for 1,000 batches
    memory_bytes_max: int  # RssAnon and RssShmem
    longest_turn_s: float  # of its loop; 0: none was worth noting
    longest_turn_at: str
    turned_away: int  # connections that the gate closed
    troubles: dict[str, int]  # what senders said, and how often

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """For a person."""
        yield f"{self.senders:,} senders, all in session after {self.sessions_s:.1f} s"
        yield f"once more after the aggregator was killed: {self.sessions_again_s:.1f} s"
        yield f"{self.acked_per_second:,.0f} batches/s acked, {self.offered_per_second:,} came"
        yield (
            f"aggregator: {self.cpu_s_per_1000:.2f} CPU s per 1,000 batches, "
            f"{self.idle_percent:.0f} % of a core while nothing comes, "
            f"{self.memory_bytes_max / 1e6:.0f} MB"
        )
        turn = f"{self.longest_turn_s * 1e3:.0f} ms in {self.longest_turn_at}"
        yield f"longest turn: {turn if self.longest_turn_s else 'none above 20 ms'}"
        yield f"connections that the gate closed: {self.turned_away:.0f}"
        for text, times in self.troubles.items():
            yield f"{times} times: {text}"


class Aggregator:
    """The process; killed and started again by `again`."""

    def __init__(self, root: Path) -> None:
        (root / "logs").mkdir(parents=True)
        self.root = root
        self.host = free_loopback([_PORT])
        self._file = root / "senders.toml"
        self._file.write_text(_TOPOLOGY.format(name=_NAME, root=root, host=self.host, port=_PORT))
        self._process = self._start()

    def _start(self) -> "subprocess.Popen[bytes]":
        return start(self._file, PEER, self.root)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def again(self) -> None:
        self._process.kill()
        await asyncio.to_thread(self._process.wait)
        self._process = self._start()

    async def status(self) -> dict[str, Any]:
        """Raises TiersError where it does not answer."""
        answer = await ask(self.root / "agents" / PEER, agent=PEER)
        if isinstance(answer, str):
            raise TiersError(f"the aggregator does not answer: {answer}; see {self.root}")
        return answer

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()


@contextmanager
def _aggregator(root: Path) -> Iterator[Aggregator]:
    made = Aggregator(root)
    try:
        yield made
    finally:
        made.stop()


def measure_senders(
    root: Path, count: int, rate: int, at_once: int, seconds: float, within_s: float
) -> Figures:
    """Raises TiersError where some have no session after `within_s`, or no ack."""
    if (most := raise_limit()) < count * _DESCRIPTORS_OF_A_SENDER + 200:
        wanted = count * _DESCRIPTORS_OF_A_SENDER + 200
        raise TiersError(f"{count} senders need {wanted} descriptors, there are {most}: ulimit -n")
    with _aggregator(root) as aggregator:
        return asyncio.run(_measure(aggregator, count, rate, at_once, seconds, within_s))


async def _measure(
    aggregator: Aggregator,
    count: int,
    rate: int,
    at_once: int,
    seconds: float,
    within_s: float,
) -> Figures:
    crowd = Crowd(_NAME, count, Address(aggregator.host, _PORT))
    try:
        with peak_memory([aggregator.pid]) as peaks:
            crowd.connect()
            sessions_s = await _all_in_session(crowd, count, within_s)
            await asyncio.sleep(_CALM_S)
            began, before_s = time.monotonic(), cpu_s(aggregator.pid)
            await asyncio.sleep(_CALM_S)
            idle = (cpu_s(aggregator.pid) - before_s) / (time.monotonic() - began)
            began, before_s = time.monotonic(), cpu_s(aggregator.pid)
            await crowd.offer(rate, at_once, seconds)
            per_second = crowd.acked() / (time.monotonic() - began)
            await _all_acked(crowd)
            used_s = cpu_s(aggregator.pid) - before_s
            told = await aggregator.status()
        await aggregator.again()
        await _none_in_session(crowd)
        again_s = await _all_in_session(crowd, count, within_s)
    finally:
        await crowd.close()
    return Figures(
        senders=count,
        sessions_s=sessions_s,
        sessions_again_s=again_s,
        idle_percent=100 * idle,
        offered_per_second=rate,
        acked_per_second=per_second,
        cpu_s_per_1000=1000 * used_s / crowd.acked(),
        memory_bytes_max=max(peaks.values()),
        longest_turn_s=told["loop"]["longest_turn_s"],
        longest_turn_at=told["loop"]["longest_turn_at"],
        turned_away=told["receiver"]["gate"]["turned_away"],
        troubles=crowd.troubles,
    )


async def _all_in_session(crowd: Crowd, count: int, within_s: float) -> float:
    """How long that took."""
    began = time.monotonic()
    while (up := crowd.in_session()) < count:
        if time.monotonic() - began > within_s:
            raise TiersError(
                f"of {count} senders {count - up} have no session after {within_s:g} s: "
                f"{crowd.troubles or 'they have heard nothing'}"
            )
        await asyncio.sleep(_LOOK_S)
    return time.monotonic() - began


async def _none_in_session(crowd: Crowd) -> None:
    while crowd.in_session():  # noqa: ASYNC110 the senders have no events to wait for
        await asyncio.sleep(_LOOK_S)


async def _all_acked(crowd: Crowd) -> None:
    until = time.monotonic() + _ALL_ACKED_WITHIN_S
    while left := crowd.left():
        if time.monotonic() > until:
            raise TiersError(f"{left} batches are not acked after {_ALL_ACKED_WITHIN_S:g} s")
        await asyncio.sleep(_LOOK_S)
