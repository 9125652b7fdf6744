"""The learned category model: one picture's features to shape, appearance, viewpoint and light (section 2)."""
