"""`scripts/bench headers`: what it costs that events of one source differ in their headers.

So many hosts, each an address of the loopback network with a TCP connection, send syslog messages
to one source at an even rate, turn by turn with and without `client_header`: the same bytes, in one
batch after the other, or in an open batch for each host (core/entry/cutting.py).
"""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from statistics import median
from typing import Any, Final

from benchmark.meter import cpu_s
from benchmark.tiers_local import Tiers, running
from tiers.channel.meters import PUTS
from tiers.errors import TiersError
from tiers.trial.numbered_lines import AccessLog

ONE: Final = "one value"
_PORT: Final = 5514
_ROLL_AFTER: Final = "1s"
_EVERY_S: Final = 0.1  # each host sends a few lines so often
_FIRST_HOST: Final = IPv4Address("127.77.0.1")
_STEP_S: Final = 0.01
_LOOK_S: Final = 0.5
_SOURCE: Final = """
[[tiers.edge.sources]]
type = "syslog"
transports = ["tcp"]
listen = "{{host}}:{port}"
connections_max = {connections}
"""
_CLIENT: Final = 'client_header = "client"\n'


@dataclass(frozen=True, slots=True)
class Turn:
    """One pass."""

    kind: str
    cpu_s_per_million: float  # of all three agents
    events_per_batch: float


@dataclass(slots=True)
class Figures:
    """All turns."""

    hosts: int
    lines_per_second: int
    turns: list[Turn] = field(default_factory=list)

    @property
    def many(self) -> str:
        return f"{self.hosts} values"

    def median_cpu_s(self, kind: str) -> float:
        """CPU s per million events."""
        return median(turn.cpu_s_per_million for turn in self.turns if turn.kind == kind)

    @property
    def ratio(self) -> float:
        """CPU per event with many values to that with one."""
        return self.median_cpu_s(self.many) / self.median_cpu_s(ONE)

    def lines(self) -> Iterator[str]:
        """For a person."""
        yield f"{self.hosts:,} hosts, {self.lines_per_second:,} lines/s"
        for kind in (ONE, self.many):
            batch = median(turn.events_per_batch for turn in self.turns if turn.kind == kind)
            yield (
                f"{kind:<12} {self.median_cpu_s(kind):.2f} CPU s per million events, "
                f"{batch:,.0f} events a batch"
            )
        yield f"CPU per event, many values to one: {self.ratio:.2f}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"cpu_ratio": self.ratio}


def measure_headers(root: Path, hosts: int, rate: int, seconds: float, runs: int) -> Figures:
    """Raises TiersError where lines are lost."""
    figures = Figures(hosts, rate)
    each = max(1, round(rate * _EVERY_S / hosts))
    rounds = max(1, round(rate * seconds / (hosts * each)))
    log = AccessLog(seed=1)
    chunks = [_messages(log.block(each)) for _ in range(hosts)]
    for number in range(runs):
        for kind in (ONE, figures.many):
            place = root / f"{number}-{kind.replace(' ', '-')}"
            source = _SOURCE.format(port=_PORT, connections=2 * hosts)
            if kind != ONE:
                source += _CLIENT
            with running(place, "zstd", _ROLL_AFTER, source=source) as tiers:
                figures.turns.append(_turn(tiers, kind, chunks, rounds, rate))
    return figures


def _messages(lines: bytes) -> bytes:
    return b"".join(b"<13>" + line for line in lines.splitlines(keepends=True))


def _turn(tiers: Tiers, kind: str, chunks: list[bytes], rounds: int, rate: int) -> Turn:
    lines = sum(chunk.count(b"\n") for chunk in chunks)
    events = rounds * lines
    before = {pid: cpu_s(pid) for pid in tiers.pids.values()}
    _send(tiers.host, chunks, rounds, lines / rate)
    tiers.until(lambda told: told["sink"]["events_out"] >= events, _LOOK_S)
    used_s = sum(cpu_s(pid) - before[pid] for pid in before)
    if (found := tiers.lines_published()) != events:
        raise TiersError(f"{found} lines published of {events}; see {tiers.root}")
    return Turn(kind, used_s / events * 1e6, events / tiers.told("edge", PUTS))


def _send(host: str, chunks: list[bytes], rounds: int, a_round_s: float) -> None:
    """Each chunk by its own host, so many times, evenly."""
    with ExitStack() as stack:
        hosts = []
        for number, _ in enumerate(chunks):
            here = (str(_FIRST_HOST + number), 0)
            connection = socket.create_connection((host, _PORT), source_address=here)
            hosts.append(stack.enter_context(connection))
        began = time.monotonic()
        for number in range(rounds):
            for place, connection in enumerate(hosts):
                due_s = began + (number + place / len(hosts)) * a_round_s
                if (early_s := due_s - time.monotonic()) > _STEP_S:
                    time.sleep(early_s)
                connection.sendall(chunks[place])
