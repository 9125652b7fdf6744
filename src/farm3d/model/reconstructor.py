"""The main job: one picture of an animal to an articulated, textured Animal."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
import torch
from torch import nn

from farm3d.core.errors import InputError, NoAnimalError
from farm3d.data.photo import Photo, load_photo, photo_from_image, shown_path
from farm3d.data.preprocess import Silhouette, find_mask, make_crop, one_animal
from farm3d.data.segment import OnnxSegmenter, Segmenter
from farm3d.model.appearance import TexelMap, estimate_appearance, texel_map
from farm3d.model.caption_reader import CaptionReader, reader_folder
from farm3d.model.category.first_guess import first_guess
from farm3d.model.category.learned import LearnedCategory, load_category
from farm3d.model.encoder import NO_ANIMAL_BELOW, SHIPPED_ENCODER, Encoder, ImageEncoder, open_backbone, to_reading_grid
from farm3d.model.fitting import GUIDED_SAGITTAL, Fit, FitOptions, Hypothesis, Progress, fit
from farm3d.model.prior import CategoryPrior
from farm3d.structures import Animal, Camera, Crop, Mesh

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["CategoryGuess", "Reconstruction", "Reconstructor", "check_request", "read_picture"]

_FIT_PX = 256  # of the crop that is compared
_TEXTURE_CROP_PX = 1024  # largest crop that colours are taken from
_OTHER_SIDE_DEG = 60.0  # views nearer to each other than this are one
_CLOSE = 0.2  # confidence from which a runner-up is told


class CategoryGuess(NamedTuple):
    """A category, and how probable it is among those that were asked for, 0 to 1."""

    category: str
    probability: float


@dataclass(frozen=True)
class Reconstruction:
    """What one picture gave.

    Attributes:
        animal: everything the product files are made of.
        crop: the picture as it was compared.
        iou: agreement of the fitted outline with the mask at 128 px, 1 is perfect. Not a measure of the shape in depth.
        hypotheses: the views that were tried, the delivered one first, then best first.
        timings_s: seconds by stage.
        warnings: plain sentences for the user.
        seen: share of the texture that the picture itself shows.
        view_confidence: how probable the delivered view is beside the others that were tried, 0 to 1.
        runner_up: the next best view from quite another side, if it is close; else None.
        categories: what else it might be, best first, where the category was not given.
    """

    animal: Animal
    crop: Crop
    iou: float
    hypotheses: tuple[Hypothesis, ...]
    timings_s: dict[str, float]
    warnings: tuple[str, ...]
    seen: float
    view_confidence: float
    runner_up: Hypothesis | None
    categories: tuple[CategoryGuess, ...] = ()


class Reconstructor:
    """A category prior and a frozen encoder; call it on pictures.

    ::

        reconstructor = Reconstructor.from_pretrained("horse")
        result = reconstructor("photo.jpg", mask="photo_mask.png")
    """

    def __init__(
        self,
        prior: CategoryPrior,
        encoder: Encoder,
        learned: LearnedCategory | None = None,
        reader: CaptionReader | None = None,
        backbone: ImageEncoder | None = None,
    ) -> None:
        self.prior = prior
        self.encoder = encoder  # knows whether there is an animal
        self.backbone = backbone or encoder  # whose features the category reads
        self.learned = learned
        self.reader = reader
        self.device = torch.device("cpu")
        self._texels: TexelMap | None = None

    @classmethod
    def from_pretrained(
        cls, folder: Path | str, *, device: torch.device | str = "cpu", reader: Path | str = "auto", backbone: str | None = None
    ) -> Self:
        """Load a category by folder, or by the name of a shipped one (``horse``, ``cow``), and the backbone it was made for.

        A learned category (``farm3d train``) brings networks that look at the picture first; one without is fitted from all sides.

        Args:
            folder: of the category.
            device: where it runs.
            reader: who is asked from which side a picture was taken, where a learned category has several answers: "auto" is the shipped
                caption reader if it knows the category, "none" nobody; or the folder of one. The features of one that is only fitted know
                photographs better than it does (docs/experiments.md).
            backbone: folder or hub id of the backbone that the category was learned with; None finds the shipped one, or a hub id.

        Raises:
            ModelError: a folder is damaged, incomplete or of another kind.
            InputError: the reader that was asked for does not know the category; the backbone is not here, or another one.
            MissingPartError: the backbone needs transformers, or is not here and cannot be fetched.
        """
        prior, learned = load_category(folder)
        encoder = Encoder.from_pretrained()
        own = _backbone(prior, learned, backbone)
        place = reader_folder(reader, usual=learned is not None)
        asked = None if place is None else CaptionReader.from_pretrained(place, encoder=encoder)
        known = asked is not None and asked.config.encoder == prior.config.encoder and prior.config.category in asked.config.species
        if asked is not None and not known and reader != "auto":
            raise InputError(f"{place}: does not know a {prior.config.category}", hint="give another --reader, or none")
        asked = asked if known and learned is not None else None
        return cls(prior, encoder, learned, asked, own).to(device)

    def save_pretrained(self, folder: Path | str, *, card: str) -> None:
        """Write the category as a model folder; the backbone stays where it is."""
        (self.learned or self.prior).save_pretrained(folder, card=card)

    def to(self, device: torch.device | str) -> Self:
        """Move everything to a device and return self."""
        self.device, self._texels = torch.device(device), None
        self.learned = None if self.learned is None else self.learned.to(self.device)
        self.prior = self.prior.to(self.device) if self.learned is None else self.learned.prior
        self.encoder = self.encoder.to(self.device)
        if isinstance(self.backbone, nn.Module):
            self.backbone = self.backbone.to(self.device)
        self.reader = None if self.reader is None else self.reader.to(self.device)
        return self

    def __call__(
        self,
        image: Photo | Image.Image | np.ndarray | Path | str,
        *,
        mask: Path | str | np.ndarray | Silhouette | None = None,
        segmenter: Segmenter | None = None,
        refine: bool = True,
        refine_steps: int | None = None,
        height_m: float | None = None,
        texture_px: int = 1024,
        seed: int = 0,
        callback: Callable[[Progress], bool | None] | None = None,
    ) -> Reconstruction:
        """Reconstruct the animal in one picture.

        Args:
            image: path, PIL picture, uint8 array ``[H, W, 3 or 4]`` or loaded Photo.
            mask: silhouette, as a file, an array ``[H, W]`` or one found before; None uses the picture's alpha, else ``segmenter``.
            segmenter: finds the silhouette when there is neither mask nor alpha; None uses the one that is installed.
            refine: False delivers what one pass of a learned category gives; of no effect on one that is only fitted.
            refine_steps: steps of the last stage; None uses the default.
            height_m: height of the rest shape in metres; None uses the category's.
            texture_px: side of the texture.
            seed: shifts the start views a little; equal seed and thread count, equal result.
            callback: told about each step; returning False stops.

        Raises:
            InputError: the picture or the mask cannot be used.
            NoAnimalError: there is no silhouette, or nothing in it that looks like an animal.
            Cancelled: the callback returned False.
        """
        check_request(refine_steps=refine_steps, height_m=height_m, texture_px=texture_px, seed=seed)
        clock = _Clock()
        photo, silhouette = read_picture(image, mask, segmenter)
        clock("mask")
        crop = self.crop(photo, silhouette)
        crop = self._checked(photo, crop, silhouette)
        maps = self.maps(crop)
        features = self.prior.project(maps)[0]
        clock("features")
        options = FitOptions(seed=seed, refine=refine)
        if refine_steps is not None:
            options = replace(options, refine_steps=refine_steps)
        with _one_thread():
            guess = None if self.learned is None else first_guess(self.learned, crop, maps, sagittal=GUIDED_SAGITTAL)
            prior, starts = (self.prior, None) if guess is None else (guess.prior, guess.starts)
            found = fit(prior, crop, features=features, options=options, starts=starts, view=self._view(crop, maps), callback=callback)
        clock("fit")
        side = min(_TEXTURE_CROP_PX, max(_FIT_PX, round(crop.box_px[2])))
        detailed = crop if side == _FIT_PX else self._crop(photo, silhouette, side, crop.box_px)
        expected = None if guess is None else guess.colours
        animal, seen = self._animal(found, detailed, height_m=height_m, texture_px=texture_px, expected=expected)
        clock("texture")
        confidence, runner_up = _sureness(found.hypotheses)
        return Reconstruction(
            animal,
            crop,
            found.terms.iou[0].item(),
            found.hypotheses,
            clock.seconds,
            _warnings(crop, found, runner_up),
            round(seen, 4),
            confidence,
            runner_up,
        )

    def crop(self, photo: Photo, silhouette: Silhouette) -> Crop:
        """Return the part of a photograph that is compared, on this device."""
        return self._crop(photo, silhouette, _FIT_PX)

    def first_score(self, crop: Crop, maps: torch.Tensor) -> float:
        """Return how well one pass of the networks explains a crop with these :meth:`maps`: the best score, lower is better."""
        assert self.learned is not None
        features = self.prior.project(maps)[0]
        with _one_thread():
            guess = first_guess(self.learned, crop, maps, sagittal=GUIDED_SAGITTAL)
            found = fit(guess.prior, crop, features=features, options=FitOptions(refine=False), starts=guess.starts)
        return found.hypotheses[0].score

    def _view(self, crop: Crop, maps: torch.Tensor) -> torch.Tensor | None:
        """Return how probable each of the eight views is to the caption reader; None if there is none."""
        if self.reader is None:
            return None
        reading = self.reader.read_maps(maps, crop.mask[None])
        # Where it does not even see the animal that it is told of, it is out of its world, and has less of a say.
        trust = reading.species[0, self.reader.config.species.index(self.prior.config.category)]
        view = reading.view[0] ** trust
        return view / view.sum()

    def _crop(self, photo: Photo, silhouette: Silhouette, size_px: int, box_px: tuple[float, float, float] | None = None) -> Crop:
        return make_crop(photo, silhouette, size_px=size_px, box_px=box_px).to(self.device)

    def _checked(self, photo: Photo, crop: Crop, silhouette: Silhouette) -> Crop:
        """Refuse what does not look like an animal if a segmenter chose it; who marks it by hand knows better and is only told."""
        with torch.no_grad():
            probability = self.encoder.animal_probability(crop.image[None], crop.mask[None])[0].item()
        if probability >= NO_ANIMAL_BELOW:
            return crop
        if silhouette.source == "segmenter":
            hint = "if there is one, mark it with --mask FILE"
            raise NoAnimalError(f"{shown_path(photo.path or photo.name)}: this does not look like an animal", hint=hint)
        return crop.replace(warnings=(*crop.warnings, "what the mask marks does not look like a four-legged animal"))

    def maps(self, crop: Crop) -> torch.Tensor:
        """Backbone features of the animal on a plain background; the mean of the picture and its mirror image.

        An unlike background costs accuracy (recipes, part C), and the network is not quite mirror symmetric.
        """
        plain = crop.image * crop.mask + 0.5 * (1 - crop.mask)
        with torch.no_grad():
            maps = self.backbone.features(torch.stack([plain, plain.flip(-1)]))
            return to_reading_grid((maps[:1] + maps[1:].flip(-1)) / 2)

    def _animal(
        self, found: Fit, crop: Crop, *, height_m: float | None, texture_px: int, expected: torch.Tensor | None
    ) -> tuple[Animal, float]:
        with torch.no_grad():
            rest = self.prior.template.replace(vertices=found.posed.rest[0])
            posed = found.posed.vertices[0]
            camera = found.posed.camera
            camera = camera.replace(T_camera_world=camera.T_camera_world[0], intrinsics=camera.intrinsics[0])
            if self._texels is None or self._texels.texture_px != texture_px:
                self._texels = texel_map(rest, self.prior.mirror, texture_px=texture_px)
            look = estimate_appearance(
                rest, self.prior.mirror, posed, camera, crop, texture_px=texture_px, expected=expected, texels=self._texels
            )
        skeleton = found.posed.skeleton
        skeleton = skeleton.replace(starts=skeleton.starts[0], ends=skeleton.ends[0], centre=skeleton.centre[0])
        animal = Animal(
            self.prior.config.category,
            Mesh(rest.vertices.detach(), rest.faces, rest.uv, rest.faces_uv),
            skeleton.replace(starts=skeleton.starts.detach(), ends=skeleton.ends.detach()),
            self.prior.skin_weights,
            found.posed.angles[0].detach(),
            look.albedo,
            look.light,
            photo_camera(camera, crop),
            height_m if height_m is not None else self.prior.config.height_m,
        )
        return animal, look.seen


def _backbone(prior: CategoryPrior, learned: LearnedCategory | None, asked: str | None) -> ImageEncoder | None:
    """Open the backbone whose features a category reads; None is the shipped one.

    Raises:
        InputError: it is not here, or is not the one that the category was learned with.
    """
    name = prior.config.encoder
    if asked is None and name == SHIPPED_ENCODER:
        return None
    try:
        found = open_backbone(asked or name)
    except InputError as error:
        if asked is not None:
            raise
        what = f"the category was learned with the backbone '{name}', which is not here"
        raise InputError(what, hint="say where it is: --encoder FOLDER") from error
    if learned is not None and found.digest != learned.encoder_digest:
        raise InputError(f"{asked or name}: is not the backbone that the category was learned with", hint=f"that was '{name}'")
    return found.encoder


def read_picture(
    image: Photo | Image.Image | np.ndarray | Path | str,
    mask: Path | str | np.ndarray | Silhouette | None,
    segmenter: Segmenter | None,
) -> tuple[Photo, Silhouette]:
    """Return a picture and the animal's silhouette in it; arguments as of :class:`Reconstructor`."""
    photo = _as_photo(image)
    return photo, mask if isinstance(mask, Silhouette) else _silhouette(photo, mask, segmenter)


