"""Sources at work for their contract: as parts of an agent, with a channel on disk."""

from dataclasses import replace
from typing import Any

from tests.channel.making import LIMITS
from tests.contracts.sourcing import Rig
from tiers.agent.parts.parts import Parts
from tiers.agent.parts.source import SourcePart, SourceSpec
from tiers.channel.channel import Channel
from tiers.core.change import Change
from tiers.core.entry.cutting import CuttingRules
from tiers.core.entry.routes import everywhere
from tiers.core.steps import Key, StepKind
from tiers.entry.intake import SourceIntake
from tiers.entry.press import Press
from tiers.host.clock import CLOCK
from tiers.interceptors.chain import Chain
from tiers.observe.meters import Meters

ONE_BY_ONE = replace(LIMITS, commit_bytes_max=1)  # changes are committed
EVENT_BYTES_MAX = 1 << 20
RULES = CuttingRules(size_bytes=200, grown_bytes_max=200, set_bytes_max=200, linger_s=0.001)


def spec_of(rig: Rig, **keys: Any) -> SourceSpec:
    options = rig.validate(**{"name": "source", **keys})
    return SourceSpec(options, (), RULES, EVENT_BYTES_MAX, everywhere(("out",)), (), 60.0)


def a_part(rig: Rig, channel: Channel, press: Press, spec: SourceSpec | None = None) -> SourcePart:
    """One whose batches are a few lines each."""
    spec = spec or spec_of(rig)
    intake = SourceIntake(
        spec.options.name, "edge-1", channel, spec.route, press, RULES, EVENT_BYTES_MAX, 60.0
    )
    return SourcePart(spec, rig.of(spec.options), intake, no_chain, CLOCK)


def no_chain(_: SourceSpec) -> Chain:
    return Chain([], EVENT_BYTES_MAX)


class Working:
    """Parts of which one is a source of that kind, and the other generates lines beside it."""

    def __init__(self, rig: Rig, beside: Rig, channel: Channel, press: Press) -> None:
        self.rig = rig
        self._rigs = {"source": rig, "beside": beside}
        self._channel, self._press = channel, press
        self.parts = Parts(self._make, self._settled, Meters(), CLOCK.random)

    async def _make(self, key: Key, spec: SourceSpec) -> SourcePart:
        return a_part(self._rigs[key.name], self._channel, self._press, spec)

    async def _settled(self) -> None:
        await self._channel.submit(Change())

    async def apply(self, **keys: Any) -> None:
        """The source by these keys from now on."""
        specs = {
            Key(StepKind.SOURCE, "source"): spec_of(self._rigs["source"], **keys),
            Key(StepKind.SOURCE, "beside"): spec_of(self._rigs["beside"], name="beside"),
        }
        await self.parts.apply(lambda: specs, 30.0)

    def part(self, name: str = "source") -> SourcePart:
        (found,) = (one for one in self.parts.sources if one.name == name)
        return found
