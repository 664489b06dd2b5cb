"""How much of a shared room one may take: what is left decides.

Who holds less than `SHARE` times what is still free may take more. So one alone fills four fifths
of a room, two take four ninths each, and whoever comes late always finds some: a fixed part for
each would be too little for one and, added up, too much for many. (Dynamic thresholds, as switches
share the memory of their ports: Choudhury and Hahne, 1998.)
"""

from typing import Final

SHARE: Final = 4


def may_take(free: int, held: int) -> int:
    """What one who holds `held` may take of a room of which so much is free: after that it holds
    `SHARE` times what is left. 0 for who holds that already."""
    return max(0, (SHARE * free - held) // (SHARE + 1))
