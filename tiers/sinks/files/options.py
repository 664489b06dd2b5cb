"""The keys that every file sink has in the topology file."""

import re
from typing import Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from tiers.core import paths
from tiers.sinks.sink import SinkOptions
from tiers.units import Duration, Size

_EXTENSION: Final = re.compile(r"(?:[A-Za-z0-9_-][A-Za-z0-9._-]{0,31})?")
GZIP_LEVEL_MAX: Final = 9


class FileOptions(SinkOptions):
    """The keys that every file sink has."""

    path: str = "%Y/%m/%d/%H"  # headers and the batch's time bucket, UTC
    codec: Literal["none", "gzip", "zstd"] = "none"
    level: int | None = Field(default=None, ge=1, le=19)  # default: that of `[batch]`
    roll_size_bytes: Size = Field(default=128 << 20, alias="roll_size", gt=0)  # as stored
    roll_after_s: Duration = Field(default=60.0, alias="roll_after")
    format: Literal["text", "events"] = Field(
        default="text",
        description="`text`: an event to a line, newlines within it as `#012`; `events`: a stream "
        "of msgpack, [headers, body] each",
    )
    extension: str = "log"  # end of file names
    takeover_after_s: Duration = Field(default=300.0, alias="takeover_after", gt=0)
    writers: int = Field(default=2, ge=1, le=16)  # files written at the same time

    @field_validator("extension")
    @classmethod
    def _check_extension(cls, extension: str) -> str:
        if not _EXTENSION.fullmatch(extension):
            wanted = "at most 32 letters, digits, '_', '.' and '-', without a '.' before them"
            raise ValueError(f'the end of names such as "log" ({wanted})')
        return extension

    @field_validator("path")
    @classmethod
    def _check_path(cls, path: str) -> str:
        if found := paths.problems(path):
            raise ValueError(f'a path such as "{{service}}/%Y/%m/%d/%H" ({"; ".join(found)})')
        return path

    @model_validator(mode="after")
    def _check_level(self) -> Self:
        if self.codec == "gzip" and (self.level or 0) > GZIP_LEVEL_MAX:
            raise ValueError(f"level: gzip has levels 1 to {GZIP_LEVEL_MAX}")
        return self

    def level_of(self, batch_level: int) -> int:
        """The level to compress files with, when batches are sealed with `batch_level`."""
        level = self.level or batch_level
        return min(level, GZIP_LEVEL_MAX) if self.codec == "gzip" else level

    def unproven(self) -> str:
        return ""

    def path_template(self) -> str:
        return self.path
