"""What must hold between the parts of a topology, each part by itself being right."""

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Final, NamedTuple

from tiers.core import paths
from tiers.core.batch import ENVELOPE_BYTES_MAX, HEADER_BYTES_MAX, HEADERS_MAX
from tiers.core.hop.peers import PEERS_MAX
from tiers.sources import globs
from tiers.topology.address import Address
from tiers.topology.draft import (
    Draft,
    PlacedSink,
    PlacedSource,
    address_key,
    agent_key,
    tier_key,
)
from tiers.topology.fitting import BATCHES_IN_CHANNEL, record_bytes_max
from tiers.topology.graph import check_graph
from tiers.topology.model import Topology
from tiers.topology.problems import Problems, join, nearest, show
from tiers.topology.settings import write_duration, write_size

_PORTS: Final = frozenset(("data port", "control port"))  # of an agent, for others
_HEADERS_BYTES_MAX: Final = ENVELOPE_BYTES_MAX // 2  # they share the envelope with other fields


def check(draft: Draft, problems: Problems) -> None:
    """Adds everything that is wrong with what could be read."""
    topology = draft.topology
    _check_agents(topology, problems)
    check_graph(topology, problems)
    _check_addresses(topology, problems)
    _check_clashes(draft, problems)
    _check_bindings(draft, problems)
    _check_sources(draft, problems)
    _check_outputs(draft, problems)
    _check_paths(draft, problems)
    _check_places(draft, problems)
    _check_loops(draft, problems)
    _check_limits(topology, problems)


def _check_agents(topology: Topology, problems: Problems) -> None:
    homes: dict[str, str] = {}
    for tier in topology.tiers.values():
        for agent in tier.agents:
            if agent in homes:
                found = f"{agent!r}, which is in tier {homes[agent]!r} too"
                problems.add(tier_key(tier.name, "agents"), "each agent in one tier", found)
            homes.setdefault(agent, tier.name)
        peers = sum(len(topology.peers(name)) for name in tier.next)
        if peers > PEERS_MAX:
            wanted = f"at most {PEERS_MAX:,} agents that each agent of {tier.name} sends to"
            problems.add(tier_key(tier.name, "next"), wanted, f"{peers:,}")
    for agent in topology.agents:
        if agent not in homes:
            hint = nearest(agent, homes)
            problems.add(agent_key(agent), "an agent of some tier", show(agent), hint)


def _check_addresses(topology: Topology, problems: Problems) -> None:
    """Who receives must be reachable, and at one machine."""
    for tier in topology.tiers.values():
        senders = topology.upstream(tier.name)
        for agent, address in tier.agents.items():
            place = tier_key(tier.name, "agents", agent)
            if address is None and senders and not problems.under(place):
                wanted = f"an address for {agent}: {senders[0]} sends to this tier"
                hint = f'write agents = {{ {agent} = "HOST:PORT" }}'
                problems.add(tier_key(tier.name, "agents"), wanted, "its name alone", hint)
            if address is not None and address.wildcard:
                wanted = "an address that other agents can reach"
                hint = f'listen = "{address}" belongs in [agents.{agent}]'
                problems.add(place, wanted, str(address), hint)


class _Claim(NamedTuple):
    key: str
    agent: str
    what: str


def _check_clashes(draft: Draft, problems: Problems) -> None:
    """Two on one address; an agent's address and the port after it are both taken."""
    told: set[frozenset[str]] = set()
    for (transport, host, port), claimed in _claims(draft).items():
        for first, second in _pairs(claimed):
            # An agent may listen where it is reached, or on ports that are forwarded from there.
            own = first.agent == second.agent and {first.what, second.what} <= _PORTS
            if own or first == second or (pair := frozenset((first.key, second.key))) in told:
                continue
            told.add(pair)
            at = Address(host, port) if not host.startswith("where") else f"port {port}"
            over = "" if transport == "tcp" else f" ({transport.upper()})"
            found = f"{at}{over}, {first.what} of {first.agent} and {second.what} of {second.agent}"
            hint = "an agent takes two ports: data, and control one above"
            one_is_ours = {first.what, second.what} & _PORTS
            problems.add(second.key, "an address of its own", found, hint if one_is_ours else "")


