"""How far behind a reader is, and how long until something is full."""

import math

from hypothesis import given
from hypothesis import strategies as st

from tiers.core.filling import Filling
from tiers.core.lag import Lag


def test_what_waits_has_waited_since_it_was_first_seen() -> None:
    lag = Lag()
    lag.look(done=0, waiting=100, now_s=10)
    lag.look(done=0, waiting=300, now_s=20)
    assert lag.behind_s(25) == 15
    lag.look(done=100, waiting=200, now_s=30)
    assert lag.behind_s(30) == 10, "what was there at 10 s was taken"
    lag.look(done=300, waiting=0, now_s=31)
    assert lag.behind_s(40) == 0


def test_who_keeps_up_with_a_stream_is_not_behind() -> None:
    lag = Lag()
    for second in range(1000):
        lag.look(done=100 * second, waiting=100, now_s=second)
        assert lag.behind_s(second) <= 1


def test_what_vanishes_unread_is_not_waited_for() -> None:
    lag = Lag()
    lag.look(done=0, waiting=100, now_s=10)
    lag.look(done=0, waiting=1000, now_s=20)
    lag.look(done=0, waiting=50, now_s=30)  # a file was cut short
    assert lag.behind_s(30) == 20
    lag.look(done=50, waiting=10, now_s=40)
    assert lag.behind_s(40) == 0, "it has come since"


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 60)), min_size=1, max_size=2000))
def test_it_is_right_within_a_look_and_remembers_little(steps: list[tuple[int, int]]) -> None:
    lag, came, taken = Lag(), [0], 0
    for now_s, (more, take) in enumerate(steps, 1):
        came.append(came[-1] + more)
        taken = min(came[-1], taken + take)
        lag.look(taken, came[-1] - taken, now_s)
        first = next((at for at, end in enumerate(came) if end > taken), now_s)
        assert lag.behind_s(now_s) <= now_s - first
        if now_s <= 256:
            assert lag.behind_s(now_s) == now_s - first
        assert len(lag._seen) <= 256


def test_time_until_full_at_the_rate_of_the_last_minute() -> None:
    filling = Filling()
    assert filling.full_s(1000) == math.inf, "nothing is known"
    for second in range(300):
        filling.look(5 * second, second)
    assert filling.full_s(1000) == 200
    assert filling.full_s(0) == 0
    for second in range(300, 400):
        filling.look(1500, second)
    assert filling.full_s(1000) == math.inf, "it has not been filling for a minute"
    filling.look(0, 400)
    assert filling.full_s(1000) == math.inf


def test_a_moment_says_nothing_of_a_rate() -> None:
    filling = Filling()
    filling.look(0, 0)
    filling.look(1 << 30, 1)
    assert filling.full_s(1) == math.inf
