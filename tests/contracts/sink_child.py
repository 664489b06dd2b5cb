"""A process to be killed: `python -m tests.contracts.sink_child DIR TYPE OPTIONS BATCHES [bug]`.

It stores the same batches each time, and delivers them from DIR/agent. Its standard output is the
sink's; on its standard error there is a line for each commit.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from tests.contracts.sinking import make, plant, store
from tests.sinks.parts import OUTPUT, Said, open_channel
from tests.waiting import eventually


async def main(directory: Path, type_: str, options: dict[str, Any], batches: int) -> None:
    channel = await open_channel(directory / "agent")
    said = Said(channel)
    sink = make(type_, said, **options)
    running = asyncio.create_task(sink.run())
    channel.subscribe(lambda: print("committed", file=sys.stderr, flush=True))
    for first in range(1, batches + 1, 10):
        await store(channel, range(first, first + 10))
    sink.drain()
    await eventually(lambda: running.done() or not channel.entries(OUTPUT, limit=1))
    assert not running.done(), running
    await eventually(lambda: not channel.records(b"plan/"))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await channel.close()
    assert not said.troubles, said.troubles


if __name__ == "__main__":
    directory, type_, options, batches, *planted = sys.argv[1:]
    if planted:
        plant()
    asyncio.run(main(Path(directory), type_, json.loads(options), int(batches)))
