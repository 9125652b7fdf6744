"""The closed world with known truth: CC0 rigged animals."""
