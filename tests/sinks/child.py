"""A process to be killed: `python -m tests.sinks.child DIR CODEC BATCHES`.

It stores the same batches each time (those stored before are known as seen) and publishes them
from DIR/agent into DIR/out.
"""

import asyncio
import sys
from pathlib import Path

from tests.sinks.parts import OUTPUT, Said, open_channel, put, record
from tiers.core.change import Change
from tiers.sinks.directory import DirectoryOptions, DirectorySink


async def main(directory: Path, codec: str, batches: int) -> None:
    channel = await open_channel(directory / "agent")
    options = DirectoryOptions.model_validate(
        {
            "type": "directory",
            "root": directory / "out",
            "codec": codec,
            "roll_size": 40_000 if codec == "none" else 8_000,
            "roll_after": "50ms",
        }
    )
    said = Said(channel)
    sink = DirectorySink(options, said.context())
    running = asyncio.create_task(sink.run())
    print("ready", flush=True)
    for first in range(1, batches + 1, 10):
        puts = []
        for seq in range(first, first + 10):
            lines = b"".join(b"batch %d line %d\n" % (seq, i) for i in range(20))
            puts.append(put(record(lines, seq), seq, 20))
        await channel.submit(Change(puts=puts))
    sink.drain()
    while channel.entries(OUTPUT, limit=1) or channel.records(b"plan/"):
        assert not running.done(), running
        await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await channel.close()
    assert not said.troubles, said.troubles


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
