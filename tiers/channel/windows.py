"""Windows of ids in a transaction: read, and the checksums beside them deleted."""

from tiers.channel.environment import Environment, Transaction
from tiers.channel.layout import SEEN_KEY, unguard
from tiers.core import dedupe
from tiers.core.dedupe import Window
from tiers.errors import ChannelDamaged


def delete_pieces(environment: Environment, txn: Transaction, origin: bytes, block: int) -> None:
    """The checksums of a block."""
    first = block * dedupe.PIECES
    end = SEEN_KEY.pack(origin, first + dedupe.PIECES)
    with txn.cursor(environment.db["sums"]) as cursor:
        more = cursor.set_range(SEEN_KEY.pack(origin, first))
        while more and cursor.key() < end:
            more = cursor.delete()


def read_window(key: bytes, stored: bytes | memoryview) -> Window:
    """The window of a value of `seen`. Raises ChannelDamaged."""
    try:
        return dedupe.decode(unguard("seen", key, stored))
    except ValueError as error:
        raise ChannelDamaged(f"seen: {error}") from error
