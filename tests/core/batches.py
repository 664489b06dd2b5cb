"""Batches that the tests of the core are made of, and hypothesis strategies for them."""

from hypothesis import strategies as st

from tiers.core.batch import (
    BODY_SIZE_MAX,
    CODECS,
    TIME_MS_MAX,
    BatchId,
    Envelope,
    Hop,
    seal,
)

ORIGIN = bytes(range(16))

header_texts = st.text(st.characters(codec="utf-8"), max_size=40)
origins = st.binary(min_size=16, max_size=16)
seqs = st.integers(0, 2**63 - 1)
batch_ids = st.builds(BatchId, origins, seqs)
hops = st.lists(
    st.builds(Hop, st.text(st.characters(codec="utf-8"), max_size=64),
              st.integers(0, 2**53 - 1)), max_size=64,
).map(tuple)  # fmt: skip
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.binary()
    | header_texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(header_texts, inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
words = st.from_regex(r"[a-z][a-z0-9_.-]{0,31}", fullmatch=True)
envelopes = st.builds(
    Envelope,
    origin=origins,
    seq=seqs,
    count=st.integers(1, BODY_SIZE_MAX),
    size=st.integers(1, BODY_SIZE_MAX),
    headers=st.dictionaries(header_texts, header_texts, max_size=8),
    sealed=st.integers(0, TIME_MS_MAX),
    time=st.integers(0, TIME_MS_MAX),
    framing=words,
    codec=st.sampled_from(CODECS) | words,
)


def an_envelope(seq: int = 1, **changes: object) -> Envelope:
    fields: dict[str, object] = {
        "origin": ORIGIN,
        "seq": seq,
        "count": 3,
        "size": 30,
        "headers": {"service": "web"},
        "sealed": 1_700_000_000_000,
        "time": 1_699_999_200_000,
        "framing": "lines",
        "codec": "none",
        **changes,
    }
    return Envelope(**fields)  # type: ignore[arg-type]


def a_record(seq: int = 1, body: bytes = b"x" * 30, **changes: object) -> bytes:
    return seal(an_envelope(seq, size=len(body), **changes), body)
