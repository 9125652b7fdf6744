"""Whether a text-to-image model can be used as a critic: `farm3d prior judge`."""
