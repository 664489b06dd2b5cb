"""Looking at every value of a channel: at each open, and for `tiers channel check`."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from lmdb.verify import VerifyError, verify

from tiers.channel.environment import AnyTransaction, Environment, Views
from tiers.channel.layout import (
    DATABASES,
    DEAD_KEY,
    IDENTITY,
    POSITION,
    QUEUE_KEY,
    SEEN_KEY,
    STATE,
    ChannelIdentity,
    ChannelState,
    Totals,
    unguard,
    unpack_identity,
    unpack_item,
    unpack_letter,
    unpack_state,
)
from tiers.channel.salvage.index import committed_groups
from tiers.channel.trees import file_end, misplaced, taken_for_trees, tree_entries
from tiers.core import batch, dedupe
from tiers.errors import BatchError, ChannelDamaged


class Head(NamedTuple):
    """The two values of `meta`."""

    identity: ChannelIdentity
    state: ChannelState


# A meta page: header (16 bytes) | magic, version, address, mapsize (24) | two trees (48 each, the
# first begins with the page size as a u32) | last page (8) | transaction number (8) | ...
_PAGE_SIZE: Final = struct.Struct("=40xI")
_META: Final = struct.Struct("=144xQ")


def structure_problems(path: Path) -> list[str]:
    """What lmdb.verify finds wrong with the file, and its meta pages; it is never opened as a
    database."""
    try:
        found = [str(problem) for problem in verify(str(path))]  # type: ignore[no-untyped-call]
        data = path / "data.mdb"
        checks = (
            *(_meta_problems, _order_problems, _end_problems, _name_problems),
            *(_key_problems, _kind_problems),
        )
        return found or next((more for check in checks if (more := check(data))), [])
    except (
        VerifyError,
        struct.error,
        OSError,
        ValueError,
        IndexError,
        OverflowError,
        MemoryError,
    ) as error:
        return [str(error) or type(error).__name__]


def _meta_problems(file: Path) -> list[str]:
    """The two meta pages are written in turns, so their transactions follow one another, but in a
    file that is quite new. A flipped bit in one of the numbers makes LMDB take the older page:
    whole, and without the last commit, so that acked batches were gone and the numbers of those
    after them were given again. (By two: see `_order_problems`.)"""
    with file.open("rb") as stream:
        head = stream.read(_META.size)
        stream.seek(_PAGE_SIZE.unpack_from(head)[0])
        numbers = [_META.unpack(page)[0] for page in (head, stream.read(_META.size))]
    if abs(numbers[0] - numbers[1]) == 1 or numbers == [0, 0]:
        return []
    return [f"meta pages of transactions {numbers[0]} and {numbers[1]}, which are no neighbours"]


def _order_problems(file: Path) -> list[str]:
    """The state that the newer meta page leads to must not be the older one, which it is when the
    number in the newest page became lower by two. LMDB keeps the tree before the last whole."""
    newer, older = [*committed_groups(file), None, None][:2]
    if newer is None or older is None or newer >= older:
        return []
    return [f"the newer meta page leads to group {newer}, the older one to {older}"]


def _end_problems(file: Path) -> list[str]:
    """Of a large value lmdb.verify looks at the first page only, and LMDB dies (SIGBUS) of one
    that the file ends within. A file that ends within free pages is sound."""
    end = file_end(file)
    if end.is_short and end.needed > end.size:
        return [f"the file has {end.size} bytes, and a value that ends at {end.needed}"]
    return []


def _name_problems(file: Path) -> list[str]:
    """The name of a tree has no checksum. LMDB would begin an empty one in place of the lost."""
    entries = tree_entries(file)
    strange = sorted(entries.keys() - set(DATABASES))
    return [f"a database of the name {name!r}" for name in strange]


def _key_problems(file: Path) -> list[str]:
    """lmdb.verify compares no key of a branch with those below it. With a wrong one some keys are
    not found, and LMDB puts new ones where they do not belong, or dies."""
    return [
        f"{name}: keys of page {page} are not where they belong" for name, page in misplaced(file)
    ]


def _kind_problems(file: Path) -> list[str]:
    """A value that is marked as a tree can be read, and the commit that deletes it fails."""
    return [f"{name}: a value that is marked as a tree" for name in taken_for_trees(file)]


def read_head(environment: Environment, txn: AnyTransaction) -> Head | None:
    """Identity and state; None in a channel that was not begun. Raises ChannelDamaged."""
    meta = environment.db["meta"]
    identity = txn.get(IDENTITY, db=meta)
    state = txn.get(STATE, db=meta)
    if identity is None and state is None:
        return None
    if identity is None or state is None:
        raise ChannelDamaged("one of the two values of meta is missing")
    return Head(
        unpack_identity(unguard("meta", IDENTITY, identity)),
        unpack_state(unguard("meta", STATE, state)),
    )


def value_problems(environment: Environment, *, bodies: bool) -> Iterator[str]:
    """What is wrong with values: checksums, what cannot be decoded, totals that do not fit.
    With `bodies` the records too."""
    with environment.viewing() as txn:
        try:
            head = read_head(environment, txn)
        except ChannelDamaged as error:
            yield str(error)
            head = None
        for name in ("notes", "queue", "records", "seen", "sums", "dead"):
            for key, stored in txn.cursor(environment.db[name]):
                try:
                    _decode(name, bytes(key), unguard(name, key, stored))
                except (ChannelDamaged, ValueError) as error:
                    yield f"{name}: {error}"
        if head is not None:
            yield from _total_problems(environment, txn, head.state)
        if bodies:
            yield from _body_problems(environment, txn)


def _decode(database: str, key: bytes, value: bytes) -> None:
    lengths = {"notes": POSITION, "queue": QUEUE_KEY, "seen": SEEN_KEY, "dead": DEAD_KEY}
    lengths["sums"] = SEEN_KEY
    if database in lengths and len(key) != lengths[database].size:
        raise ChannelDamaged(f"key {key!r} has a wrong length")
    if database == "queue":
        unpack_item(value)
    elif database == "seen":
        dedupe.decode(value)
    elif database == "dead":
        unpack_letter(value)
    elif database == "sums":
        dedupe.check_piece(value)


def _total_problems(environment: Environment, txn: Views, state: ChannelState) -> Iterator[str]:
    found = {one.id: Totals(one.id) for one in state.outputs.values()}
    batches = environment.db["batches"]
    for key, stored in txn.cursor(environment.db["queue"]):
        output_id, position = QUEUE_KEY.unpack(key)
        item = unpack_item(bytes(stored[4:]))
        if output_id not in found:
            yield f"queue: position {position} waits for an output {output_id} that is not known"
            continue
        totals = found[output_id]
        totals.batches += 1
        totals.events += item.count
        totals.size_bytes += item.size
        if txn.get(POSITION.pack(position), db=batches) is None:
            yield f"queue: position {position} has no batch"
    for key in txn.cursor(environment.db["notes"]).iternext(values=False):
        if txn.get(key, db=batches) is None:
            yield f"notes: position {POSITION.unpack(key)[0]} has no batch"
    for name, totals in state.outputs.items():
        if totals != found[totals.id]:
            yield f"state: output {name} has {found[totals.id]}, written down is {totals}"
    for what, database, count in (
        ("batches", "batches", state.batches),
        ("dead letters", "dead", state.dead),
    ):
        there = txn.stat(environment.db[database])["entries"]
        if there != count:
            yield f"state: there are {there} {what}, written down are {count}"


def _body_problems(environment: Environment, txn: Views) -> Iterator[str]:
    for key, record in txn.cursor(environment.db["batches"]):
        try:
            batch.verify(bytes(record))
        except BatchError as error:
            yield f"batches: position {POSITION.unpack(key)[0]}: {error}"
