"""tiers: multi-hop, tiered, reliable log and event delivery."""

__version__ = "0.1.0"
