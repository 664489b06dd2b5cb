"""Sizes and durations as people write them: `"64MiB"`, `"2s"`, `"10min"`, or plain numbers."""

import math
import re
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, Field

_SIZES = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_SIZES |= {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1, "sec": 1, "min": 60, "m": 60, "h": 3600, "d": 86400}
SIZE_BYTES_MAX: Final = 2**50
DURATION_DAYS_MAX: Final = 3650
_AMOUNT = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*")


def parse_size(value: object) -> int:
    """Bytes from `"64MiB"`, `"1.5GB"` or a plain number. Raises ValueError."""
    return round(_parse(value, _SIZES, "B", 'a size such as "64MiB" or a number of bytes'))


def parse_duration(value: object) -> float:
    """Seconds from `"2s"`, `"10min"`, `"7d"` or a plain number. Raises ValueError."""
    return _parse(value, _SECONDS, "s", 'a duration such as "2s", "10min" or a number of seconds')


def _parse(value: object, units: dict[str, float] | dict[str, int], plain: str, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(what)
    if not isinstance(value, str):
        if value < 0 or not math.isfinite(value):
            raise ValueError(what)
        return float(value) if isinstance(value, float) else value
    match = _AMOUNT.fullmatch(value)
    unit = (match[2] or plain) if match else ""
    if match is None or unit not in units:
        raise ValueError(f"{what} (units: {', '.join(units)})")
    amount = float(match[1]) * units[unit]
    if not math.isfinite(amount):
        raise ValueError(what)
    return amount


def _bounded_size(count: int) -> int:
    if count > SIZE_BYTES_MAX:
        raise ValueError(f"at most {SIZE_BYTES_MAX >> 40}TiB")
    return count


def _bounded_duration(seconds: float) -> float:
    if seconds > DURATION_DAYS_MAX * 86400:
        raise ValueError(f"at most {DURATION_DAYS_MAX}d")
    return seconds


Size = Annotated[int, BeforeValidator(parse_size), AfterValidator(_bounded_size), Field(ge=0)]
Duration = Annotated[
    float, BeforeValidator(parse_duration), AfterValidator(_bounded_duration), Field(ge=0)
]


def show_size(count: float) -> str:
    """`1536` -> `"1.5 KiB"`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def show_duration(seconds: float) -> str:
    """`0.02` -> `"20ms"`, `90` -> `"1.5min"`."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        if seconds >= length:
            return f"{seconds / length:.3g}{unit}"
    return f"{seconds * 1000:.3g}ms"
