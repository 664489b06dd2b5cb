"""Topologies whose file changes all the time, counted line by line: scripts/reloads."""