def _claims(draft: Draft) -> dict[tuple[str, str, int], list[_Claim]]:
    """Who wants each port of each host."""
    topology = draft.topology
    claims: dict[tuple[str, str, int], list[_Claim]] = defaultdict(list)
    for agent in topology.agent_names():
        address, settings = topology.tier_of(agent).agents[agent], topology.settings(agent)
        home = address.host if address else f"where {agent} runs"
        data: list[tuple[str, str, int]] = []
        if address is not None:
            data.append((address_key(topology, agent), address.host, address.port))
        if (listen := settings.listen) is not None:
            # Every machine has a wildcard and a loopback: they do not tell two machines apart.
            host = home if listen.wildcard or listen.loopback else listen.host
            data.append((agent_key(agent, "listen"), host, listen.port))
        for key, host, port in data:
            claims["tcp", host, port].append(_Claim(key, agent, "data port"))
            claims["tcp", host, port + 1].append(_Claim(key, agent, "control port"))
        if (status := settings.status) is not None:
            host = home if status.wildcard else status.host
            claim = _Claim(agent_key(agent, "status"), agent, "status")
            claims["tcp", host, status.port].append(claim)
    for agent in topology.agent_names():
        for source in draft.sources:
            if source.tier == topology.tier_of(agent).name and source.agent in ("", agent):
                _claim_of_source(source, agent, topology, claims)
    return claims


def _claim_of_source(
    source: PlacedSource,
    agent: str,
    topology: Topology,
    claims: dict[tuple[str, str, int], list[_Claim]],
) -> None:
    """Within one agent: whether two of them share a machine is not known here."""
    claim = _Claim(join(source.key, "listen"), agent, f"source {source.options.name}")
    own = topology.tier_of(agent).agents[agent]
    for text in source.options.listen_addresses():
        try:
            address = Address.parse(text)
        except ValueError:  # a name, or whichever port is free
            continue
        hosts = {address.host}
        if address.wildcard or address.loopback:
            hosts.add(own.host if own else f"where {agent} runs")
        for transport in dict.fromkeys(source.options.listen_transports()):
            for host in sorted(hosts):
                claimed = claims[transport, host, address.port]
                if all(other.agent == agent for other in claimed):
                    claimed.append(claim)


def _pairs(claims: list[_Claim]) -> Iterable[tuple[_Claim, _Claim]]:
    return ((a, b) for index, a in enumerate(claims) for b in claims[index + 1 :])


def _check_bindings(draft: Draft, problems: Problems) -> None:
    """Without keys nothing binds beyond loopback, unless the file says that this is meant."""
    topology = draft.topology
    if topology.insecure or problems.under("insecure") or problems.suggests("insecure", ""):
        return
    binds: list[tuple[str, Address | None]] = []
    for agent in topology.agent_names():
        settings = topology.settings(agent)
        own = settings.listen is not None
        key = agent_key(agent, "listen") if own else address_key(topology, agent)
        binds += [(key, topology.listen(agent)), (agent_key(agent, "status"), settings.status)]
    beyond = [(key, str(address)) for key, address in binds if address and not address.loopback]
    beyond += [
        (source.key, address)
        for source in draft.sources
        for address in source.options.listen_addresses()
        if not _on_loopback(address)
    ]
    hint = (
        "there are no keys yet: write insecure = true at the top of the file "
        "if you trust everyone who can reach this address"
    )
    for key, found in beyond:
        problems.add(key, "an address on loopback", found, hint)


def _on_loopback(address: str) -> bool:
    # Of a source any port will do, also 0: it is no peer.
    try:
        return Address.parse(f"{address.rpartition(':')[0]}:1").loopback
    except ValueError:
        return False


def _check_sources(draft: Draft, problems: Problems) -> None:
    for source in draft.sources:
        _check_headers(source, problems)
        _check_interceptors(draft.topology, source, problems)
    for tier in draft.topology.tiers.values():
        for agent in tier.agents or ("",):
            seen: set[str] = set()
            for source in draft.sources:
                if source.tier != tier.name or source.agent not in ("", agent):
                    continue
                name = source.options.name
                place = join(source.key, "name")
                if name in seen and not problems.under(place):
                    wanted = f"a name that no other source of {agent or tier.name} has"
                    problems.add(place, wanted, show(name), "give each a `name`")
                seen.add(name)


def _check_interceptors(topology: Topology, source: PlacedSource, problems: Problems) -> None:
    seen: set[str] = set()
    places = [join(source.key, "interceptors", i) for i in range(len(source.options.interceptors))]
    of_tier = tier_key(source.tier, "interceptors")
    for index, each in enumerate(topology.interceptors(source.tier, source.options)):
        own = index < len(places)
        place = places[index] if own else join(of_tier, index - len(places))
        if each.name in seen and not problems.under(name := join(place, "name")):
            wanted = f"a name that no other interceptor has which {source.key} comes through"
            problems.add(name, wanted, show(each.name), "give each a `name`")
        seen.add(each.name)
    count = len(topology.header_names(source.tier, source.options))
    if count > HEADERS_MAX and not problems.under(place := join(source.key, "headers")):
        problems.add(place, f"at most {HEADERS_MAX} headers with those of interceptors", str(count))


