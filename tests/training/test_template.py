"""A template extracted from a field: one closed mirrored mesh of even triangles with a sound atlas."""

import pytest
import torch

from farm3d.core.errors import ModelError
from farm3d.geometry.atlas import inspect_atlas
from farm3d.geometry.remesh import triangle_quality
from farm3d.geometry.surface import enclosed_volume, inspect_surface
from farm3d.model.fields import ShapeField
from farm3d.training.category import finish
from farm3d.training.category.finish import FinishOptions, cut_template
from farm3d.training.template import Template, blurred_field, extract_template, field_box

pytest.importorskip("fast_simplification", reason="the optional library fast-simplification is not installed")


@pytest.fixture(scope="module")
def template() -> Template:
    return extract_template(ShapeField(octaves=2, hidden=8, layers=1), target_faces=1200, spacing=0.08, size_px=256, padding_px=2)


def test_one_closed_surface_on_the_field(template: Template) -> None:
    report = inspect_surface(template.faces)
    assert report.closed and report.oriented and report.manifold
    assert (report.components, report.euler) == (1, 2)
    assert len(template.faces) == pytest.approx(1200, abs=10)
    assert ShapeField(octaves=2, hidden=8, layers=1)(template.vertices).abs().max() < 0.01
    assert enclosed_volume(template.vertices, template.faces) == pytest.approx(4 / 3 * torch.pi * 1.05**3 * 2, rel=0.02)


def test_mirror_partners_are_exact(template: Template) -> None:
    assert torch.equal(template.vertices[template.mirror], template.vertices * torch.tensor([-1.0, 1.0, 1.0]))
    assert torch.equal(template.mirror[template.mirror], torch.arange(len(template.vertices)))
    half = len(template.faces) // 2
    assert torch.equal(template.mirror[template.faces[:half]].flip(1), template.faces[half:])


def test_triangles_are_even(template: Template) -> None:
    quality = triangle_quality(template.vertices, template.faces)
    assert quality.quantile(0.02) > 0.5
    assert quality.median() > 0.85


def test_atlas_is_sound_and_mirrored(template: Template) -> None:
    report = inspect_atlas(template.vertices, template.faces, template.uv, template.faces_uv, size_px=256)
    assert report.in_range
    assert report.overlap_texels == 0
    assert report.charts % 2 == 0  # no chart is shared by both sides
    half = len(template.faces) // 2
    left, right = template.uv[template.faces_uv[:half]], template.uv[template.faces_uv[half:]].flip(1)
    assert torch.allclose(right, torch.stack([left[..., 0], 1 - left[..., 1]], -1))


def test_the_box_holds_the_shape_and_an_empty_field_is_refused() -> None:
    low, high = field_box(ShapeField(octaves=2, hidden=8, layers=1))
    assert low[0] == 0
    assert high[0] > 1.05 and high[2] > 2.1 and low[2] < -2.1

    class Empty(ShapeField):
        def forward(self, points: torch.Tensor) -> torch.Tensor:
            return points[..., 0] * 0 - 1

    with pytest.raises(ModelError, match="no surface"):
        extract_template(Empty(octaves=2, hidden=8, layers=1))


class Post(ShapeField):
    """A ball with a post below it, a tenth as thick: a leg."""

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        side = points[..., [0, 2]].norm(dim=-1)
        post = torch.minimum(0.12 - side, torch.minimum(points[..., 1] + 2.2, -points[..., 1]))
        return torch.maximum(1 - points.norm(dim=-1), post)


def test_what_a_blur_takes_off_a_leg() -> None:
    """Networks pose the shape that they were trained with: the template must have its legs."""
    post = Post(octaves=2, hidden=8, layers=1)

    def cut(blur: float) -> float:
        field = blurred_field(post, sigma=blur)
        return -float(extract_template(field, target_faces=2000, spacing=0.06, onto_field=False).vertices[:, 1].min())

    lowest = {blur: cut(blur) for blur in (0.03, 0.09)}
    assert lowest[0.03] > 2.1 and lowest[0.09] < lowest[0.03] - 0.05
    made = cut_template(post, FinishOptions(faces=2000, spacing=0.06, blurs=(0.03, 0.09)))
    assert -float(made.vertices[:, 1].min()) == pytest.approx(lowest[0.03], abs=1e-3)


def test_a_stronger_blur_is_tried_where_one_gives_no_template(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[float] = []

    def cut(shape: ShapeField, blur: float, options: FinishOptions) -> float:
        tried.append(blur)
        if blur < 0.05:
            raise ModelError("a handle")
        return blur

    monkeypatch.setattr(finish, "_cut", cut)
    assert cut_template(Post(octaves=2, hidden=8, layers=1), FinishOptions()) == 0.06 and tried == [0.03, 0.045, 0.06]
    with pytest.raises(ModelError, match="a handle"):
        cut_template(Post(octaves=2, hidden=8, layers=1), FinishOptions(blurs=(0.03, 0.04)))
