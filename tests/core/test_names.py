"""What may be the name of an agent, a tier, a source or an output."""

import pytest

from tiers.core.names import NAME_CHARS_MAX, is_name


@pytest.mark.parametrize(
    "name", ["a", "7", "edge-1", "web.logs_2", "A" * NAME_CHARS_MAX, "a" + "-" * 63]
)
def test_these_are(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize(
    "name",
    ["", "-a", ".a", "_a", "a b", "a\n", "ä", "a/b", "a" * (NAME_CHARS_MAX + 1), 7, None, b"a"],
)
def test_these_are_not(name: object) -> None:
    assert not is_name(name)