def _check_headers(source: PlacedSource, problems: Problems) -> None:
    place = join(source.key, "headers")
    headers, names = source.options.headers, source.options.header_names()
    added = sorted(names - set(headers))  # by the source itself, to each batch
    if len(names) > HEADERS_MAX:
        found = f"{len(headers)} and {', '.join(added)}" if added else str(len(headers))
        problems.add(place, f"at most {HEADERS_MAX} headers", found)
    for name in (*headers, *added):
        value = headers.get(name, "")
        if not name.strip() or not name.isprintable() or any(mark in name for mark in "{}%/"):
            wanted = "a header's name: not empty, printable, without '{', '}', '%' and '/'"
            problems.add(place, wanted, show(name))
        if max(len(text.encode(errors="replace")) for text in (name, value)) > HEADER_BYTES_MAX:
            problems.add(join(place, name), f"at most {HEADER_BYTES_MAX} bytes", show(value))
    in_all = sum(len(f"{name}{value}".encode(errors="replace")) for name, value in headers.items())
    in_all += sum(len(name.encode(errors="replace")) + HEADER_BYTES_MAX for name in added)
    if in_all > _HEADERS_BYTES_MAX and not problems.under(place):
        wanted = f"at most {_HEADERS_BYTES_MAX} bytes, names and values together"
        more = f", with {HEADER_BYTES_MAX} for {', '.join(added)}" if added else ""
        problems.add(place, wanted, f"{in_all}{more}")


def _check_outputs(draft: Draft, problems: Problems) -> None:
    """Each output is a queue in the channel, by its name."""
    for tier in draft.topology.tiers.values():
        seen = dict.fromkeys(tier.next, f"the next tier {{!r}} of {tier.name}")
        for sink in draft.sinks:
            if sink.tier != tier.name:
                continue
            name = sink.options.name
            if name in seen and not problems.under(place := join(sink.key, "name")):
                wanted = "a name that no other output of the tier has"
                problems.add(place, wanted, seen[name].format(name), "give each a `name`")
            seen[name] = f"another sink {{!r}} of {tier.name}"


def _check_paths(draft: Draft, problems: Problems) -> None:
    for sink in draft.sinks:
        place, template = join(sink.key, "path"), sink.options.path_template()
        if problems.under(place):
            continue
        wrong = paths.problems(template)
        for each in wrong:
            wanted = 'a path such as "{service}/%Y/%m/%d/%H"'
            problems.add(place, wanted, f"{each}, in {template!r}")
        if not wrong and not problems.under("batch.time_bucket"):
            _check_time_codes(template, draft.topology.batch.time_bucket_s, place, problems)
        _check_path_headers(sink, draft, problems)


def _check_time_codes(template: str, bucket_s: float, key: str, problems: Problems) -> None:
    """All events of a batch go to one path, so none of its codes may change within a bucket."""
    if paths.fits(template, bucket_s):
        return
    codes = [f"%{code}" for code in re.findall("%([^%])|%%", template) if code]
    finer = [code for code in dict.fromkeys(codes) if not paths.fits(code, bucket_s)]
    bucket = write_duration(paths.granularity(template))
    problems.add(
        key,
        f"no time code finer than batch.time_bucket, {write_duration(bucket_s)}",
        f"{', '.join(finer)} in {template!r}",
        f'leave it out, or set time_bucket = "{bucket}" in [batch]',
    )


def _check_path_headers(sink: PlacedSink, draft: Draft, problems: Problems) -> None:
    template, reaching = sink.options.path_template(), draft.topology.reaching(sink.tier)
    sources = [source for source in draft.sources if source.tier in reaching]
    unclear = [key for tier in reaching for key in _source_keys(draft.topology, tier)]
    if not sources or problems.under(*unclear):
        return
    names_of = draft.topology.header_names
    known = sorted({name for s in sources for name in names_of(s.tier, s.options)})
    for header in sorted(paths.header_names(template) - set(known)):
        wanted = f"headers that a source of {sink.tier} or of a tier before it sets"
        hint = nearest(header, known) or "no source there sets any"
        problems.add(join(sink.key, "path"), wanted, f"{{{header}}} in {template!r}", hint)


