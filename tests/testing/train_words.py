"""``farm3d train`` as the tests type it."""

from __future__ import annotations

from pathlib import Path

__all__ = ["words_for"]


def words_for(data: Path, folder: Path, steps: int = 8) -> list[str]:
    """Return the words of a tiny training in a folder."""
    places = ["--data", str(data), "--out", str(folder / "model"), "--state", str(folder / "state")]
    return ["train", *places, "--preset", "tiny", "--steps", str(steps), "--threads", "1", "--look-every", "1000"]
