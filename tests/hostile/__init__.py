"""What a stranger can do to a running flow, played beside one."""
