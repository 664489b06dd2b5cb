"""Rows from whatever an agent may say."""

import math

from hypothesis import given
from hypothesis import strategies as st

from tests.observe.stand_in import plain_status
from tiers.channel import meters as of_channel
from tiers.cli.tables import agents_lines, row_line
from tiers.observe.conditions import Condition
from tiers.observe.meters import Numbers
from tiers.observe.metrics import json_of
from tiers.observe.rows import PeerRow, all_healthy, row
from tiers.sinks import meters as of_sinks
from tiers.sinks.files.settling import FileCounts
from tiers.sources import meters as of_sources
from tiers.transport import meters as of_hops

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(10**400)
    | st.floats(allow_nan=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)


def test_a_healthy_agent() -> None:
    each = row("edge-1", "edge", plain_status("edge-1"))
    assert each.healthy
    assert (each.state, each.events_in, each.bytes_out) == ("running", 1000, 40_000)
    assert (each.used_bytes, each.free_bytes, each.oldest_s) == (4096, 2**30, 1.5)
    assert each.queued_events == 100
    assert each.peers == (PeerRow("agg-1", "up", 1 << 24, 0),)
    assert each.error == ""
    text = "\n".join(agents_lines([each]))
    for wanted in ("edge-1", "running", "1,000", "166.0 KiB", "4.0 KiB", "1.5s", "agg-1 up, 16.0"):
        assert wanted in text


def test_an_agent_that_cannot_be_reached_is_a_row_with_the_reason() -> None:
    rows = [row("edge-1", "edge", plain_status("edge-1")), row("edge-2", "edge", "no route")]
    assert not all_healthy(rows)
    assert "    ! no route" in agents_lines(rows)
    assert row_line(rows[1]) == "edge-2: no route"


def test_every_trouble_is_told_and_the_last_error_where_there_is_none() -> None:
    told = plain_status("edge-1")
    told["last_error"] = {"at_ms": 4000, "text": "oh"}
    assert row("edge-1", "edge", told).error == "oh (6s ago)"
    told["conditions"] = [
        Condition("peer_down", "aggregator/agg-1", "timed out", since_ms=9000).told(),
        Condition("disk_floor", "channel", "disk full", at_risk=True, since_ms=4000).told(),
    ]
    each = row("edge-1", "edge", told)
    assert each.error == "disk full; timed out", "what a person has to act on comes first"
    assert [line for line in agents_lines([each]) if "!" in line] == [
        "    ! disk_floor channel: disk full (since 6s; EVENTS AT RISK; takes nothing in until "
        "there is room; to do: free space on the data directory's disk)",
        "    ! peer_down aggregator/agg-1: timed out (since 1s; no event at risk; other peers get "
        "its batches, flagged: sinks publish one copy of each; to do: start it, or look at the "
        "network)",
    ]


def test_a_receiver_shows_who_sends() -> None:
    told = plain_status("agg-1") | {
        "outputs": [],
        "receiver": {"senders": [{"agent": "edge-1", "credit_bytes": 5}]},
    }
    assert row("agg-1", "aggregator", told).peers == (PeerRow("edge-1", "sends", 5, 0),)


@given(st.dictionaries(st.sampled_from(sorted(plain_status("x"))), JSON))
def test_no_answer_breaks_a_row(strange: dict[str, object]) -> None:
    each = row("edge-1", "edge", plain_status("edge-1") | strange)
    agents_lines([each])
    row_line(each)


def test_what_sources_had_to_drop_is_told() -> None:
    told = plain_status("edge-1")
    counters = {"dropped_kernel": 1200, "dropped_channel_full": 0, "lines_split": 3}
    told["meters"] |= json_of(Numbers(of_sources.counted("syslog", counters)))
    each = row("edge-1", "edge", told)
    assert each.dropped == (("syslog: dropped, kernel", 1200),)
    assert "    syslog: dropped, kernel 1,200" in agents_lines([each])


def test_how_far_behind_it_is_and_when_it_will_be_full() -> None:
    told = plain_status("edge-1")
    late = [of_sources.UNREAD.of(3 << 20, "tail"), of_sources.BEHIND.of(90, "tail")]
    soon = [of_sources.UNREAD.of(10, "new"), of_sources.BEHIND.of(0.1, "new")]
    told["meters"] |= json_of(Numbers([*late, *soon, of_channel.FULL.of(600)]))
    each = row("edge-1", "edge", told)
    assert each.behind == (
        "tail: 3.0 MiB unread, behind by 1.5min",
        "channel: full in 10min, as it is filling now",
    )
    assert "    tail: 3.0 MiB unread, behind by 1.5min" in agents_lines([each])
    for calm in (math.inf, 1e6, 0.0):
        told["meters"] |= json_of(Numbers([of_channel.FULL.of(calm), *soon]))
        assert row("edge-1", "edge", told).behind == ()


def test_what_became_of_flagged_batches_is_told() -> None:
    told = plain_status("edge-1")
    told["outputs"].append({"name": "hdfs", "kind": "sink"})
    counts = FileCounts(flagged=9, claimed=1200, fenced=1, taken_over=2)
    samples = of_sinks.of_files("hdfs", counts)
    told["meters"] |= json_of(Numbers([of_hops.FLAGGED.of(5, "aggregator"), *samples]))
    each = row("edge-1", "edge", told)
    assert each.flagged == ("aggregator: 5 flagged", "hdfs: 1,200 claimed, 1 fenced, 2 taken over")
    assert "    hdfs: 1,200 claimed, 1 fenced, 2 taken over" in agents_lines([each])


def test_an_agent_that_runs_another_file_is_said_to() -> None:
    answer = {**plain_status("edge-1"), "topology_hash": "5c1e" * 4, "generation": 3}
    for asked_by in ("", "5c1e" * 4):
        assert row("edge-1", "edge", answer, asked_by).file == ""
    other = row("edge-1", "edge", answer, "77aa" * 4)
    assert other.healthy, "an edit may be on its way"
    (said,) = [line for line in agents_lines([other]) if "another topology file" in line]
    assert "5c1e5c1e5c1e5c1e, generation 3" in said
    assert "77aa77aa77aa77aa" in said
    assert row("edge-1", "edge", plain_status("edge-1"), "77aa" * 4).file == "", "it does not say"
