"""The id of a store, in `.tiers/store-id`: how agents find out that they write to the same one, and
a sink that it is still the one it wrote to. Below a file system that was not mounted at this start,
and in another cluster, all that was published would seem never to have been.

    records  "store/" output     msgpack [where, id]: where the sink wrote last
"""

import asyncio
import threading

import msgpack

from tiers.contracts import Channel, Clock, SinkContext, Store
from tiers.core.change import Change
from tiers.core.commit import store_names
from tiers.core.commit.answers import Moved
from tiers.errors import StoreRefused, StoreUnavailable
from tiers.sinks.asking import SINK, Asking

_TRIES = 3
_BYTES_MAX = 64


async def find_store(
    asking: Asking, context: SinkContext, store: Store, stop: threading.Event
) -> str:
    """The store's id. Does not return where it is not the store that was there before."""
    channel, output, where = context.channel, context.outlet.output, store.where()
    known = known_store_id(channel, output, where)
    store_id = await asking.until_clear(
        SINK, lambda: agree_on_store_id(store, stop, context.world, known)
    )
    if store_id != known:
        await asyncio.shield(channel.submit(remembered(output, where, store_id)))
    return store_id


def known_store_id(channel: Channel, output: str, where: str) -> str:
    """The id of the store that was there last; empty where the sink wrote elsewhere, or never."""
    found = channel.records(_key(output)).get(_key(output))
    if found is None:
        return ""
    there, store_id = msgpack.unpackb(found)
    return str(store_id) if there == where else ""


def remembered(output: str, where: str, store_id: str) -> Change:
    """What is to be known at the next start."""
    return Change(records={_key(output): bytes(msgpack.packb([where, store_id]))})


def agree_on_store_id(store: Store, stop: threading.Event, clock: Clock, known: str = "") -> str:
    """The store's id, 32 hex digits, made by whoever comes first. Blocks. StoreRefused where the
    file holds something else, and where it is not the `known` one."""
    store_id = _agreed(store, stop, clock, known)
    if known and store_id != known:
        raise StoreRefused(_another(known, store_id))
    return store_id


def _another(known: str, found: str) -> str:
    return (
        f"not the store that this sink wrote to before: its id was {known}, and it is "
        f"{found or 'gone'} now. Is a file system not mounted, or is this another cluster? If it "
        f"is meant to be so, write {known} into {store_names.STORE_ID} there"
    )


def _agreed(store: Store, stop: threading.Event, clock: Clock, known: str) -> str:
    for _ in range(_TRIES):
        data = store.read(store_names.STORE_ID, _BYTES_MAX)
        if data is not None:
            text = data.decode(errors="replace").strip()
            if len(text) != 32 or not text.isalnum():
                raise StoreRefused(f"{store_names.STORE_ID} holds {text!r:.60}, which is no id")
            return text
        if stop.is_set():
            break
        if known and not any(
            store_names.is_day(one.name) for one in store.list(store_names.OWN) or ()
        ):
            raise StoreRefused(_another(known, ""))
        # Where it is known and days are there, somebody has removed the file alone.
        staged = store_names.staged_store_id_path(clock.number())
        store.write(staged, [(known or clock.token(16).hex()).encode() + b"\n"])
        if store.move(staged, store_names.STORE_ID) is not Moved.DONE:
            store.delete(staged)  # another was first: read theirs
    raise StoreUnavailable(
        f"{store_names.STORE_ID} cannot be made, and is not there: move away what lies in its place"
    )


def _key(output: str) -> bytes:
    return f"store/{output}".encode()
