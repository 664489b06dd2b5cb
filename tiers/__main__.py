"""The command `tiers`, and `python -m tiers`: what has to be so before anything is imported."""

import os
import signal
import sys
from typing import Final

# A process that has not yet said what it does with a signal dies of it, and importing takes a
# while. SIGHUP: a terminal that hangs up, or somebody who wants the topology read (which it is,
# at the start). SIGTTOU: a terminal that lets nobody write who is in the background.
_OUTLIVED: Final = (signal.SIGHUP, signal.SIGTTOU)


def main() -> None:
    """Runs the command of the command line."""
    _open_standard_descriptors()
    if sys.argv[1:2] in (["agent"], ["up"]):
        for number in _OUTLIVED:
            signal.signal(number, signal.SIG_IGN)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a locale that has no word for it ends nothing
            stream.reconfigure(errors="backslashreplace")
    from tiers.cli import main as command

    command()


def _open_standard_descriptors() -> None:
    """Where one is closed, the next file that is opened would be in its place: a channel, say, into
    which a library then writes its complaints."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


if __name__ == "__main__":
    main()
