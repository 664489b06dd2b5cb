"""`python -m tiers.fleet.supervised PARENT MODULE ARGS...`: MODULE, while process PARENT lives.

The kernel sends SIGTERM when the supervisor dies, however it dies (prctl(2), PR_SET_PDEATHSIG).
The child asks for that itself, since Python code between fork and exec is not safe in a process
with threads. SIGTERM and not SIGKILL: an agent then ends with a clean channel.
"""

import ctypes
import os
import runpy
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h


def main() -> None:
    parent, module, *arguments = sys.argv[1:]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != int(parent):  # it died before the line above
        sys.exit(1)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
