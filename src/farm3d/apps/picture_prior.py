"""Which text-to-image model draws, where, and how hard it tries when nothing is said."""

from __future__ import annotations

from farm3d.core.errors import InputError, MissingPartError, ModelError

__all__ = ["USUAL", "USUAL_TRIES", "checked_device", "shipped_prior"]

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
