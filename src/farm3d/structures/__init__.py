"""Frozen values that cross module boundaries. Each prints its own shapes."""

from farm3d.structures.animal import Animal
from farm3d.structures.camera import Camera
from farm3d.structures.crop import Crop
from farm3d.structures.light import Light
from farm3d.structures.mesh import Mesh
from farm3d.structures.skeleton import Skeleton

__all__ = ["Animal", "Camera", "Crop", "Light", "Mesh", "Skeleton"]
