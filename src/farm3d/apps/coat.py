"""Another animal's coat: the texture of a photograph or of a GLB of ours. It fits every animal of a category, since all share one atlas."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from farm3d.core.errors import InputError
from farm3d.core.shapes import Float, Tensor
from farm3d.data.folders import masks_beside
from farm3d.data.photo import shown_path

if TYPE_CHECKING:
    from farm3d.data.segment import Segmenter
    from farm3d.model.prior import CategoryPrior
    from farm3d.model.reconstructor import Reconstruction, Reconstructor

__all__ = ["Coat", "CoatOptions", "check_coat_options", "coat_inputs", "find_coat"]


class CoatOptions(Protocol):
    """What the options of a verb say of a coat, and how a photograph of one is reconstructed."""

    @property
    def texture_from(self) -> Path | None:
        """Picture or GLB of the other animal."""
        ...

    @property
    def texture_mask(self) -> Path | None:
        """Silhouette of a picture."""
        ...

    @property
    def refine_steps(self) -> int | None:
        """Steps of the last stage of a fit."""
        ...

    @property
    def texture_px(self) -> int:
        """Side of the texture."""
        ...

    @property
    def seed(self) -> int:
        """Of the start views."""
        ...


@dataclass(frozen=True, eq=False)
class Coat:
    """A texture to put on.

    Attributes:
        albedo: linear RGB in [0, 1], ``[Ht, Wt, 3]``, in the category's atlas.
        source: the file it came from.
        iou: outline agreement of the photograph's own reconstruction; None for a GLB.
        seen: share of the texture that the photograph shows; None for a GLB.
        warnings: plain sentences for the user.
    """

    albedo: Float[Tensor, "Ht Wt 3"]
    source: Path
    iou: float | None = None
    seen: float | None = None
    warnings: tuple[str, ...] = ()

    def worn_by(self, result: Reconstruction) -> Reconstruction:
        """Return the reconstruction with this coat in place of its own."""
        animal = result.animal.replace(albedo=self.albedo)
        return dataclasses.replace(result, animal=animal, warnings=(*result.warnings, *self.warnings))

    def facts(self) -> dict[str, Any]:
        """Return what the sidecar says of it."""
        return {"file": self.source.name, "iou": None if self.iou is None else round(self.iou, 4)}


def check_coat_options(options: CoatOptions) -> None:
    """Refuse a file that is not there before anything is loaded, and ``--texture-mask`` where it marks nothing.

    Raises:
        InputError: no such file, or no picture for the mask.
    """
    for path in (options.texture_from, options.texture_mask):
        if path is not None and not os.path.exists(path):
            raise InputError(f"{shown_path(path)}: no such file", hint="check the spelling of the path")
    if options.texture_mask is None:
        return
    if options.texture_from is None:
        raise InputError("--texture-mask marks the animal in --texture-from, which is left out", hint="give both, or neither")
    if _is_glb(options.texture_from):
        raise InputError(f"--texture-mask: {options.texture_from.name} is a GLB, whose texture needs no mask", hint="leave it out")


def coat_inputs(options: CoatOptions) -> list[Path]:
    """Return the files that a coat is read from, which no result may replace."""
    if options.texture_from is None:
        return []
    mask = None if _is_glb(options.texture_from) else _mask_of(options)
    return [options.texture_from, *([mask] if mask is not None else [])]


def find_coat(
    reconstructor: Reconstructor,
    options: CoatOptions,
    *,
    segmenter: Segmenter | None = None,
    callback: Callable[[Any], bool | None] | None = None,
) -> Coat | None:
    """Return the coat of ``--texture-from``, or None where it is left out.

    The mask of a photograph is ``--texture-mask``, else ``NAME_mask.*`` beside it, else its transparency, else what the segmenter finds.

    Raises:
        Farm3DError: the file cannot be used, shows no animal, or is a GLB of another category or model.
    """
    from farm3d.data.photo import load_photo

    source = options.texture_from
    if source is None:
        return None
    if _is_glb(source):
        return Coat(_texture_of(source, reconstructor.prior), source)
    result = reconstructor(
        load_photo(source),
        mask=_mask_of(options),
        segmenter=segmenter,
        refine_steps=options.refine_steps,
        texture_px=options.texture_px,
        seed=options.seed,
        callback=callback,
    )
    notes = tuple(f"of the coat ({shown_path(source.name)}): {warning}" for warning in result.warnings)
    return Coat(result.animal.albedo, source, result.iou, result.seen, notes)


def _is_glb(path: Path) -> bool:
    return path.suffix.lower() == ".glb"


def _mask_of(options: CoatOptions) -> Path | None:
    if options.texture_mask is not None or options.texture_from is None:
        return options.texture_mask
    return next(iter(masks_beside([options.texture_from])), None)


def _texture_of(path: Path, prior: CategoryPrior) -> Float[Tensor, "Ht Wt 3"]:
    """Return the texture of a GLB whose atlas is the category's."""
    import torch

    from farm3d.export.glb import split_at_seams
    from farm3d.export.glb_reader import read_glb

    model, category = read_glb(path), prior.config.category
    if model.category != category:
        raise InputError(
            f"{shown_path(path)}: the coat of a {model.category} does not fit a {category}: their atlases differ",
            hint=f"give a picture or a GLB of a {category}",
        )
    _, uv, faces = split_at_seams(prior.template)
    same = model.uv.shape == uv.shape and model.faces.shape == faces.shape
    if not (same and torch.equal(model.faces, torch.from_numpy(faces)) and torch.allclose(model.uv, torch.from_numpy(uv), atol=1e-5)):
        raise InputError(
            f"{shown_path(path)}: was made with another model of a {category}: its atlas is not the same",
            hint="give the picture it was made from, or reconstruct that anew",
        )
    return model.texture
