"""Buffers that come again cost no page faults. In processes of their own, as it is for good."""

import ctypes
import subprocess
import sys

import pytest

CODE = """
import resource, sys
from tiers.host.heap import keep_freed
if sys.argv[1] == "kept":
    keep_freed()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    bytes(1 << 20)
before = faults()
for _ in range(100):
    bytes(1 << 20) + b"x"
print(faults() - before)
"""


def faults(how: str) -> int:
    """In 100 turns, each with two buffers of a MiB."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, how], capture_output=True, check=True, timeout=60
    )
    return int(done.stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="not glibc")
def test_what_is_freed_is_used_again() -> None:
    assert faults("kept") * 10 < faults("given back")
