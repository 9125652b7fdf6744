"""The project's own small text-to-image model: trained on the barn's pictures and words alone, drawn on a CPU in under a second."""
