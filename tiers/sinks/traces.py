"""What a sink finds of itself in the store that it does not know: then its disk went back in time,
or is there twice (delivery.md).

Names of files carry the sink, the start of its channel and a number that only grows. So a name of
this sink is known where its start is one of the channel's, and its number was given already. What
is older than the retention does not count: by then starts may be forgotten.
"""

import threading
from collections.abc import Container
from typing import Final

from tiers.contracts import Store
from tiers.core import layout
from tiers.errors import StoreUnavailable

_ROOMS: Final = ("tmp", "void", "manifests")


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
    for day in store.list(layout.OWN) or []:
        if not day.is_directory or not layout.is_day(day.name):
            continue
        for room in _ROOMS:
            if stop.is_set():
                raise StoreUnavailable("the sink stops")
            path = f"{layout.OWN}/{day.name}/{room}"
            for entry in store.list(path) or []:
                written = layout.split_file_name(entry.name)
                if written is None or entry.modified_ms < since_ms:
                    continue
                writer, file_id = written
                named, _, start = writer.rpartition(".")
                if named == sink and (start not in starts or file_id > last_file_id):
                    return f"{path}/{entry.name}"
    return ""
