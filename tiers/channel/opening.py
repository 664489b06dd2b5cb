"""Opening a channel: who may, whether the file can be trusted, and what happens when not.

DIR/lock                      held by flock while an agent lives; holds its pid
DIR/channel/data.mdb          the LMDB file (and lock.mdb)
DIR/channel/begun             the channel's id: from then on data.mdb is neither gone nor empty
DIR/channel/damaged           why a running agent found that the channel is damaged
DIR/channel.damaged-<UTC>     a channel that was set aside; told of for as long as it is there

Every open looks at the whole structure and at every value but bodies, after a clean stop as after
a crash: bits turn at rest too, and LMDB dies of some. That takes a second for 100,000 batches.
"""

import fcntl
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from tiers.channel.checking import read_head, structure_problems, value_problems
from tiers.channel.environment import Environment, translated
from tiers.channel.layout import IDENTITY, SET_ASIDE, STATE, Identity, State, guard, unguard
from tiers.channel.mounts import MOUNT_TABLE, refuse_network
from tiers.errors import ChannelDamaged, ChannelUnavailable, UsageError

HEADROOM_BYTES_MIN: Final = 64 << 20
SET_ASIDE_STEM: Final = "channel.damaged-"


class Opened(NamedTuple):
    """A channel that may be used."""

    environment: Environment
    identity: Identity
    state: State
    set_aside: str  # empty, or what happened to the channel that was here before


def lock_directory(directory: Path) -> int:
    """The descriptor that holds DIR/lock. UsageError when another process holds it."""
    with translated("lock"):
        directory.mkdir(parents=True, exist_ok=True)
        lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        error = UsageError(why_locked(lock, directory))
        os.close(lock)
        raise error from None
    with suppress(OSError):  # for people only: on a full disk it may not be said
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock


def why_locked(lock: int, directory: Path) -> str:
    """Who holds the lock, as far as the lock file tells."""
    holder = os.pread(lock, 20, 0).decode(errors="replace").strip()
    who = f" (pid {holder})" if holder.isdigit() else ""
    return f"another agent runs on {directory}{who}"


def open_directory(directory: Path, size_bytes_max: int, outputs: Sequence[str]) -> Opened:
    """The channel of DIR/channel, checked; a fresh one where there is none, or none that can be
    trusted. The caller holds the lock. Raises UsageError, ChannelUnavailable."""
    refuse_network(directory.resolve(), MOUNT_TABLE.read_text())
    path = directory / "channel"
    map_bytes = size_bytes_max + max(size_bytes_max // 8, HEADROOM_BYTES_MIN)
    reason = _damage_before_open(path)
    if not reason:
        try:
            return _open(path, map_bytes, outputs, "", check=True)
        except ChannelDamaged as error:
            reason = str(error)
    kept = _set_aside(directory, path)
    text = (
        f"the channel was damaged ({reason}); it was set aside as {kept} on {_utc_now()} "
        "and a fresh one begun"
    )
    return _open(path, map_bytes, outputs, text, check=False)


def mark_damaged(path: Path, reason: str) -> None:
    """Notes that the channel at `path` must be set aside at the next open."""
    with translated("mark as damaged"):
        write_durably(path / "damaged", reason.encode())


def _damage_before_open(path: Path) -> str:
    """Why the file must not even be opened; empty when it may."""
    with translated("look at the channel"):
        damaged = path / "damaged"
        if damaged.exists():
            return damaged.read_text(errors="replace") or "found while it ran"
        data = path / "data.mdb"
        if not data.exists() or data.stat().st_size == 0:
            return "its file is gone, or empty" if (path / "begun").exists() else ""
    problems = structure_problems(path)
    more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
    return problems[0] + more if problems else ""


def _open(
    path: Path, map_bytes: int, outputs: Sequence[str], set_aside: str, *, check: bool
) -> Opened:
    with translated("make the channel's directory"):
        path.mkdir(mode=0o700, exist_ok=True)
    environment = Environment(path, map_bytes)
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
        identity = head.identity if head else Identity(os.urandom(16), _now_ms())
        state = head.state if head else State()
        if state.add_outputs(outputs) or head is None:
            _write_head(environment, identity, state, set_aside if head is None else "")
        if not (path / "begun").exists():
            with suppress(OSError):  # on a full disk: at the next open then
                write_durably(path / "begun", identity.channel_id.hex().encode())
        _sync_directory(path)
        _sync_upwards(path.parent)
    except BaseException:
        environment.close()
        raise
    return Opened(environment, identity, state, set_aside)


def _write_head(environment: Environment, identity: Identity, state: State, set_aside: str) -> None:
    with environment.writing() as txn:
        meta = environment.db["meta"]
        txn.put(IDENTITY, guard(IDENTITY, identity.pack()), db=meta)
        txn.put(STATE, guard(STATE, state.pack()), db=meta)
        if set_aside:
            value = guard(SET_ASIDE, set_aside.encode())
            txn.put(SET_ASIDE, value, db=environment.db["records"])


def _set_aside(directory: Path, path: Path) -> str:
    """Moves the damaged channel out of the way; its new name."""
    stem = f"{SET_ASIDE_STEM}{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    with translated("set the damaged channel aside"):
        for number in range(1, 1000):
            name = stem if number == 1 else f"{stem}-{number}"
            if not (directory / name).exists():
                path.rename(directory / name)
                _sync_directory(directory)
                return name
    raise ChannelUnavailable(f"no free name beside {path}")


def write_durably(file: Path, data: bytes) -> None:
    """The file with this content, or as it was before. Raises OSError."""
    temporary = file.with_suffix(".new")
    with temporary.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(file)
    _sync_directory(file.parent)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_upwards(directory: Path) -> None:
    """The agent's directory, and the names of those above it: we or our like may just have made
    them, and without them a power cut takes all that is in them."""
    _sync_directory(directory)
    for above in directory.resolve().parents:
        with suppress(OSError):  # one that is not ours to read was made by others, long ago
            _sync_directory(above)


def _utc_now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
