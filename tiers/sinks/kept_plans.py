"""Plans of files as records of the channel: they outlive the agent (commit.md, step 2)."""

from tiers.contracts import Channel
from tiers.core.change import Change
from tiers.core.commit import Abandon, KeepPlan, Release
from tiers.core.plan import Plan, decode_plan, encode_plan


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


def change(output: str, call: KeepPlan | Release | Abandon) -> Change:
    """What the call does to the channel, in one transaction."""
    plan = call.plan
    key = f"plan/{output}/{plan.file_id:010d}".encode()
    match call:
        case KeepPlan():
            counter = plan.file_id.to_bytes(8, "big")
            return Change(records={key: encode_plan(plan), _counter_key(output): counter})
        case Release():
            releases = [(output, position) for position in plan.positions]
            return Change(records={key: None}, releases=releases)
        case Abandon(_, bad, flagged):
            letters = [(one.whole, (output, one.position, one.reason)) for one in bad]
            return Change(
                records={key: None},
                flags=[(output, position) for position in flagged],
                dead=[letter for whole, letter in letters if whole],
                damaged=[letter for whole, letter in letters if not whole],
            )


def _counter_key(output: str) -> bytes:
    return f"file/{output}".encode()
