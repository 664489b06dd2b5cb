"""What lies in the store under a flagged batch's name: who means to publish it (commit.md)."""

from dataclasses import dataclass

from tiers.core.batch import BatchId
from tiers.core.commit.manifest import is_text, opened_line, sealed_line
from tiers.errors import StoreRefused


@dataclass(frozen=True, slots=True)
class Claim:
    """What a claim says: this sink means to publish this batch."""

    sink: str
    batch: BatchId
    number: int


def encode_claim(claim: Claim) -> bytes:
    """The bytes of a claim."""
    return sealed_line(
        {
            "tiers": "claim",
            "version": 1,
            "sink": claim.sink,
            "origin": claim.batch.origin.hex(),
            "seq": claim.batch.seq,
            "number": f"{claim.number:016x}",
        }
    )


def decode_claim(data: bytes, batch: BatchId) -> Claim:
    """The claim on `batch` from bytes of anyone. StoreRefused where this is none."""
    entries = opened_line(data, "claim")
    if (entries.get("origin"), entries.get("seq")) != (batch.origin.hex(), batch.seq):
        raise StoreRefused("claim on another batch")
    sink, number = entries.get("sink"), entries.get("number")
    if not is_text(sink, 256) or not is_text(number, 256):
        raise StoreRefused("claim without a sink or a number")
    try:
        return Claim(sink, batch, int(number, 16))
    except ValueError as error:
        raise StoreRefused(f"claim's number is {number!r:.40}") from error
