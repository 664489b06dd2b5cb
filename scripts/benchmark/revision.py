"""The code that is measured: this tree, or another revision of it with what that one needs.

    .bench/<commit>/        a worktree of git's
    .bench/needs-<hash>/    a virtual environment with what a scripts/requirements.txt names

Both are kept, and used again; `rm -r .bench && git worktree prune` removes them.
"""

import hashlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tiers.errors import TiersError

ROOT: Final = Path(__file__).resolve().parent.parent.parent
_PLACE: Final = ROOT / ".bench"
_NEEDS: Final = Path("scripts/requirements.txt")


@dataclass(frozen=True, slots=True)
class Code:
    """Agents are started from a directory that holds `tiers`, by an interpreter with its needs."""

    source: Path
    python: Path


TREE: Final = Code(ROOT, Path(sys.executable))


def checked_out(revision: str) -> Code:
    """A revision's code, made ready. Raises TiersError where git or pip cannot."""
    commit = _run("git", "rev-parse", "--verify", f"{revision}^{{commit}}").strip()
    source = _PLACE / commit
    if not (source / _NEEDS).is_file():
        _run("git", "worktree", "prune")
        _run("git", "worktree", "add", "--force", "--detach", str(source), commit)
    if (source / _NEEDS).read_bytes() == (ROOT / _NEEDS).read_bytes():
        return Code(source, TREE.python)
    return Code(source, _python_with(source / _NEEDS))


def _python_with(needs: Path) -> Path:
    place = _PLACE / f"needs-{hashlib.sha256(needs.read_bytes()).hexdigest()[:16]}"
    python, ready = place / "bin" / "python", place / "ready"
    if not ready.exists():
        _run(sys.executable, "-m", "venv", "--clear", str(place))
        pip = (str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        _run(*pip, "-r", str(needs))
        ready.touch()
    return python


def _run(*command: str) -> str:
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise TiersError(f"{' '.join(command)}: {ended.stderr.strip()}")
    return ended.stdout