def _source_keys(topology: Topology, tier: str) -> list[str]:
    """Where the sources of a tier and of its agents stand."""
    agents = topology.tiers[tier].agents
    return [tier_key(tier, "sources"), *(agent_key(agent, "sources") for agent in agents)]


def _check_places(draft: Draft, problems: Problems) -> None:
    """Two outputs on one root would take each other's files and claims for their own."""
    sinks = [sink for sink in draft.sinks if not problems.under(sink.key)]
    for index, sink in enumerate(sinks):
        for other in sinks[:index]:
            a, b = other.options.place(), sink.options.place()
            if not a or not b:  # not at any place
                continue
            if a == b:
                found = f"{b}, where {other.key} writes"
                problems.add(join(sink.key, "root"), "a root of its own", found)
            elif _inside(a, b) or _inside(b, a):
                found = f"{b}; {other.key} writes to {a}"
                problems.add(join(sink.key, "root"), "a root not inside another's", found)


def _check_loops(draft: Draft, problems: Problems) -> None:
    """What a sink of its own agent publishes a source would read, and publish again, for ever."""
    for source in draft.sources:
        place = join(source.key, "paths")
        for sink in draft.sinks:
            root = sink.options.writes()
            if source.tier != sink.tier or not root or problems.under(source.key, sink.key):
                continue
            for pattern in source.options.reads():
                if globs.finds_below(pattern, root):
                    wanted = "paths that find nothing of what the agent itself writes"
                    found = f"{show(pattern)}, and {sink.key} writes below {root}"
                    problems.add(place, wanted, found, "write elsewhere, or name the files")


def _inside(outer: str, inner: str) -> bool:
    return inner.startswith(outer.rstrip("/") + "/")


def _check_limits(topology: Topology, problems: Problems) -> None:
    batch, channel, delivery = topology.batch, topology.channel, topology.delivery
    grows = batch.grown_bytes_max > batch.size_bytes_max
    largest = "batch.size_max" if grows else "batch.size"
    whole = record_bytes_max(batch.grown_bytes_max)
    message = delivery.bundle_bytes_max + whole
    rules = (
        ("batch.event_size", ("batch.size",), batch.event_bytes_max <= batch.size_bytes_max,
         f"at most batch.size, {write_size(batch.size_bytes_max)}",
         write_size(batch.event_bytes_max)),
        ("batch.size_max", ("batch.size",), batch.grown_bytes_max >= batch.size_bytes_max,
         f"at least batch.size, {write_size(batch.size_bytes_max)}",
         write_size(batch.grown_bytes_max)),
        ("batch.set_size", ("batch.size", "batch.size_max"),
         batch.set_bytes_max >= batch.grown_bytes_max,
         f"at least {largest}, {write_size(batch.grown_bytes_max)}",
         write_size(batch.set_bytes_max)),
        ("batch.level", ("batch.codec",), batch.codec != "gzip" or batch.level <= 9,
         "1 to 9 for gzip", str(batch.level)),
        ("channel.low", ("channel.high",), channel.low < channel.high,
         f"less than channel.high, {channel.high}", str(channel.low)),
        ("channel.size", ("batch.size", "batch.size_max"),
         channel.size_bytes_max >= BATCHES_IN_CHANNEL * whole,
         f"at least {write_size(BATCHES_IN_CHANNEL * whole)}, room for four batches of {largest} "
         "and what comes with them", write_size(channel.size_bytes_max)),
        ("delivery.window", ("batch.size", "batch.size_max"), delivery.window_bytes_max >= whole,
         f"at least {write_size(whole)}, a batch of {largest} and what comes with it",
         write_size(delivery.window_bytes_max)),
        ("delivery.message_size", ("batch.size", "batch.size_max", "delivery.bundle_size"),
         delivery.message_bytes_max >= message,
         f"at least {write_size(message)}: bundle_size, and a batch with what comes with it",
         write_size(delivery.message_bytes_max)),
        ("delivery.lost_after", ("delivery.failover_after",),
         delivery.failover_after_s <= delivery.lost_after_s,
         f"at least failover_after, {write_duration(delivery.failover_after_s)}",
         write_duration(delivery.lost_after_s)),
        ("delivery.heartbeat", ("delivery.failover_after",),
         2 * delivery.heartbeat_s <= delivery.failover_after_s,
         f"at most half of failover_after, {write_duration(delivery.failover_after_s)}",
         write_duration(delivery.heartbeat_s)),
    )  # fmt: skip
    for key, others, holds, wanted, found in rules:
        if not holds and not problems.under(key, *others):
            problems.add(key, wanted, found)
