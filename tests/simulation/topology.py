"""The topology that is simulated: two edges, two aggregators, two sinks or three, one store."""

TOPOLOGY = """
name = "sim"
insecure = true
[batch]
linger = "50ms"
size = "1KiB"
codec = "none"
[channel]
size = "16MiB"
free_floor = "1MiB"
[delivery]
window = "136KiB"
bundle_size = "4KiB"
reconnect_max = "2s"
failover_after = "2s"
[tiers.edge]
agents = ["edge-1", "edge-2"]
next = "aggregator"
[[tiers.edge.sources]]
type = "numbers"
[tiers.aggregator]
agents = { AGGREGATORS }
next = "store"
[tiers.store]
agents = { sink-1 = "10.0.2.1:7400", sink-2 = "10.0.2.2:7400" SINKS }
[[tiers.store.sinks]]
type = "directory"
root = "/simulated"
path = "%Y/%m/%d"
roll_after = "2s"
takeover_after = "15s"
"""
RETENTION = '[delivery]\ndedupe_retention = "20s"\n'
END = '[delivery]\nguarantee = "end"\nlost_after = "6s"\n'
AGGREGATORS = ('agg-1 = "10.0.1.1:7400"', 'agg-2 = "10.0.1.2:7400"')


def text(guarantee: str, sinks: int, lines: int, *, closing: bool, without: bool) -> str:
    """With short retention where days are `closing`, and `without` the second aggregator."""
    found = TOPOLOGY.replace("AGGREGATORS", ", ".join(AGGREGATORS[: 1 if without else 2]))
    more = "".join(f', sink-{n} = "10.0.2.{n}:7400"' for n in range(3, sinks + 1))
    found = found.replace(" SINKS", more)
    if guarantee == "end":
        found = found.replace("[delivery]\n", END)
    if closing:
        found = found.replace("[delivery]\n", RETENTION).replace('"15s"', '"5s"')
    return found.replace('type = "numbers"', f'type = "numbers"\nlines = {lines}')
