"""An agent's process without an agent: it serves a status and obeys, and nothing else.

    python -m tests.observe.stand_in agent TOPOLOGY NAME --data DIR

`DIR/NAME/script.json` says how it behaves, and is read at each start and each request:
`status` (laid over the plain one), `exit` (ends at once with that status), `drained` (its exit
status after a drain, 0), `hold` (hears of a drain and goes on), `deaf` (takes no SIGTERM). What
it lived through is appended to `DIR/NAME/lives.txt`, a word each.
"""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from tiers.observe.meters import Meters
from tiers.observe.status import StatusServer
from tiers.transport.meters import PEER_CREDIT


def plain_status(name: str) -> dict[str, Any]:
    """A healthy agent that has done a little."""
    return {
        "agent": name,
        "tier": "edge",
        "pid": os.getpid(),
        "state": "running",
        "healthy": True,
        "now_ms": 10_000,
        "events_in": 1000,
        "bytes_in": 170_000,
        "events_out": 900,
        "bytes_out": 40_000,
        "channel": {"used_bytes": 4096, "free_bytes": 2**30, "oldest_s": 1.5, "dead": 0},
        "sources": [],
        "outputs": [
            {
                "name": "aggregator",
                "kind": "sender",
                "events": 100,
                "error": "",
                "detail": {"peers": [{"agent": "agg-1", "state": "up"}]},
            }
        ],
        "last_error": {"at_ms": 0, "text": ""},
        "meters": {
            PEER_CREDIT.shown: [
                {"labels": {"output": "aggregator", "peer": "agg-1"}, "value": 1 << 24}
            ]
        },
    }


def note(directory: Path, word: str) -> None:
    with (directory / "lives.txt").open("a") as lives:
        lives.write(f"{word}\n")


async def main(name: str, directory: Path) -> int:
    def script() -> dict[str, Any]:
        file = directory / "script.json"
        return dict(json.loads(file.read_text())) if file.exists() else {}

    end: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def finish(word: str, status: int) -> None:
        # When a supervisor of several threads is killed, the signal may come once for each.
        if not end.done():
            note(directory, word)
            end.set_result(status)

    directory.mkdir(parents=True, exist_ok=True)
    if script().get("deaf"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, lambda: finish("stopped", 0))
    note(directory, "begun")  # once it obeys
    print(f"stand-in {name} begins", flush=True)
    if "exit" in script():
        return int(script()["exit"])

    def drain() -> None:
        if script().get("hold"):
            note(directory, "told")
        else:
            finish("drained", int(script().get("drained", 0)))

    def snapshot() -> dict[str, Any]:
        return plain_status(name) | dict(script().get("status", {}))

    server = StatusServer(snapshot, dict, Meters(), list, drain, directory, None)
    await server.start()
    status = await end
    await server.stop()
    return status


if __name__ == "__main__":
    _, _, _, agent, _, data = sys.argv
    sys.exit(asyncio.run(main(agent, Path(data) / agent)))
