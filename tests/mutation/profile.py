"""hypothesis for mutants: the same few examples each time, and no search for smaller ones. Who
survives those is tried with many."""

from hypothesis import HealthCheck, Phase, settings

for name, count in (("brief", 40), ("long", 200)):
    settings.register_profile(
        name,
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=tuple(HealthCheck),
    )
