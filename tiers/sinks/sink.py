"""The keys that every sink has. One file in this room is one sink (`Sink` in contracts); a line
in `BUILTIN` (or an entry point in the group `tiers.sinks`) registers it."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class SinkOptions(BaseModel):
    """The keys that every sink has. `type` chooses the class."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True
    )

    type: str
    name: str = ""  # default: the type; unique in the tier; the output's name
    when: Mapping[str, Any] = Field(default_factory=dict)  # `When`, once the file is read

    def place(self) -> str:
        """Identifies where this sink writes: agents of a tier must agree, and no two outputs may
        share one. For a file sink: kind, url and root, normalised. Empty where none is."""
        return f"{self.type} {self.name}"

    def unproven(self) -> str:
        """Why the audit cannot prove what became of its batches; empty where it has a store."""
        return "it has no store that could be asked; each event gets there at least once"

    def writes(self) -> str:
        """The directory (absolute) of its machine below which it writes; empty where none is."""
        return ""

    def path_template(self) -> str:
        """The path template, for checking headers and time codes; empty where there is none."""
        return ""
