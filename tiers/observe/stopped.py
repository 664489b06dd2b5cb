"""What a stopped agent would say of its channel if it could be asked, read from its disk."""

from pathlib import Path

from tiers.channel import inspection
from tiers.channel.living import ORIGIN, origins_of
from tiers.errors import TiersError
from tiers.observe.client import Answer
from tiers.observe.snapshot import audit_of


def audit_of_stopped(directory: Path, unasked: str) -> Answer:
    """As `ask` with `audit` answers, of the agent in `directory`. `unasked` is why it could not be
    asked, and the answer where there is no channel. Nothing is written; while it is read, no agent
    can start on it."""
    if not (directory / "channel" / "data.mdb").exists():
        return unasked
    try:
        with inspection.stopped(directory) as path, inspection.reading(path) as (_, head, reader):
            origins = origins_of(reader.records(ORIGIN), head.state)
            begun_ms = head.identity.begun_ms
            told = audit_of(reader, origins, b"", head.state.outputs, begun_ms)
            return {"channel": {"id": head.identity.channel_id.hex()}, "audit": told}
    except TiersError as error:
        return f"{unasked}, and its channel could not be read: {error}"
