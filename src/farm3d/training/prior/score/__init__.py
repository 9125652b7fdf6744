"""How well a text-to-image model draws what it is asked: `farm3d prior score`."""
