"""Sizes and switches of a category model; everything a researcher may turn off is here."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["CategoryConfig", "Parts"]


@dataclass(frozen=True)
class Parts:
    """What the model may do; each can be switched off to see what it is worth.

    Attributes:
        articulation: bones turn (section 2.7); else every animal stands as the rest shape does.
        deformation: individuals differ in shape (section 2.4).
        hypotheses: one viewpoint for each quarter of the circle (section 2.8); else a single one for all of it.
        elevation: the camera's height is predicted; the paper fixes it at zero.
        local_features: a bone's turn also depends on the picture where the bone is seen (section 2.7); else on the whole picture only.
        tail: three bones for the tail, which the paper has not.
    """

    articulation: bool = True
    deformation: bool = True
    hypotheses: bool = True
    elevation: bool = True
    local_features: bool = True
    tail: bool = True


@dataclass(frozen=True)
class CategoryConfig:
    """A category model but its weights.

    Attributes:
        category: species name.
        channels: of the picture's features that are read (principal components of the backbone's).
        feature_channels: of them that the feature field predicts, the first ones.
        grid: rows and columns of the features, 16 or 32: what the pictures' have (:func:`farm3d.model.encoder.to_reading_grid`).
        sdf_octaves, sdf_hidden, sdf_layers: of the shape field (section 2.2).
        sdf_fall: how much less its higher octaves count (:func:`farm3d.model.fields.harmonic_embedding`); 0 is the paper's.
        box: half sizes of the box that the shape lives in, canonical units; a tight one is half the price of the paper's cube.
        code: width of what is known of a whole picture, for shape and pose; and again for appearance.
        local: channels of what is known of each place of the picture.
        deform_hidden, deform_scale: of the deformation network, and the factor of its output (section 2.4).
        albedo_hidden, albedo_layers, albedo_octaves: of the albedo field (section 2.9).
        bone_width: of the articulation network.
        bone_points: places along a bone at which the picture is looked at: the middle (section 2.7), or so many from end to end.
        looks: how often a bone looks at the picture: where it lies at rest (section 2.7), and each further time where it was turned to.
        local_scale: how many times finer than the features' grid the map of places is.
        azimuth_reach_deg: a hypothesis covers its quarter's middle and this many degrees to both sides.
        elevation_deg: middle and reach of the camera's height.
        shift_reach, log_distance_reach: of the animal's place in the crop, hundredths of the distance, and logarithm of a distance of 10.
        parts: what is switched on.
    """

    category: str
    channels: int = 64
    feature_channels: int = 16
    grid: int = 16
    sdf_octaves: int = 6
    sdf_hidden: int = 128
    sdf_layers: int = 4
    sdf_fall: float = 0.0
    box: tuple[float, float, float] = (1.35, 2.4, 3.1)
    code: int = 128
    local: int = 48
    deform_hidden: int = 96
    deform_scale: float = 0.1
    albedo_hidden: int = 128
    albedo_layers: int = 3
    albedo_octaves: int = 7
    bone_width: int = 128
    bone_points: int = 1
    looks: int = 1
    local_scale: int = 1
    azimuth_reach_deg: float = 50.0
    elevation_deg: tuple[float, float] = (10.0, 22.0)
    shift_reach: float = 8.0
    log_distance_reach: float = 0.35
    parts: Parts = field(default_factory=Parts)

    @property
    def hypotheses(self) -> int:
        """Viewpoints that are predicted for each picture."""
        return 4 if self.parts.hypotheses else 1
