"""Which file system a directory lies on, from Linux's mount table (proc(5), mountinfo)."""

import os
import re
from pathlib import Path, PurePosixPath
from typing import Final

from tiers.errors import UsageError

MOUNT_TABLE: Final = Path("/proc/self/mountinfo")
_NETWORK_TEXT: Final = """
    nfs nfs4 cifs smb3 smbfs 9p afs ceph coda gfs2 glusterfs lustre ncpfs ocfs2 orangefs pvfs2
    beegfs gpfs davfs fuse.sshfs fuse.ceph fuse.ceph-fuse fuse.glusterfs fuse.s3fs fuse.mfs
    fuse.rclone fuse.gcsfuse fuse.davfs2 fuse.juicefs
"""
NETWORK: Final = frozenset(_NETWORK_TEXT.split())
_OCTAL: Final = re.compile(r"\\([0-7]{3})")


def mount_table() -> str:
    """Names of mount points are bytes, and need not be UTF-8."""
    return os.fsdecode(MOUNT_TABLE.read_bytes())


def file_system(path: Path, table: str) -> tuple[str, str]:
    """(mount point, type) of the mount that holds `path`, an absolute path without links.
    The longest mount point wins, of equal ones the later. ("", "") when none does.

    A line, whose fields are parted by spaces (a space within one is written `\\040`):
        36 35 98:0 /subtree /mount/point rw,noatime master:1 - ext4 /dev/sda1 rw
    """
    found = ("", "")
    length = -1
    for line in table.split("\n"):  # a name may hold what else ends a line
        head, _, tail = line.partition(" - ")
        fields = head.split(" ")
        if len(fields) < 6 or not tail:
            continue
        point = _OCTAL.sub(lambda octal: chr(int(octal[1], 8)), fields[4])
        mount = PurePosixPath(point)
        if len(mount.parts) >= length and PurePosixPath(path).is_relative_to(mount):
            found = (point, tail.split(" ")[0])
            length = len(mount.parts)
    return found


def refuse_network(path: Path, table: str) -> None:
    """UsageError when `path` lies on a network file system: LMDB's locks and its map are not
    sound there, and neither is an fsync."""
    point, kind = file_system(path, table)
    if kind in NETWORK:
        raise UsageError(
            f"{path} lies on a network file system ({kind}, mounted on {point}); "
            "a channel needs a local disk"
        )
