"""The losses: what they are least for, and that noise levels are where they should be."""

from __future__ import annotations

import torch
from tests.testing.toy_animals import toy_cache

from farm3d.core.random import torch_generator
from farm3d.diffusion.embedded.config import PRESETS
from farm3d.diffusion.embedded.parts import EmbeddedParts, build_parts
from farm3d.diffusion.embedded.tokenizer import WordTokenizer
from farm3d.training.prior.batches import Batches
from farm3d.training.prior.losses import decoder_loss, denoiser_loss, noise_levels_for, patch_weight, velocity_errors, words_loss
from farm3d.training.prior.words import vocabulary_captions


def fitted_parts() -> tuple[EmbeddedParts, Batches]:
    config = PRESETS["tiny"]
    tokenizer = WordTokenizer.of_captions(vocabulary_captions(), buckets=config.text.buckets, max_words=config.text.max_words)
    parts = build_parts(config, tokenizer, seed=0)
    batches = Batches(toy_cache(), seed=0, phase="decoder", batch=16)
    batch = Batches(toy_cache(), seed=0, phase="transform", batch=64).at(0)
    parts.decoder.transform.fit(batch.rgb, batch.alpha)
    return parts, batches


def test_the_decoder_learns_to_mend_noisy_latents() -> None:
    parts, batches = fitted_parts()
    optimizer = torch.optim.Adam(parts.decoder.parameters(), lr=5e-3)
    for step in range(200):
        optimizer.zero_grad()
        sum(decoder_loss(parts, batches.at(step), torch_generator(0, step)).values(), torch.zeros(())).backward()
        optimizer.step()
    batch = batches.at(1000)
    with torch.no_grad():
        latents = parts.decoder.transform.encode(batch.rgb, batch.alpha)
        noisy = latents + 0.3 * torch.randn(latents.shape, generator=torch_generator(0, "noise"))
        learned, linear = ((way(noisy)[1] - batch.alpha).abs().mean() for way in (parts.decoder, parts.decoder.transform.decode))
    assert learned < 0.92 * linear  # .88 after 200 steps; a decoder that learns nothing gives 1


@torch.no_grad()
def test_the_true_velocity_has_no_error_and_weights_weigh() -> None:
    latents, noise = (torch.randn(3, 4, 2, 2, generator=torch_generator(0, name)) for name in ("x", "e"))
    t = torch.tensor([0.1, 0.5, 0.9])

    class Knowing(torch.nn.Module):
        def __init__(self, off: torch.Tensor) -> None:
            super().__init__()
            self.off = off

        def forward(self, z_t: torch.Tensor, t: torch.Tensor, vector: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
            return noise - latents + self.off

    def errors(off: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return velocity_errors(Knowing(off), latents, noise, t, torch.zeros(3, 1), latents, weight)  # pyright: ignore[reportArgumentType]

    even = torch.ones(3, 1, 2, 2)
    assert not errors(torch.zeros_like(latents), even).any()
    off = torch.zeros_like(latents)
    off[:, :, 0, 0] = 2.0
    torch.testing.assert_close(errors(off, even), torch.ones(3))
    heavy = even.clone()
    heavy[:, :, 0, 0] = 3
    torch.testing.assert_close(errors(off, heavy), torch.full((3,), 2.0))


def test_patches_weigh_by_where_the_words_expect_the_animal() -> None:
    """A narrow animal's patches share what a broad one's share, and so does what may be there or not; no picture is looked at."""
    parts, _ = fitted_parts()
    narrow, broad = torch.zeros(2, 32, 32)
    narrow[:, 12:20], broad[:, 4:28] = 1, 1
    with_leg = torch.where((torch.arange(32) > 26)[None], 0.4, broad)  # there in two of five pictures
    cover = torch.stack([narrow, broad, with_leg])
    mean = parts.decoder.transform.encode(cover[:, None].expand(-1, 3, -1, -1), cover)
    weight = patch_weight(parts, mean)
    torch.testing.assert_close(weight.mean((1, 2, 3)), torch.ones(3), atol=0.01, rtol=0)
    inside = torch.nn.functional.adaptive_avg_pool2d(cover[:, None], weight.shape[-1]) > 0.3
    shares = [float(w[there].sum() / w.sum()) for w, there in zip(weight, inside, strict=True)]
    assert min(shares) > 0.75 and max(shares) - min(shares) < 0.2
    assert float(weight[0][inside[0]].mean()) > 2 * float(weight[1][inside[1]].mean())
    leg = weight[2, 0, 4, -1]
    torch.testing.assert_close(leg, weight[2, 0, 4, 4], atol=0.05, rtol=0)


def test_noise_levels_are_mostly_high() -> None:
    t = noise_levels_for(20_000, torch_generator(0, "t"))
    assert bool(((t > 0) & (t < 1)).all())
    assert 0.66 < float(t.median()) < 0.76 and float((t > 0.9).float().mean()) > 0.1 and float((t < 0.3).float().mean()) > 0.05


def test_losses_are_equal_for_equal_streams_and_differentiate_what_they_should() -> None:
    parts, batches = fitted_parts()
    for loss, own, others in (
        (words_loss, [parts.text], [parts.denoiser, parts.decoder]),
        (decoder_loss, [parts.decoder], [parts.text, parts.denoiser]),
        (denoiser_loss, [parts.text, parts.denoiser], [parts.decoder]),
    ):
        first, second = (loss(parts, batches.at(0), torch_generator(1, "stream")) for _ in range(2))
        assert {name: float(value.detach()) for name, value in first.items()} == {k: float(v.detach()) for k, v in second.items()}
        for module in parts.modules().values():
            module.zero_grad()
        sum(first.values(), torch.zeros(())).backward()
        assert all(any(p.grad is not None and bool(p.grad.any()) for p in module.parameters()) for module in own), loss.__name__
        assert all(p.grad is None or not p.grad.any() for module in others for p in module.parameters()), loss.__name__
