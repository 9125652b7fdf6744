import pytest
import torch

from farm3d.core.color import linear_from_srgb, srgb_from_linear


def test_srgb_curve_is_undone_and_has_the_known_middle() -> None:
    values = torch.linspace(0, 1, 101, dtype=torch.float64)
    assert torch.allclose(srgb_from_linear(linear_from_srgb(values)), values, atol=1e-7)
    assert abs(linear_from_srgb(torch.tensor(0.5, dtype=torch.float64)).item() - 0.21404) < 1e-5
    assert srgb_from_linear(torch.tensor([-1.0, 2.0])).tolist() == pytest.approx([0.0, 1.0], abs=1e-6)
