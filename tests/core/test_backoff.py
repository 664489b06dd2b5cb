"""How long is waited between tries."""

import pytest

from tiers.core import backoff


def test_back_off_grows_to_its_bound_and_never_overflows() -> None:
    for refused, first_s, most_s in ((False, 0.2, 10.0), (True, 2.0, 60.0)):
        for failures in range(1, 20):
            doubled_s = min(first_s * 2 ** (failures - 1), most_s)
            for drawn in (0.0, 0.4, 0.999):  # of each wait the half at least
                wait_s = backoff.backoff_s(failures, refused, drawn)
                assert wait_s == pytest.approx(doubled_s * (1 + drawn) / 2)
    assert backoff.backoff_s(10**6, False, 0.999) <= backoff.BACKOFF_MAX_S
    assert backoff.backoff_s(1, True, 0.0) >= 1.0
    assert backoff.backoff_s(10**6, True, 0.999) <= backoff.REFUSED_MAX_S
