"""Plans of files as records of the channel: they outlive the agent (commit.md, step 2)."""

from collections.abc import Sequence

from tiers.contracts import Channel
from tiers.core.change import Change
from tiers.core.commit.planned import Plan, decode_plan, encode_plan


def plans(channel: Channel, output: str) -> list[Plan]:
    """Of the files that were planned and neither published nor given up. ChannelDamaged as
    `decode_plan` raises it."""
    found = channel.records(f"plan/{output}/".encode())
    return [decode_plan(int(key.rpartition(b"/")[2]), data) for key, data in found.items()]


def last_file_id(channel: Channel, output: str) -> int:
    """The highest id ever planned, 0 before the first: none is used twice."""
    key = _counter_key(output)
    counter = channel.records(key).get(key)
    return int.from_bytes(counter, "big") if counter else 0


def kept(output: str, plan: Plan) -> Change:
    """The plan is to be found after a restart."""
    counter = plan.file_id.to_bytes(8, "big")
    return Change(records={_key(output, plan): encode_plan(plan), _counter_key(output): counter})


def forgotten(output: str, plan: Plan, flagged: Sequence[int] = ()) -> Change:
    """It has come to its end; the batches at these positions are flagged from now on."""
    flags = [(output, position) for position in flagged]
    return Change(records={_key(output, plan): None}, flags=flags)


def _key(output: str, plan: Plan) -> bytes:
    return f"plan/{output}/{plan.file_id:010d}".encode()


def _counter_key(output: str) -> bytes:
    return f"file/{output}".encode()
