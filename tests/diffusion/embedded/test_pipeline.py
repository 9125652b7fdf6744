"""The embedded prior as the rest of the program sees it: drawing, noise, latents, and a folder that is whole or refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from farm3d.core.errors import Cancelled, InputError, ModelError
from farm3d.core.random import torch_generator
from farm3d.diffusion.embedded.config import PRESETS
from farm3d.diffusion.embedded.parts import EmbeddedParts, build_parts
from farm3d.diffusion.embedded.pipeline import EmbeddedPrior
from farm3d.diffusion.embedded.tokenizer import WordTokenizer
from farm3d.diffusion.prior import PicturePrior, load_prior

pytest.importorskip("diffusers", reason="diffusers is not installed: pip install 'farm3d[diffusion]'")

PROMPTS = ["a red horse, seen from its left side", "a blue cow", "a horse"]


def random_parts() -> EmbeddedParts:
    """Tiny parts in which nothing is zero, as after training, without any."""
    config = PRESETS["tiny"]
    tokenizer = WordTokenizer.of_captions(PROMPTS, buckets=config.text.buckets, max_words=config.text.max_words)
    parts = build_parts(config, tokenizer, seed=0)
    generator = torch_generator(0, "parts")
    for module in parts.modules().values():
        for parameter in module.parameters():
            parameter.data.add_(0.03 * torch.randn(parameter.shape, generator=generator))
    pictures = torch.rand(16, 4, 32, 32, generator=generator)
    parts.decoder.transform.fit(pictures[:, :3], pictures[:, 3])
    return parts


@pytest.fixture(scope="module")
def prior() -> EmbeddedPrior:
    return EmbeddedPrior(random_parts())


@pytest.fixture(scope="module")
def folder(prior: EmbeddedPrior, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pipeline") / "horses"
    prior.save_pretrained(path, card="# Horses\n")
    return path


def test_it_is_a_picture_prior(prior: EmbeddedPrior) -> None:
    door: PicturePrior = prior
    assert door.draws_alpha and door.size_px == 32 and door.latent_shape == (12, 8, 8)
    assert not any(parameter.requires_grad for module in prior.parts.modules().values() for parameter in module.parameters())


def test_drawing_depends_on_prompt_and_seed_only(prior: EmbeddedPrior) -> None:
    together = prior.draw(PROMPTS, seeds=[0, 1, 2], steps=4)
    assert together.rgb.shape == (3, 3, 32, 32) and together.alpha is not None and together.alpha.shape == (3, 32, 32)
    assert together.words == tuple(PROMPTS) and together.seeds == (0, 1, 2)
    assert together.rgb.min() >= 0 and together.rgb.max() <= 1
    again = prior.draw(PROMPTS, seeds=[0, 1, 2], steps=4)
    assert torch.equal(together.rgb, again.rgb)
    backwards = prior.draw(PROMPTS[::-1], seeds=[2, 1, 0], steps=4)
    torch.testing.assert_close(together.rgb, backwards.rgb.flip(0), atol=1e-4, rtol=0)
    alone = prior.draw(PROMPTS[1:2], seeds=[1], steps=4)
    torch.testing.assert_close(together.rgb[1:2], alone.rgb, atol=1e-4, rtol=0)
    other = prior.draw(PROMPTS[1:2], seeds=[7], steps=4)
    assert (other.rgb - alone.rgb).abs().max() > 0.02


def test_guidance_goes_away_from_the_negative_prompt(prior: EmbeddedPrior) -> None:
    z = torch.randn(2, *prior.latent_shape, generator=torch_generator(1, "z"))
    t = torch.tensor([0.4, 0.8])
    asked, negative = prior.embed(PROMPTS[:1]), prior.embed(PROMPTS[1:2])
    towards = prior.predict_noise(z, t, asked)
    away, nothing = prior.predict_noise(z, t, negative), prior.predict_noise(z, t, prior.embed([""]))
    torch.testing.assert_close(
        prior.predict_noise(z, t, asked, guidance=3.0, negative=negative), away + 3 * (towards - away), atol=1e-4, rtol=1e-4
    )
    torch.testing.assert_close(prior.predict_noise(z, t, asked, guidance=3.0), nothing + 3 * (towards - nothing), atol=1e-4, rtol=1e-4)
    one, same = (prior.draw(PROMPTS[:1], seeds=[0], steps=3, guidance=1.0, negative=text).rgb for text in ("", PROMPTS[1]))
    assert torch.equal(one, same)  # without guidance the negative prompt is not used


def test_one_euler_step_is_ours_and_diffusers(prior: EmbeddedPrior) -> None:
    """Noise prediction, levels and diffusers' scheduler agree: one step from t to 0 gives the picture that the noise stands for."""
    scheduler = prior.scheduler
    scheduler.set_timesteps(1)
    z = torch.randn(1, *prior.latent_shape, generator=torch_generator(2, "z"))
    drawn = prior.draw(PROMPTS[:1], seeds=[9], steps=1, guidance=1.0)
    start = torch.randn(prior.latent_shape, generator=torch.Generator().manual_seed(9))[None]
    t = scheduler.sigmas[:1]
    noise = prior.predict_noise(start, t, prior.embed(PROMPTS[:1]))
    velocity = prior._velocity(start, t, prior.embed(PROMPTS[:1]), prior.embed([""]), 1.0)
    torch.testing.assert_close(noise, start + (1 - t) * velocity, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(drawn.rgb, prior.decode(start - t * velocity).rgb, atol=1e-5, rtol=0)
    signal, level = prior.levels(torch.tensor([0.3]))
    assert (float(signal), float(level)) == pytest.approx((0.7, 0.3))
    assert float(prior.timesteps(torch.tensor([0.3]))) == pytest.approx(300)
    assert z.shape == noise.shape


def test_gradients_go_through_encode_and_where_asked_through_noise(prior: EmbeddedPrior) -> None:
    rgb, alpha = torch.rand(1, 3, 64, 64, requires_grad=True), torch.rand(1, 64, 64, requires_grad=True)
    latents = prior.encode(rgb, alpha)  # resized on the way
    noise = prior.predict_noise(latents, torch.tensor([0.5]), prior.embed([""]))
    assert not noise.requires_grad
    noise = prior.predict_noise(latents, torch.tensor([0.5]), prior.embed([""]), gradient=True)
    noise.square().sum().backward()
    for values in (rgb, alpha):
        assert values.grad is not None and bool(values.grad.abs().sum() > 0)


def test_embeddings_are_kept_and_small(prior: EmbeddedPrior) -> None:
    first = prior.embed(PROMPTS)
    assert torch.equal(first.conditions["mean"], prior.embed(PROMPTS).conditions["mean"])
    assert prior.embed([]).conditions["mean"].shape == (0, 12, 8, 8)
    for number in range(1100):
        prior.embed([f"a horse {number}"])
    assert len(prior._embedded) == 1024


def test_saved_and_loaded_it_is_the_same(folder: Path, tmp_path: Path) -> None:
    loaded = EmbeddedPrior.from_pretrained(folder)
    loaded.save_pretrained(tmp_path / "again", card="# Horses\n")
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert {str(file) for file in files} >= {"model_index.json", "unet/config.json", "scheduler/scheduler_config.json", "vae/config.json"}
    for file in files:
        assert (folder / file).read_bytes() == (tmp_path / "again" / file).read_bytes()
    again = EmbeddedPrior.from_pretrained(tmp_path / "again")
    assert again.digest == loaded.digest and again.name == "again"
    loaded.save_pretrained(tmp_path / "told", card="# Horses, and more about them\n")
    assert EmbeddedPrior.from_pretrained(tmp_path / "told").digest == loaded.digest  # what is said of a model is not the model
    assert torch.equal(loaded.draw(PROMPTS, seeds=[0, 1, 2], steps=3).rgb, again.draw(PROMPTS, seeds=[0, 1, 2], steps=3).rgb)
    assert isinstance(load_prior(folder), EmbeddedPrior)


def test_it_draws_in_bfloat16_too(folder: Path) -> None:
    narrow, wide = (EmbeddedPrior.from_pretrained(folder, dtype=dtype) for dtype in (torch.bfloat16, torch.float32))
    one, other = (prior.draw(PROMPTS[:1], seeds=[0], steps=3).rgb for prior in (narrow, wide))
    assert (one - other).abs().mean() < 0.03


def test_no_flipped_bit_loads(folder: Path) -> None:
    rng = np.random.default_rng(0)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        good = path.read_bytes()
        for at in rng.integers(len(good), size=3):
            bad = bytearray(good)
            bad[at] ^= 1 << int(rng.integers(8))
            path.write_bytes(bad)
            with pytest.raises(ModelError, match=str(folder)):
                EmbeddedPrior.from_pretrained(folder)
        path.write_bytes(good)
        path.unlink()
        with pytest.raises(ModelError, match="missing"):
            EmbeddedPrior.from_pretrained(folder)
        path.write_bytes(good)
    EmbeddedPrior.from_pretrained(folder)


def test_a_class_named_by_a_file_is_not_followed(prior: EmbeddedPrior, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from farm3d.diffusion.embedded import parts as module

    evil = {**module._PIPELINE, "unet": ["os", "system"]}
    monkeypatch.setattr(module, "_PIPELINE", evil)
    prior.save_pretrained(tmp_path / "evil")  # well sealed
    monkeypatch.undo()
    assert json.loads((tmp_path / "evil" / "model_index.json").read_text())["unet"] == ["os", "system"]
    with pytest.raises(ModelError, match="names other parts"):
        EmbeddedPrior.from_pretrained(tmp_path / "evil")


def test_bad_requests_are_told(prior: EmbeddedPrior) -> None:
    for words, seeds, negative, steps in (
        ([], [], "", 2),
        (PROMPTS, [0], "", 2),
        (PROMPTS[:1], [-1], "", 2),
        (PROMPTS[:1], [0], "", 0),
        (["horse " * 60], [0], "", 2),
        (PROMPTS[:1], [0], ["a", "b"], 2),
    ):
        with pytest.raises(InputError):
            prior.draw(words, seeds=seeds, negative=negative, steps=steps)
    with pytest.raises(ValueError, match="0 .*to 1"):
        prior.predict_noise(torch.zeros(1, *prior.latent_shape), torch.tensor([1.5]), prior.embed([""]))
    with pytest.raises(ValueError, match="3 prompts for a batch of 2"):
        prior.predict_noise(torch.zeros(2, *prior.latent_shape), torch.tensor([0.5, 0.5]), prior.embed(PROMPTS))


def test_a_callback_stops_it(prior: EmbeddedPrior) -> None:
    told: list[tuple[int, int]] = []

    def callback(done: int, total: int) -> bool | None:
        told.append((done, total))
        return False if done == 2 else None

    with pytest.raises(Cancelled, match="step 2 of 5"):
        prior.draw(PROMPTS[:1], seeds=[0], steps=5, callback=callback)
    assert told == [(1, 5), (2, 5)]
