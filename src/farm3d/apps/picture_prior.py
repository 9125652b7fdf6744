"""Which text-to-image model draws, where, in what, and how hard it tries when nothing is said."""

from __future__ import annotations

from typing import TYPE_CHECKING

from farm3d.core.errors import InputError, MissingPartError, ModelError

if TYPE_CHECKING:
    from farm3d.diffusion.prior import PicturePrior

__all__ = ["USUAL", "USUAL_TRIES", "checked_device", "open_prior", "shipped_prior", "usual_dtype"]

_SHIPPED_PRIOR = "embedded_prior"
_DEVICES = "cpu, cuda or cuda:1"
USUAL = {True: (4.0, 16), False: (7.5, 50)}
"""Guidance and steps, of models that draw silhouettes and of those that do not."""
USUAL_TRIES = {True: 12, False: 4}
"""Pictures drawn for one animal, likewise: an embedded model draws in a second, and the caption reader chooses."""


def checked_device(name: str, *, kinds: tuple[str, ...] = ()) -> str:
    """Return torch's name of a device; of one of these kinds, if any are given.

    Raises:
        InputError: there is none of that name here.
    """
    import torch

    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"--device {name}: no such kind of device", hint=_DEVICES) from error
    if kinds and device.type not in kinds:
        raise InputError(f"--device {name}: not a kind of device that this runs on", hint=_DEVICES)
    if device.type == "cuda" and not (torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count()):
        raise InputError(f"--device {name}: torch finds no such GPU", hint="leave it out to use the CPU")
    return str(device)


def usual_dtype(source: str, device: str) -> str:
    """Return torch's name of what a model computes in where nothing is said.

    On a CPU that is float32, for an embedded model bfloat16 where this processor is quicker at it; elsewhere float16, for an embedded
    model bfloat16, in which it was trained and is kept.

    Args:
        source: folder or hub id of the model, of which only the index is looked at.
        device: torch's name of it.

    Raises:
        Farm3DError: a model that cannot be found, or of a kind that is not known.
    """
    import torch

    from farm3d.diffusion.prior import is_embedded
    from farm3d.training.prior.settings import quicker_dtype

    embedded = is_embedded(source)
    if torch.device(device).type != "cpu":
        return "bfloat16" if embedded else "float16"
    return str(quicker_dtype()).removeprefix("torch.") if embedded else "float32"


def open_prior(source: str, *, device: str = "cpu", dtype: str = "auto") -> PicturePrior:
    """Open a model.

    Args:
        source: folder or hub id.
        device: torch's name of it.
        dtype: torch's name of what it computes in; auto is :func:`usual_dtype`.

    Raises:
        Farm3DError: a model that cannot be opened.
    """
    import torch

    from farm3d.diffusion.prior import load_prior

    name = usual_dtype(source, device) if dtype == "auto" else dtype
    return load_prior(source, device=device, dtype=getattr(torch, name))


def shipped_prior() -> str:
    """Return the folder of the model inside the package.

    Raises:
        MissingPartError: there is none.
    """
    from farm3d.model.folder import weights_folder

    try:
        return str(weights_folder(_SHIPPED_PRIOR))
    except ModelError as error:
        raise MissingPartError(
            "no text-to-image model: this package ships none, and --prior is left out",
            hint="give --prior a folder that `farm3d prior train` wrote, or a hub id such as stabilityai/stable-diffusion-2-1-base",
        ) from error
