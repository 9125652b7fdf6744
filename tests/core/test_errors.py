"""The error tree: every error has a message, a hint where there is something to do, and exit code 2 (3 where training met no number)."""

from __future__ import annotations

import pytest

from farm3d.core import errors


@pytest.mark.parametrize("name", [name for name in errors.__all__ if name != "Farm3DError"])
def test_every_error_is_of_the_tree_and_can_be_documented(name: str) -> None:
    kind = getattr(errors, name)
    error = kind("a.jpg: empty file", hint="give a picture")
    code = 3 if kind is errors.NotFiniteError else 2  # training that met no number is nothing the user did
    assert isinstance(error, errors.Farm3DError) and error.exit_code == code and kind.__doc__
    assert str(error) == "a.jpg: empty file (give a picture)" and str(kind("a.jpg: empty file")) == "a.jpg: empty file"
    assert name in (errors.__doc__ or "")
