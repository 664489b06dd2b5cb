"""Looking into the channel of a stopped agent: nothing is written, not even LMDB's lock file."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tiers.channel.checking import Head, read_head, structure_problems, value_problems
from tiers.channel.disk import why_locked
from tiers.channel.environment import Environment, translated
from tiers.channel.foreign import refuse_foreign
from tiers.channel.layout import SET_ASIDE, unguard
from tiers.channel.reader import Reader
from tiers.channel.salvage.salvage import Batch, SalvageEnd, read_mark, salvage
from tiers.errors import ChannelDamaged, UsageError


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a stopped channel holds. Sizes in bytes, times in ms since the epoch."""

    path: Path
    head: Head
    used_bytes: int
    file_bytes: int
    oldest_ms: dict[str, int | None]  # by output
    windows: int  # blocks of the dedupe window
    records: dict[bytes, bytes]
    set_aside: str


@contextmanager
def stopped(directory: Path) -> Iterator[Path]:
    """The channel's own directory, of DIR/NAME or DIR/NAME/channel, held so that no agent starts
    meanwhile. UsageError when there is no channel, or an agent runs on it."""
    path = directory if (directory / "data.mdb").exists() else directory / "channel"
    if not (path / "data.mdb").exists():
        raise UsageError(f"{directory}: there is no channel here (no data.mdb)")
    lock_file = path.resolve().parent / "lock"
    if path.resolve().name != "channel" or not lock_file.exists():
        yield path  # one that was set aside: no agent uses it
        return
    with translated("lock"):
        lock = os.open(lock_file, os.O_RDWR)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(why_locked(lock, path.resolve().parent)) from None
        yield path
    finally:
        os.close(lock)


def problems(path: Path) -> list[str]:
    """Everything that is wrong with the channel at `path`: its structure first, and only when
    that is sound every checksum, those of bodies too."""
    refuse_foreign(path / "data.mdb")
    found = structure_problems(path)
    if found:
        return found
    if (path / "damaged").exists():
        reason = (path / "damaged").read_text(errors="replace")
        found.append(f"an agent found it damaged, the next start sets it aside: {reason}")
    environment = Environment(path, 1 << 20, readonly=True)
    try:
        return found + list(value_problems(environment, bodies=True))
    except ChannelDamaged as error:
        return [*found, str(error)]
    finally:
        environment.close()


@contextmanager
def reading(path: Path) -> Iterator[tuple[Environment, Head, Reader]]:
    """The channel at `path`, its structure checked. ChannelDamaged when it cannot be read,
    UsageError when nothing is there yet."""
    refuse_foreign(path / "data.mdb")
    found = structure_problems(path)
    if found:
        raise ChannelDamaged(f"{path} is damaged: {found[0]} (see `tiers channel check`)")
    environment = Environment(path, 1 << 20, readonly=True)
    try:
        with environment.reading() as txn:
            head = read_head(environment, txn)
        if head is None:
            raise UsageError(f"{path}: no agent has begun a channel here yet")
        outputs = {name: totals.id for name, totals in head.state.outputs.items()}
        yield environment, head, Reader(environment, outputs)
    finally:
        environment.close()


@dataclass(frozen=True, slots=True)
class Salvageable:
    """What could be read of a channel if it were salvaged now."""

    batches: int
    events: int
    dead: int  # dead letters among them
    lost: int  # batches that the channel held and whose records cannot be read
    lost_events: int
    positions: int  # of sources: files and the like
    exact: bool  # what it held is known, so nothing else is lost
    salvaged: bool  # an agent has done it


def salvageable(path: Path) -> Salvageable:
    """Reads the whole channel without LMDB, as an agent's salvage would. Raises OSError."""
    found: list[Batch] = []
    positions, exact = 0, False
    for told in salvage(path, 0):
        match told:
            case Batch():
                found.append(told._replace(record=told.record[:1], note=b""))
            case SalvageEnd():
                exact = told.exact
            case _:
                positions = len(told.positions)
    there = [one for one in found if one.record]
    return Salvageable(
        batches=len(there),
        events=sum(one.events for one in there),
        dead=sum(bool(one.letters) for one in there),
        lost=len(found) - len(there),
        lost_events=sum(one.events for one in found if not one.record),
        positions=positions,
        exact=exact,
        salvaged=read_mark(path) is not None,
    )


def look(path: Path) -> Inspection:
    """What the channel holds. ChannelDamaged when that cannot be told."""
    with reading(path) as (environment, head, reader):
        with environment.reading() as txn:
            used_bytes = environment.used_bytes(txn)
            windows = txn.stat(environment.db["seen"])["entries"]
            note = txn.get(SET_ASIDE, db=environment.db["records"])
        return Inspection(
            path,
            head,
            used_bytes,
            environment.file_bytes(),
            {name: reader.oldest_ms(each.id) for name, each in head.state.outputs.items()},
            windows,
            reader.records(b""),
            unguard("records", SET_ASIDE, note).decode() if note is not None else "",
        )
