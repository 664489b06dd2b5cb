"""Opening a channel: who may, whether the file can be trusted, and what happens when not.

DIR/lock                      held by flock while an agent lives; holds its pid
DIR/running                   there while an agent lives: found at a start, the last run was cut off
DIR/channel/data.mdb          the LMDB file (and lock.mdb)
DIR/channel/begun             the channel's id: from then on data.mdb is neither gone nor empty
DIR/channel/damaged           why a running agent found that the channel is damaged
DIR/channel.damaged-<UTC>     a channel that was set aside; told of for as long as it is there

Every open looks at the whole structure and at every value but bodies, after a clean stop as after
a crash: bits turn at rest too, and LMDB dies of some. That takes a second for 100,000 batches.
"""

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from tiers.channel.accounts import Accounts, counted
from tiers.channel.beginnings import outputs_of_file
from tiers.channel.checking import Head, read_head, value_problems
from tiers.channel.disk import LMDB, Disk
from tiers.channel.environment import GROW_BYTES, Environment, MapFull, translated
from tiers.channel.foreign import refuse_foreign
from tiers.channel.home import Home
from tiers.channel.layout import SET_ASIDE, ChannelIdentity, ChannelState, guard, unguard
from tiers.channel.living import Begun, ChannelLife, Starting
from tiers.channel.mounts import mount_table, refuse_network
from tiers.contracts import Clock
from tiers.errors import ChannelDamaged, ChannelUnavailable
from tiers.host.clock import CLOCK
from tiers.host.durable import sync_directory, write_durably

HEADROOM_BYTES_MIN: Final = 64 << 20
SET_ASIDE_STEM: Final = "channel.damaged-"


class Opened(NamedTuple):
    """A channel that may be used."""

    environment: Environment
    identity: ChannelIdentity
    state: ChannelState
    set_aside: str  # empty, or what happened to the channel that was here before
    life: ChannelLife
    news: str  # empty, or what happened to its disk
    accounts: Accounts


def open_directory(
    directory: Path,
    size_bytes_max: int,
    outputs: Sequence[str],
    retention_ms: int,
    clock: Clock = CLOCK,
    disk: Disk = LMDB,
) -> Opened:
    """The channel of DIR/channel, checked, with a new start (living.py); a fresh one where there is
    none, or none that can be trusted. The caller holds the lock. Raises UsageError (nothing was
    changed then), and ChannelUnavailable."""
    refuse_network(directory.resolve(), mount_table())
    path = directory / "channel"
    with translated("look at the channel"):
        refuse_foreign(path / "data.mdb")
    how = size_bytes_max, outputs, retention_ms, clock, disk
    reason = _damage_before_open(path, disk)
    if not reason:
        try:
            return _open(path, *how, "", check=True)
        except ChannelDamaged as error:
            reason = str(error)
    kept = _set_aside(directory, path)
    text = (
        f"the channel was damaged ({reason}); it was set aside as {kept} on {_utc_now()} "
        "and a fresh one begun"
    )
    return _open(path, *how, text, check=False)


def begin_run(directory: Path) -> bool:
    """Notes that an agent lives; whether the last run had no end of its own (a kill, a power cut).
    Not fsynced, since it is only told to people."""
    mark = directory / "running"
    with translated("note that an agent runs"):
        unclean = mark.exists()
        with suppress(OSError):  # on a full disk it is not said the next time
            mark.touch()
    return unclean


def end_run(directory: Path) -> None:
    """This run has come to its end."""
    with suppress(OSError):
        (directory / "running").unlink(missing_ok=True)


def mark_damaged(path: Path, reason: str) -> None:
    """Notes that the channel at `path` must be set aside at the next open."""
    with translated("mark as damaged"):
        write_durably(path / "damaged", reason.encode())


def _damage_before_open(path: Path, disk: Disk) -> str:
    """Why the file must not even be opened; empty when it may."""
    with translated("look at the channel"):
        damaged = path / "damaged"
        if damaged.exists():
            return damaged.read_text(errors="replace") or "found while it ran"
    return disk.damage(path)


def _open(
    path: Path,
    size_bytes_max: int,
    outputs: Sequence[str],
    retention_ms: int,
    clock: Clock,
    disk: Disk,
    set_aside: str,
    *,
    check: bool,
) -> Opened:
    with translated("make the channel's directory"):
        path.mkdir(mode=0o700, exist_ok=True)
    map_bytes = size_bytes_max + max(size_bytes_max // 8, HEADROOM_BYTES_MIN)
    environment = disk.open(path, map_bytes)
    try:
        if check:
            for problem in value_problems(environment, bodies=False):
                raise ChannelDamaged(problem)
        with environment.reading() as txn:
            head = read_head(environment, txn)
            if head is not None:
                stored = txn.get(SET_ASIDE, db=environment.db["records"])
                # Once nothing that was set aside is left, somebody has looked.
                if stored is not None and any(path.parent.glob(f"{SET_ASIDE_STEM}*")):
                    set_aside = unguard("records", SET_ASIDE, stored).decode()
        new = set_aside if head is None else ""
        with translated("look at its file"):
            home = disk.home(path)
        begun = _begin(environment, head, outputs, retention_ms, new, home, clock)
        identity = begun.identity
        with environment.reading() as txn:
            accounts = counted(environment, txn, size_bytes_max)
        if not (path / "begun").exists():
            with suppress(OSError):  # on a full disk: at the next open then
                write_durably(path / "begun", identity.channel_id.hex().encode())
        sync_directory(path)
        _sync_upwards(path.parent)
    except BaseException:
        environment.close()
        raise
    return Opened(environment, identity, begun.state, set_aside, begun.life, begun.news, accounts)


def _begin(
    environment: Environment,
    head: Head | None,
    outputs: Sequence[str],
    retention_ms: int,
    set_aside: str,
    home: Home,
    clock: Clock,
) -> Begun:
    """The new start, on disk when this returns."""
    opened = environment.last_commit()
    while True:
        identity = head.identity if head else ChannelIdentity(clock.token(16), clock.now_ms())
        state = head.state.copy() if head else ChannelState()
        if head is None:
            state.add_outputs(outputs)
        try:
            with environment.writing() as txn:
                starting = Starting(environment, txn, home, opened, retention_ms, clock)
                begun = starting.begin(identity, state)
                outputs_of_file(environment, txn, state, outputs, starting.now_ms)
                if set_aside:
                    value = guard(SET_ASIDE, set_aside.encode())
                    txn.put(SET_ASIDE, value, db=environment.db["records"])
        except MapFull:  # all that waits may have to be flagged
            environment.grow(GROW_BYTES)
        else:
            return begun


def _set_aside(directory: Path, path: Path) -> str:
    """Moves the damaged channel out of the way; its new name."""
    stem = f"{SET_ASIDE_STEM}{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    with translated("set the damaged channel aside"):
        for name in (stem, *(f"{stem}-{number}" for number in range(2, 1000))):
            if not (directory / name).exists():
                path.rename(directory / name)
                sync_directory(directory)
                return name
    raise ChannelUnavailable(f"no free name beside {path}")


def _sync_upwards(directory: Path) -> None:
    """The agent's directory, and the names of those above it: we or our like may just have made
    them, and without them a power cut takes all that is in them."""
    sync_directory(directory)
    for above in directory.resolve().parents:
        with suppress(OSError):  # one that is not ours to read was made by others, long ago
            sync_directory(above)


def _utc_now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
