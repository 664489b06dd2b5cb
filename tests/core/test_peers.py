"""One peer: its table of states, its credit and window, its back-off, and what counts as late."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiers.core.batch import BatchId
from tiers.core.hop.peers import Peer, PeerLimits, PeerState, Pending, Refusal

LIMITS = PeerLimits(
    window_bytes_max=1000, window_batches_max=4, window_start_bytes=300, retry_max_s=10.0
)
C, U, S, D, G = (
    PeerState.CONNECTING,
    PeerState.UP,
    PeerState.SUSPECT,
    PeerState.DOWN,
    PeerState.DRAINING,
)

# event: what becomes of connecting, up, suspect, down, draining (None: stays as it is)
TABLE: dict[str, tuple[PeerState | None, ...]] = {
    "welcome": (U, None, U, U, None),
    "goodbye": (None, G, None, None, None),
    "left": (None, None, None, None, D),
    "lost": (None, S, None, None, S),
    "late": (D, None, D, None, None),
    "refused": (D, None, D, None, None),
    "nonsense": (None, None, None, None, None),
}


def a_batch(seq: int = 1, size: int = 100, count: int = 10) -> Pending:
    return Pending(BatchId(b"o" * 16, seq), seq, size, count)


def a_peer(state: PeerState = U, limit: int = 10_000) -> Peer:
    peer = Peer("agg-1", LIMITS, state)
    peer.begin(b"s" * 8, 0.0, lambda: 0.5)
    peer.welcomed(0.0)
    peer.limit = limit
    return peer


@pytest.mark.parametrize("event", TABLE)
@pytest.mark.parametrize("column", range(5))
def test_the_table(event: str, column: int) -> None:
    before = (C, U, S, D, G)[column]
    after = TABLE[event][column]
    peer = a_peer(before)
    assert peer.move(event, 7.0) is (after is not None)
    assert peer.state is (after or before)
    assert peer.since_s == (7.0 if after else 0.0)
    assert peer.in_session is (peer.state in (U, G))


@pytest.mark.parametrize("state", [U, G])
def test_what_is_in_flight_is_ambiguous_once_the_session_is_lost(state: PeerState) -> None:
    peer = a_peer(state)
    one, two = a_batch(1), a_batch(2)
    peer.sending(one, 0.0, 0)
    peer.ambiguous[two.id] = two  # of a session before
    peer.asked_s = 0.0
    peer.move("lost", 1.0)
    assert set(peer.ambiguous) == {one.id, two.id}
    assert not peer.in_flight
    assert peer.in_flight_bytes == 0
    told: tuple[object, ...] = (peer.asked_s, peer.hello_s)
    assert told == (None, 0.0)  # HELLO at once


@pytest.mark.parametrize("state", [C, S, D, G])
def test_only_a_peer_that_is_up_has_room(state: PeerState) -> None:
    assert a_peer(U).room() == 300
    assert a_peer(state).room() == 0


def test_a_leaving_peer_has_no_room() -> None:
    peer = a_peer()
    peer.leaving = True
    assert peer.room() == 0


def test_room_is_the_less_of_credit_and_window() -> None:
    assert a_peer(limit=120).room() == 120
    assert a_peer(limit=0).room() == 0
    peer = a_peer(limit=250)
    peer.sending(a_batch(1, 200), 0.0, 0)
    assert peer.room() == 50
    peer.sending(a_batch(2, 200), 0.0, 0)  # a batch may overshoot it once
    assert peer.room() == 0
    peer.limit = 10_000  # credit comes: now it is the window that is full
    assert peer.room() == 0


def test_the_window_counts_batches_too() -> None:
    peer = a_peer()
    for seq in range(LIMITS.window_batches_max):
        assert peer.room() > 0
        peer.sending(a_batch(seq, 1), 0.0, 0)
    assert peer.room() == 0


def test_slow_start_grows_by_what_is_acked_up_to_the_window() -> None:
    peer = a_peer()
    for seq in range(20):
        peer.sending(a_batch(seq), 0.0, 0)
        assert peer.forget(a_batch(seq).id) == a_batch(seq)
        peer.acked(a_batch(seq))
        assert peer.window == min(300 + 100 * (seq + 1), 1000)
    assert (peer.batches, peer.events, peer.sent) == (20, 200, 2000)
    peer.move("lost", 1.0)
    peer.move("welcome", 1.0)
    peer.welcomed(1.0)
    assert peer.window == 300


def test_forgetting_gives_the_room_back_and_counts_nothing() -> None:
    peer = a_peer()
    one, two = a_batch(1), a_batch(2)
    peer.sending(one, 0.0, 0)
    peer.ambiguous[two.id] = two
    assert peer.forget(one.id) is one
    assert peer.forget(two.id) is two
    assert peer.forget(two.id) is None
    assert (peer.room(), peer.batches, peer.events) == (300, 0, 0)


def test_a_new_session_begins_without_credit() -> None:
    peer = a_peer(S)
    peer.sent, peer.asked_s = 500, 1.0
    peer.begin(b"t" * 8, 5.0, lambda: 0.5)
    told: tuple[object, ...] = (peer.session, peer.limit, peer.sent, peer.asked_s)
    assert told == (b"t" * 8, 0, 0, None)


def test_waits_grow_up_to_their_limit() -> None:
    peer = Peer("agg-1", LIMITS)
    waits = []
    for _ in range(60):
        peer.begin(b"s" * 8, 100.0, lambda: 0.5)
        waits.append(peer.hello_s - 100.0)
    assert waits[:4] == pytest.approx([0.1, 0.2, 0.4, 0.8])
    assert max(waits) == waits[-1] == pytest.approx(10.0)
    peer.welcomed(0.0)
    peer.begin(b"s" * 8, 100.0, lambda: 0.5)
    assert peer.hello_s == pytest.approx(100.1)


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 80))
def test_waits_are_jittered_by_a_half(jitter: float, tries: int) -> None:
    peer = Peer("agg-1", LIMITS)
    wait = LIMITS.retry_first_s
    for _ in range(tries):
        peer.begin(b"s" * 8, 0.0, lambda: jitter)
        assert 0.5 * wait <= peer.hello_s <= 1.5 * wait
        wait = min(2 * wait, LIMITS.retry_max_s)


def test_silence_is_late() -> None:
    peer = a_peer()
    assert not peer.is_late(LIMITS.silence_s)
    assert peer.is_late(LIMITS.silence_s + 0.01)


def test_an_old_batch_without_its_ack_is_late() -> None:
    peer = a_peer()
    peer.sending(a_batch(1), 1.0, 0)
    peer.sending(a_batch(2), 5.0, 0)
    peer.heard_s = 12.0
    assert not peer.is_late(11.0)
    assert peer.is_late(11.1)
    peer.forget(a_batch(1).id)
    assert not peer.is_late(11.1)


def test_what_did_not_leave_moves_up_those_behind_it_in_its_bundle_alone() -> None:
    """By its place a receiver rejects a batch: the wrong one would go elsewhere, or be dead."""
    peer = Peer("agg-1", PeerLimits(), U)
    for bundle in range(3):
        for place in range(3):
            peer.sending(a_batch(10 * bundle + place), 0.0, place)
        peer.bundles += 1
    peer.skip(a_batch(11).id)
    places = {key.seq: (sent.bundle, sent.place) for key, sent in peer.in_flight.items()}
    assert places == {
        0: (1, 0), 1: (1, 1), 2: (1, 2),
        10: (2, 0), 12: (2, 1),
        20: (3, 0), 21: (3, 1), 22: (3, 2),
    }  # fmt: skip
    assert (peer.at(2, 1), peer.at(2, 2)) == (a_batch(12).id, None)


def test_who_has_said_nothing_yet_has_no_limits_to_tell() -> None:
    peer = Peer("agg-1", LIMITS)
    assert peer.refusal(a_batch(size=1 << 30), 0.0) is None
    assert (peer.other_limits(), peer.held(a_batch(), 0.0)) == ("", "")


def test_a_refusal_counts_until_its_time_and_no_longer() -> None:
    peer, pending = a_peer(), a_batch()
    said = pending.refusals["agg-1"] = Refusal("it is to come later", 5.0)
    pending.refusals["agg-2"] = Refusal("another's word", 9.0)
    assert [peer.refusal(pending, now) for now in (0.0, 4.99, 5.0, 6.0)] == [said, said, None, None]
    assert peer.held(pending, 4.99) == said.reason
    assert peer.held(pending, 5.0) == ""
