"""Plans of files as records of the channel: they outlive the agent (commit.md, step 2)."""

from tiers.channel.change import Change
from tiers.channel.channel import Channel
from tiers.core import commit
from tiers.core.commit import Abandon, KeepPlan, Plan, Release


def plans(channel: Channel, output: str) -> list[Plan]:
    """Of the files that were planned and neither published nor given up. ChannelDamaged as
    `commit.decode_plan` raises it."""
    found = channel.records(f"plan/{output}/".encode())
    return [commit.decode_plan(int(key.rpartition(b"/")[2]), data) for key, data in found.items()]


def last_file_id(channel: Channel, output: str) -> int:
    """The highest id ever planned, 0 before the first: none is used twice."""
    key = _counter_key(output)
    counter = channel.records(key).get(key)
    return int.from_bytes(counter, "big") if counter else 0


def change(output: str, call: KeepPlan | Release | Abandon) -> Change:
    """What the call does to the channel, in one transaction."""
    plan = call.plan
    key = f"plan/{output}/{plan.file_id:010d}".encode()
    match call:
        case KeepPlan():
            counter = plan.file_id.to_bytes(8, "big")
            return Change(records={key: commit.encode_plan(plan), _counter_key(output): counter})
        case Release():
            releases = [(output, position) for position in plan.positions]
            return Change(records={key: None}, releases=releases)
        case Abandon(_, damaged, flagged):
            letters = [(output, position, reason) for position, reason in damaged]
            flags = [(output, position) for position in flagged]
            return Change(records={key: None}, damaged=letters, flags=flags)


def _counter_key(output: str) -> bytes:
    return f"file/{output}".encode()
