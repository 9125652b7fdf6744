"""The doctor: honest about what is there, what is missing and what is damaged; and about licences."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from farm3d.apps import doctor as doctor_module
from farm3d.apps.doctor import _first_damage, _licence_parts, _runtime_distributions, doctor
from farm3d.apps.options import DoctorOptions
from farm3d.core.files import sha256_of


def test_the_report_names_every_part(capsys: pytest.CaptureFixture[str]) -> None:
    code = doctor(DoctorOptions())
    lines = capsys.readouterr().out.splitlines()
    names = {line[6:].split()[0] for line in lines if line[:4].strip() in {"ok", "--", "BAD", "low"}}
    assert {"farm3d", "python", "processor", "torch", "farm3d[mask]", "farm3d[video]", "segmenter", "npm"} <= names
    assert (code == 0) == (lines[-1] == "ready") and code in (0, 2)


def test_a_missing_extra_comes_with_the_line_to_install_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(doctor_module, "_EXTRAS", {"mask": (("no_such_module",), "cutting")})
    doctor(DoctorOptions())
    line = next(line for line in capsys.readouterr().out.splitlines() if "farm3d[mask]" in line)
    assert line.startswith("  --") and "pip install 'farm3d[mask]'" in line


def test_a_cache_below_a_closed_folder_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if os.geteuid() == 0:
        pytest.skip("run as root, whom no permission stops")
    (tmp_path / "closed").mkdir(mode=0)
    monkeypatch.setenv("FARM3D_HOME", str(tmp_path / "closed" / "cache"))
    doctor(DoctorOptions())
    line = next(line for line in capsys.readouterr().out.splitlines() if "model cache" in line)
    assert "cannot be written" in line


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"\0" * 100)
    files = {name: {"sha256": sha256_of(tmp_path / name), "size_bytes": 0} for name in ("config.json", "model.safetensors")}
    (tmp_path / "manifest.json").write_text(json.dumps({"files": files}))
    return tmp_path


def test_a_sound_model_has_no_damage(model_folder: Path) -> None:
    assert _first_damage(model_folder) == ""


def test_a_flipped_bit_is_found(model_folder: Path) -> None:
    (model_folder / "model.safetensors").write_bytes(b"\0" * 99 + b"\1")
    assert _first_damage(model_folder) == "model.safetensors differs from the manifest"


def test_a_missing_file_is_found(model_folder: Path) -> None:
    (model_folder / "config.json").unlink()
    assert _first_damage(model_folder) == "config.json is missing"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": 3}', '{"files": {"config.json": 1}}', "\x00"])
def test_a_damaged_manifest_is_found(model_folder: Path, text: str) -> None:
    (model_folder / "manifest.json").write_text(text)
    assert "manifest cannot be read" in _first_damage(model_folder)


@pytest.mark.parametrize(
    ("licence", "permissive"),
    [
        ("MIT", True),
        ("BSD-3-Clause AND MIT", True),
        ("Apache-2.0 OR GPL-3.0-only", True),
        ("BSD-2-Clause AND Apache-2.0 WITH LLVM-exception", True),
        ("(MIT OR GPL-2.0) AND ISC", True),
        ("3-Clause BSD License", True),
        ("Apache License, Version 2.0", True),
        ("GPL-3.0-or-later", False),
        ("MIT AND GPL-3.0-only", False),
        ("AGPL-3.0", False),
        ("LGPLv3", False),
        ("Other/Proprietary License", False),
        ("CC-BY-NC-4.0", False),
    ],
)
def test_licences_are_judged(licence: str, permissive: bool) -> None:
    assert all(doctor_module._PERMISSIVE.match(part) for part in _licence_parts(licence)) == permissive


def test_every_runtime_library_is_permissive_but_two_under_the_mpl(capsys: pytest.CaptureFixture[str]) -> None:
    if len(_runtime_distributions()) < 10:
        pytest.skip("farm3d is not installed as a package here: its requirements are unknown")
    assert doctor(DoctorOptions(licenses=True)) == 0
    report = capsys.readouterr().out
    doubtful = re.findall(r"LOOK\s+(\S+)", report)
    assert set(doubtful) <= {"certifi", "tqdm"}, report  # what diffusers needs of them is file by file, and only with that extra
    assert "torch" in report and "tyro" in report and "pytest" not in report
