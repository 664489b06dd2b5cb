"""What a sink finds of itself in the store that it does not know: then its disk went back in time,
or is there twice (delivery.md).

Names of files carry the sink, the start of its channel and a number that only grows. So a name of
this sink is known where its start is one of the channel's, and its number was given already. What
is older than the retention does not count: by then starts may be forgotten.
"""

import asyncio
import threading
from collections.abc import Container
from typing import Final

from tiers.contracts import SinkContext, Store
from tiers.core.commit import store_names
from tiers.errors import StoreUnavailable
from tiers.sinks.asking import SINK, Asking

_ROOMS: Final = ("tmp", "void", "manifests")


async def nothing_unknown(
    asking: Asking,
    context: SinkContext,
    store: Store,
    sink: str,
    starts: Container[str],
    last_file_id: int,
    stop: threading.Event,
) -> None:
    """Does not return where the store has a file of this sink that it does not know."""
    retention_ms = int(context.retention_s * 1000)
    trace = await asking.until_clear(
        SINK, lambda: unknown_trace(store, sink, starts, last_file_id, retention_ms, stop)
    )
    if trace:
        context.renew(f"{trace} is a file of its own that it does not know")
        await asyncio.get_running_loop().create_future()


def unknown_trace(
    store: Store,
    sink: str,
    starts: Container[str],
    last_file_id: int,
    retention_ms: int,
    stop: threading.Event,
) -> str:
    """The path of one that is not known; empty where there is none. `starts` as in names. Blocks;
    raises as the store does, and StoreUnavailable when it is to stop."""
    since_ms = store.now_ms() - retention_ms
    for day in store.list(store_names.OWN) or []:
        if not day.is_directory or not store_names.is_day(day.name):
            continue
        for room in _ROOMS:
            if stop.is_set():
                raise StoreUnavailable("the sink stops")
            path = f"{store_names.OWN}/{day.name}/{room}"
            for entry in store.list(path) or []:
                written = store_names.split_file_name(entry.name)
                if written is None or entry.modified_ms < since_ms:
                    continue
                writer, file_id = written
                named, _, start = writer.rpartition(".")
                if named == sink and (start not in starts or file_id > last_file_id):
                    return f"{path}/{entry.name}"
    return ""
