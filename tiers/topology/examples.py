"""The example topologies that come with tiers."""

from pathlib import Path
from typing import Final

from tiers.errors import UsageError
from tiers.topology.problems import nearest

_PACKAGE: Final = Path(__file__).resolve().parent.parent


def _directory() -> Path:
    """Beside the code in an installed package, beside the package in a checkout."""
    installed = _PACKAGE / "topologies"
    return installed if installed.is_dir() else _PACKAGE.parent / "topologies"


def example_names() -> list[str]:
    """Names of the shipped examples, such as `quickstart`."""
    return sorted(path.stem for path in _directory().glob("*.toml"))


def find_topology(name: str) -> Path:
    """The file of a shipped example. Raises UsageError, with the nearest name, for another."""
    names = example_names()
    if name not in names:
        raise UsageError(f"no example topology {name!r}; {nearest(name, names)}")
    return _directory() / f"{name}.toml"


def suggestion(path: Path) -> str:
    """What to say beside "no such file", where it looks like the name of an example."""
    name = path.name.removesuffix(".toml")
    if name not in example_names():
        return ""
    return f"; did you mean the shipped example {find_topology(name)}?"
