"""Animals to files: texture, GLB, contact sheet, video."""
