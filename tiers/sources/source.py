"""The keys that every source has. One file in this room is one source (`Source` in contracts); a
line in `BUILTIN` (or an entry point in the group `tiers.sources`) registers it."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo


def _is_another(name: str | None, info: ValidationInfo) -> str | None:
    if name in info.data.get("headers", {}):
        raise ValueError("the name of another header than those of `headers`")
    return name


OwnHeader = Annotated[str | None, AfterValidator(_is_another)]  # one that a source sets by itself


class SourceOptions(BaseModel):
    """The keys that every source has. `type` chooses the class."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    type: str
    name: str = ""  # default: the type; unique within an agent
    headers: Mapping[str, str] = Field(default_factory=dict)
    interceptors: tuple[Any, ...] = ()  # InterceptorOptions, once the file is read

    def header_names(self) -> frozenset[str]:
        """Names of all headers that its blocks have, before any interceptor: for checking paths."""
        return frozenset(self.headers)

    def reads(self) -> tuple[str, ...]:
        """Globs (absolute) of the files that it reads: others must not write or read them."""
        return ()

    def subject(self, position: bytes) -> str:
        """What a position is about, such as the path of a file, where this source would read that;
        empty where it would not. A position of another source, which reads it no more, is taken
        over then: this one has it from the beginning, as if it had stored it itself."""
        return ""

    def listen_addresses(self) -> tuple[str, ...]:
        """Addresses such as "0.0.0.0:514" that it binds: beyond loopback only where the file says
        `insecure = true`."""
        return ()

    def listen_transports(self) -> tuple[str, ...]:
        """What it listens to at each of these: "tcp", "udp"."""
        return ("tcp",)