def check_request(*, refine_steps: int | None, height_m: float | None, texture_px: int, seed: int) -> None:
    """Check the numbers that :class:`Reconstructor` takes.

    Raises:
        InputError: one of them is no such number or out of range.
    """
    if refine_steps is not None and not (isinstance(refine_steps, Integral) and 0 <= refine_steps <= 5000):
        raise InputError(f"refine steps: expected 0 to 5000, got {refine_steps}")
    if height_m is not None and not (isinstance(height_m, Real) and 0.01 <= height_m <= 100):
        raise InputError(f"height: expected 0.01 to 100 metres, got {height_m}")
    if not (isinstance(texture_px, Integral) and 64 <= texture_px <= 8192):
        raise InputError(f"texture side: expected 64 to 8192 pixels, got {texture_px}")
    if not isinstance(seed, Integral):
        raise InputError(f"seed: expected a whole number, got {seed!r}")


def photo_camera(camera: Camera, crop: Crop) -> Camera:
    """Return a crop's camera as one of the whole upright photograph: same pose, the crop's place in the intrinsics."""
    x0, y0, side = crop.box_px
    scale = side / camera.width_px
    fx, fy, cx, cy = camera.intrinsics.unbind(-1)
    intrinsics = torch.stack([fx * scale, fy * scale, cx * scale + x0, cy * scale + y0], -1)
    return Camera(camera.T_camera_world.detach(), intrinsics.detach(), *crop.photo_size_px)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Run torch's own operators on one thread: the fit's tensors are small, and handing them round costs more than it saves (measured:
    equal on an idle machine, four times slower on a busy one). The renderer's kernels keep their threads.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Clock:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def __call__(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = round(now - self._last, 3)
        self._last = now


