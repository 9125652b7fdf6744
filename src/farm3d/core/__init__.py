"""The basement: shapes legend, errors, strict config, whole files, seeded random streams. Knows nothing of the rest."""
