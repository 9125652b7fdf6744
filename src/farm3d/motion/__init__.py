"""Animation clips as joint-angle curves."""
