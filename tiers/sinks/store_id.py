"""The id of a store, in `.tiers/store-id`: how agents find out that they write to the same one."""

import secrets
import threading

from tiers.core import layout
from tiers.errors import StoreRefused, StoreUnavailable
from tiers.sinks.stores.store import Moved, Store

_TRIES = 3
_BYTES_MAX = 64


def agree_on_store_id(store: Store, stop: threading.Event) -> str:
    """The store's id, 32 hex digits, made by whoever comes first. Blocks. StoreRefused where the
    file holds something else."""
    for _ in range(_TRIES):
        data = store.read(layout.STORE_ID, _BYTES_MAX)
        if data is not None:
            text = data.decode(errors="replace").strip()
            if len(text) != 32 or not text.isalnum():
                raise StoreRefused(f"{layout.STORE_ID} holds {text!r:.60}, which is no id")
            return text
        if stop.is_set():
            break
        staged = layout.staged_store_id_path(secrets.randbits(64))
        store.write(staged, [secrets.token_hex(16).encode() + b"\n"])
        if store.move(staged, layout.STORE_ID) is not Moved.DONE:
            store.delete(staged)  # another was first: read theirs
    raise StoreUnavailable(f"{layout.STORE_ID} cannot be made, and is not there")
