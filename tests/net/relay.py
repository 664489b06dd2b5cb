"""A TCP relay that takes its time: `relay HOST PORT` listens on PORT + 10000 and on the one after
it, and passes on to HOST, 200 ms later, in both directions."""

import asyncio
import contextlib
import sys

DELAY_S = 0.2
BLOCK_BYTES = 1 << 16
WAITING_MAX = 256  # blocks under way in one direction


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    loop = asyncio.get_running_loop()
    waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(WAITING_MAX)

    async def take() -> None:
        while block := await reader.read(BLOCK_BYTES):
            await waiting.put((loop.time() + DELAY_S, block))
        await waiting.put((loop.time() + DELAY_S, b""))

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(take())
        while True:
            due, block = await waiting.get()
            await asyncio.sleep(max(0.0, due - loop.time()))
            if not block:
                break
            writer.write(block)
            await writer.drain()
    writer.close()


async def serve(host: str, port: int) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ExceptionGroup):
            beyond_reader, beyond_writer = await asyncio.open_connection(host, port)
            await asyncio.gather(
                pass_on(reader, beyond_writer),
                pass_on(beyond_reader, writer),
                return_exceptions=True,
            )
        writer.close()

    server = await asyncio.start_server(connected, "0.0.0.0", port + 10_000)
    await server.serve_forever()


async def main() -> None:
    host, port = sys.argv[1], int(sys.argv[2])
    await asyncio.gather(serve(host, port), serve(host, port + 1))


if __name__ == "__main__":
    asyncio.run(main())
