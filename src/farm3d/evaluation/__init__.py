"""Numbers and reports: how near predictions come to a known truth."""
