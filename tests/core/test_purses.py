"""What control messages cost those who send them."""

import pytest

from tiers.core.hop.purses import IN_SESSION, PURSES_MAX, STRANGER, Income, Purses


def paid(purses: Purses, income: Income, messages: int, length: int, now: float) -> int:
    return sum(purses.pays(b"route", length, income, now) for _ in range(messages))


def test_what_an_honest_sender_says_is_paid_for() -> None:
    purses = Purses()
    assert paid(purses, IN_SESSION, 42, 10_000, 0.0) == 42, "it asks for a window of small batches"
    assert all(purses.pays(b"route", 60, IN_SESSION, n / 2) for n in range(1000)), "heartbeats"
    assert all(purses.pays(b"new", 500, STRANGER, n / 2) for n in range(1000)), "HELLOs"
    assert purses.unpaid == 0


def test_who_floods_is_read_at_the_rate_of_its_income() -> None:
    for income in (IN_SESSION, STRANGER):
        purses = Purses()
        first = paid(purses, income, 100_000, 744, 0.0)
        second = paid(purses, income, 100_000, 744, 1.0)
        assert 0 < second <= income.bytes_per_s // 1000
        assert purses.unpaid == 200_000 - first - second


@pytest.mark.parametrize(
    ("income", "rate", "reserve"),
    [(IN_SESSION, 128 << 10, 1 << 20), (STRANGER, 16 << 10, 64 << 10)],
)
def test_a_flood_costs_what_was_promised_and_gets_that(
    income: Income, rate: int, reserve: int
) -> None:
    purses, cost, seconds = Purses(), 1000 + 256, 200
    read = sum(paid(purses, income, rate // cost + 2, 1000, float(now)) for now in range(seconds))
    read += paid(purses, income, reserve // cost + 1, 1000, seconds - 1.0)
    most = reserve + (seconds - 1) * rate
    assert most - cost < read * cost <= most


def test_what_was_not_read_costs_nothing_and_time_fills_the_purse_again() -> None:
    purses = Purses()
    paid(purses, STRANGER, 1000, 1000, 0.0)
    full = STRANGER.bytes_max // 1256
    full_again_s = STRANGER.bytes_max / STRANGER.bytes_per_s
    assert paid(purses, STRANGER, 1000, 1000, full_again_s) == full


def test_one_purse_is_not_anothers_and_their_number_is_bounded() -> None:
    purses = Purses()
    paid(purses, STRANGER, 1000, 1000, 0.0)
    for number in range(2 * PURSES_MAX):
        assert purses.pays(b"%d" % number, 1000, STRANGER, 0.0)
    assert len(purses._owed) == PURSES_MAX
