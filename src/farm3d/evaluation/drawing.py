"""Draws truth and predictions alike: through their own cameras, or normalised and from any side."""

from __future__ import annotations

import math

import torch

from farm3d.core.shapes import Float, Tensor, checked
from farm3d.evaluation.predictions import Prediction
from farm3d.geometry.surface import face_areas
from farm3d.render.renderer import RenderOutput, render
from farm3d.structures import Camera, Light

__all__ = ["GREY", "draw", "frame_of", "normalised", "orbit", "plain_light", "seen"]

GREY = 0.5  # linear, behind both truth and prediction where pictures are compared
_DISTANCE = 10.0  # from camera to animal while drawing: the near plane must cut neither a mouse nor an elephant
FOV_DEG = 25.0


def plain_light() -> Light:
    """Return even light: pictures then show the albedo itself."""
    return Light(torch.tensor([0.0, 0.0, 1.0]), torch.tensor(1.0), torch.tensor(0.0))


def seen(prediction: Prediction, *, width_px: int, height_px: int) -> Prediction:
    """Return the same view at another size in pixels, with lengths in the unit that puts the animal 10 from the camera.

    One factor on the object frame's unit: every pixel stays what it was.
    """
    camera = prediction.camera.resized(width_px, height_px)
    depth = float(-camera.to_camera(prediction.vertices)[..., 2].mean())
    factor = _DISTANCE / depth if depth > 1e-9 else 1.0
    matrix = camera.T_camera_world.clone()
    matrix[:3, 3] *= factor
    return prediction.replace(vertices=prediction.vertices * factor, camera=camera.replace(T_camera_world=matrix))


def draw(prediction: Prediction, cameras: Camera, lights: Light, *, supersample: int = 1, background: float = GREY) -> RenderOutput:
    """Draw a prediction through one or several cameras, under one or several lights (as many as cameras, or one); linear colours."""
    pictures = max(cameras.T_camera_world.reshape(-1, 4, 4).shape[0], lights.direction.reshape(-1, 3).shape[0])
    albedo = prediction.albedo if isinstance(prediction.albedo, tuple) else prediction.albedo[None]
    with torch.no_grad():
        return render(
            prediction.vertices[None].expand(pictures, -1, -1),
            prediction.faces,
            cameras,
            lights,
            albedo=albedo,
            supersample=supersample,
            background=background,
        )


@checked
def frame_of(prediction: Prediction) -> tuple[Float[Tensor, "3"], float]:
    """Return the area-weighted centroid of the surface ``[3]`` and its RMS distance from there, exact for triangles, float64."""
    vertices, areas = prediction.vertices.double(), face_areas(prediction.vertices.double(), prediction.faces)
    corners = vertices[prediction.faces]
    weight = areas / areas.sum().clamp_min(1e-30)
    middle = corners.mean(1)
    centre = (weight[:, None] * middle).sum(0)
    # The mean of |p - centre|^2 over a triangle is (|a|^2 + |b|^2 + |c|^2 + 9 |m|^2) / 12 for corners a, b, c and their mean m.
    squared = ((corners - centre).square().sum((1, 2)) + 9 * (middle - centre).square().sum(1)) / 12
    return centre, float((weight * squared).sum().sqrt().clamp_min(1e-12))


def normalised(prediction: Prediction) -> Prediction:
    """Return the prediction moved and scaled, without turning, to centroid 0 and RMS radius 1 (:func:`frame_of`).

    Reconstruction from one picture knows neither size nor place, so both are taken away before pictures from other sides are
    compared; the object frame's axes (left, up, head) are what every method must get right, so turns stay. Area and radius rather
    than the bounding box, which one raised tail would shift.
    """
    centre, radius = frame_of(prediction)
    return prediction.replace(vertices=((prediction.vertices.double() - centre) / radius).float())


def orbit(azimuths_deg: Float[Tensor, " B"], elevation_deg: float, *, size_px: int, reach: float) -> Camera:
    """Return cameras round the origin that show a ball of radius ``reach`` whole, azimuth 0 at the animal's face (section 0.3)."""
    distance = 1.05 * reach / math.sin(math.radians(FOV_DEG) / 2)
    elevation = torch.full_like(azimuths_deg, math.radians(elevation_deg))
    return Camera.orbit(torch.deg2rad(azimuths_deg), elevation, distance=distance, fov_deg=FOV_DEG, size_px=size_px)