def _as_photo(image: Photo | Image.Image | np.ndarray | Path | str) -> Photo:
    if isinstance(image, Photo):
        return image
    if isinstance(image, (str, Path)):
        return load_photo(image)
    return photo_from_image(image)


def _silhouette(photo: Photo, mask: Path | str | np.ndarray | None, segmenter: Segmenter | None) -> Silhouette:
    if mask is None or isinstance(mask, (str, Path)):
        return find_mask(photo, None if mask is None else Path(mask), segmenter=segmenter or OnnxSegmenter())
    width, height = photo.size_px
    try:
        mask = np.asarray(mask)  # lists and PIL pictures too
    except (ValueError, TypeError, RuntimeError) as error:  # rows of unequal length; a tensor that wants gradients
        raise InputError(f"mask: expected a file, or an array of numbers or booleans: {str(error).splitlines()[0]}") from error
    if mask.dtype.kind not in "buif":
        raise InputError(f"mask: expected a file, or an array of numbers or booleans, got {mask.dtype}")
    if mask.shape != (height, width):
        raise InputError(f"mask: expected an array of {height} x {width} (the upright photo's rows and columns), got {mask.shape}")
    coverage = mask.astype("float32")
    if not (np.isfinite(coverage).all() and (coverage >= 0).all()):
        raise InputError("mask: expected finite values of 0 and more, 0 where the animal is not")
    coverage = (coverage / max(float(coverage.max()), 1e-6)).clip(0, 1)
    if (coverage > 0.5).mean() > 0.98:
        raise InputError("mask: it covers the whole picture", hint="0 where the animal is not")
    found = one_animal(coverage)
    if found is None:
        raise NoAnimalError("mask: it marks no animal", hint="1 or True where the animal is")
    return Silhouette(found[0], "array", found[1])


def _sureness(hypotheses: tuple[Hypothesis, ...]) -> tuple[float, Hypothesis | None]:
    """Return the confidence of the best view, with that of its near neighbours, and the runner-up if that is close."""
    first, *others = hypotheses

    def apart(h: Hypothesis) -> bool:
        return abs((h.azimuth_deg - first.azimuth_deg + 180) % 360 - 180) > _OTHER_SIDE_DEG

    close = [h for h in others if apart(h) and h.confidence > _CLOSE]
    return round(1 - sum(h.confidence for h in others if apart(h)), 4), close[0] if close else None


def _warnings(crop: Crop, found: Fit, runner_up: Hypothesis | None) -> tuple[str, ...]:
    warnings = list(crop.warnings)
    if found.terms.iou[0] < 0.75:
        warnings.append(f"the outline fits poorly (agreement {found.terms.iou[0]:.2f}): look at the contact sheet before you use it")
    if runner_up is not None:
        first = found.hypotheses[0]
        warnings.append(
            f"the view is uncertain: azimuths {first.azimuth_deg:.0f} and {runner_up.azimuth_deg:.0f} degrees fit about equally well"
        )
    return tuple(warnings)
