"""A model's card can be edited and sealed; nothing else can."""

from pathlib import Path

import pytest
from tools.reseal_card import reseal

from farm3d.core.errors import InputError, ModelError
from farm3d.core.sealed import SealedFolder, write_sealed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_sealed(tmp_path / "model", {"README.md": b"card", "weights.bin": b"weights"}, form="test", version=1, kind="thing")
    return tmp_path / "model"


def opened(folder: Path) -> SealedFolder:
    return SealedFolder(folder, form="test", version=1, kind="thing")


def test_an_edited_card_is_sealed_and_the_folder_opens_again(folder: Path) -> None:
    (folder / "README.md").write_bytes(b"a longer card")
    with pytest.raises(ModelError):
        opened(folder).read("README.md")
    assert reseal(folder) and not reseal(folder)
    assert opened(folder).read("README.md") == b"a longer card" and opened(folder).read("weights.bin") == b"weights"


def test_other_changes_are_refused_and_nothing_is_written(folder: Path) -> None:
    before = (folder / "manifest.json").read_bytes()
    (folder / "README.md").write_bytes(b"a longer card")
    (folder / "weights.bin").write_bytes(b"weighed")
    with pytest.raises(ModelError, match=r"weights\.bin"):
        reseal(folder)
    assert (folder / "manifest.json").read_bytes() == before


def test_what_is_no_model_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a model folder"):
        reseal(tmp_path)
