"""Our Stable Diffusion against diffusers' own pipeline: the same networks, the same steps, the same pictures."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.testing.tiny_models import read_json, write_json

from farm3d.core.errors import Cancelled, InputError
from farm3d.core.random import torch_generator
from farm3d.diffusion.prior import PicturePrior, load_prior
from farm3d.diffusion.stable_diffusion import StableDiffusionPrior

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of diffusers with NumPy 2

PROMPTS = ["a horse, walking", "a cow, front view"]
NEGATIVE = "a horse, drawing"
GUIDANCE = 7.5


def opened(folder: Path, **keywords: Any) -> StableDiffusionPrior:
    prior = load_prior(folder, **keywords)
    assert isinstance(prior, StableDiffusionPrior)
    return prior


def pipeline_of(folder: Path) -> Any:
    from diffusers import StableDiffusionPipeline

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # that old configs are corrected
        pipeline = StableDiffusionPipeline.from_pretrained(
            str(folder), safety_checker=None, requires_safety_checker=False, local_files_only=True, low_cpu_mem_usage=False
        )
    pipeline.set_progress_bar_config(disable=True)
    if not hasattr(pipeline.scheduler, "init_noise_sigma"):
        pipeline.scheduler.init_noise_sigma = 1.0  # which flow matching has without saying so
    return pipeline


def latents(*words: str, count: int = 2) -> torch.Tensor:
    return torch.randn(count, 4, 8, 8, generator=torch_generator(0, *words))


# --- the noise ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, config",
    [
        ("DDIMScheduler", {"prediction_type": "epsilon"}),
        ("DDIMScheduler", {"prediction_type": "v_prediction"}),
        ("DDIMScheduler", {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}),
        ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}),
    ],
    ids=["epsilon", "v", "v, zero terminal signal", "flow"],
)
def test_the_noise_is_that_of_the_pipelines_own_steps(with_scheduler: Callable[..., Path], name: str, config: dict[str, Any]) -> None:
    """From each step's clean latent, as diffusers' scheduler has it, follows the noise that the pipeline saw in the noisy one."""
    folder = with_scheduler(name, **config)
    prior, pipeline = opened(folder), pipeline_of(folder)
    seen = []
    step = pipeline.scheduler.step

    def recorded(output: torch.Tensor, timestep: torch.Tensor, sample: torch.Tensor, **keywords: Any) -> Any:
        keywords["return_dict"] = True
        result = step(output, timestep, sample, **keywords)
        seen.append((output, timestep, sample, result))
        return (result.prev_sample,)

    pipeline.scheduler.step = recorded
    pipeline(
        PROMPTS,
        negative_prompt=[NEGATIVE] * 2,
        guidance_scale=GUIDANCE,
        num_inference_steps=5,
        latents=latents("steps"),
        output_type="latent",
    )
    assert len(seen) == 5
    words, without = prior.embed(PROMPTS), prior.embed([NEGATIVE])
    for number, (output, timestep, sample, result) in enumerate(seen):
        if name.startswith("FlowMatch"):
            here, there = pipeline.scheduler.sigmas[number : number + 2]
            clean = sample - here * (result.prev_sample - sample) / (there - here)
            t = (timestep / 1000).expand(2)
            signal, noise = 1 - here, here
        else:
            clean = result.pred_original_sample
            t = (timestep / 999).expand(2)
            alphabar = pipeline.scheduler.alphas_cumprod[timestep]
            signal, noise = alphabar.sqrt(), (1 - alphabar).sqrt()
        ours = prior.predict_noise(sample, t.float(), words, guidance=GUIDANCE, negative=without)
        if config.get("prediction_type") == "epsilon":
            torch.testing.assert_close(ours, output, atol=1e-5, rtol=1e-5)
        size = float(ours.abs().max())
        assert float((signal * clean + noise * ours - sample).abs().max()) < 1e-5 * size, number


def test_guidance_is_a_straight_line_through_two_predictions(prior: StableDiffusionPrior) -> None:
    z, t, words, without = latents("line"), torch.tensor([0.3, 0.7]), prior.embed(PROMPTS), prior.embed([NEGATIVE])
    alone = prior.predict_noise(z, t, words)
    plain = prior.predict_noise(z, t, without)
    assert float((alone - plain).abs().max()) > 1e-3  # the words matter
    for guidance in (0.0, 1.0, 5.0):
        guided = prior.predict_noise(z, t, words, guidance=guidance, negative=without)
        torch.testing.assert_close(guided, plain + guidance * (alone - plain), atol=1e-5, rtol=1e-5)
    nothing = prior.predict_noise(z, t, words, guidance=3.0)
    torch.testing.assert_close(nothing, prior.predict_noise(z, t, words, guidance=3.0, negative=prior.embed([""])))


def test_rows_do_not_mix_and_one_prompt_serves_all(prior: StableDiffusionPrior) -> None:
    z, t, words = latents("rows"), torch.tensor([0.2, 0.9]), prior.embed(PROMPTS)
    both = prior.predict_noise(z, t, words, guidance=4.0)
    second = prior.predict_noise(z[1:], t[1:], words.pick([1]), guidance=4.0)
    torch.testing.assert_close(both[1:], second, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(prior.predict_noise(z, t, words.pick([1]), guidance=4.0)[1:], second, atol=1e-5, rtol=1e-5)


def test_the_way_back_through_the_network_is_open_only_on_request(prior: StableDiffusionPrior) -> None:
    z = latents("back").requires_grad_()
    t, words = torch.tensor([0.4, 0.4]), prior.embed(PROMPTS)
    assert not prior.predict_noise(z, t, words).requires_grad
    prior.predict_noise(z, t, words, gradient=True).square().sum().backward()
    assert z.grad is not None and float(z.grad.abs().max()) > 0


def test_sizes_that_do_not_fit_are_refused(prior: StableDiffusionPrior) -> None:
    words = prior.embed(PROMPTS)
    with pytest.raises(ValueError, match=r"expected \[B, 4, 8, 8\]"):
        prior.predict_noise(torch.zeros(2, 4, 4, 4), torch.full((2,), 0.5), words)
    with pytest.raises(ValueError, match="2 prompts for a batch of 3"):
        prior.predict_noise(torch.zeros(3, 4, 8, 8), torch.full((3,), 0.5), words)


# --- drawing ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, config",
    [
        ("DDIMScheduler", {"clip_sample": True, "steps_offset": 0}),
        ("DDPMScheduler", {}),
        ("DPMSolverMultistepScheduler", {}),
        ("DPMSolverMultistepScheduler", {"prediction_type": "flow_prediction", "use_flow_sigmas": True}),
        ("EulerAncestralDiscreteScheduler", {}),
        ("EulerDiscreteScheduler", {"prediction_type": "v_prediction"}),
        ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}),
        ("HeunDiscreteScheduler", {}),
        ("LCMScheduler", {}),
        ("PNDMScheduler", {"skip_prk_steps": True}),
        ("UniPCMultistepScheduler", {}),
    ],
)
def test_pictures_are_those_of_diffusers_pipeline(with_scheduler: Callable[..., Path], name: str, config: dict[str, Any]) -> None:
    folder = with_scheduler(name, **config)
    theirs = pipeline_of(folder)(
        PROMPTS,
        negative_prompt=[NEGATIVE] * 2,
        guidance_scale=GUIDANCE,
        num_inference_steps=4,
        generator=[torch.Generator().manual_seed(seed) for seed in (5, 6)],
        output_type="pt",
    ).images
    ours = opened(folder).draw(PROMPTS, seeds=[5, 6], negative=NEGATIVE, guidance=GUIDANCE, steps=4)
    torch.testing.assert_close(ours.rgb, theirs, atol=1e-4, rtol=0)
    assert ours.rgb.dtype == torch.float32 and ours.rgb.shape == (2, 3, 16, 16) and ours.alpha is None
    assert ours.words == tuple(PROMPTS) and ours.seeds == (5, 6)


@pytest.mark.parametrize("name", ["DDIMScheduler", "EulerAncestralDiscreteScheduler"])
def test_a_picture_depends_on_its_own_seed_only(with_scheduler: Callable[..., Path], name: str) -> None:
    prior = opened(with_scheduler(name))
    together = prior.draw([PROMPTS[0]] * 3, seeds=[3, 1, 2], steps=4).rgb
    alone = torch.cat([prior.draw([PROMPTS[0]], seeds=[seed], steps=4).rgb for seed in (3, 1, 2)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    assert float((together[0] - together[1]).abs().mean()) > 0.01
    torch.testing.assert_close(prior.draw([PROMPTS[0]] * 3, seeds=[3, 1, 2], steps=4).rgb, together, atol=0, rtol=0)


def test_each_picture_may_have_its_own_negative_prompt(prior: StableDiffusionPrior) -> None:
    both = prior.draw([PROMPTS[0]] * 2, seeds=[1, 1], negative=["", NEGATIVE], steps=2).rgb
    torch.testing.assert_close(both[1:], prior.draw(PROMPTS[:1], seeds=[1], negative=NEGATIVE, steps=2).rgb, atol=1e-5, rtol=0)
    assert float((both[0] - both[1]).abs().max()) > 1e-4


def test_drawing_leaves_torchs_own_dice_alone(prior: StableDiffusionPrior, tiny_folder: Path) -> None:
    before = torch.get_rng_state()
    opened(tiny_folder).draw(PROMPTS, seeds=[0, 1], steps=2)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_callback_hears_each_step_and_can_stop(prior: StableDiffusionPrior) -> None:
    heard: list[tuple[int, int]] = []
    prior.draw(PROMPTS, seeds=[0, 1], steps=3, callback=lambda step, steps: heard.append((step, steps)))
    assert heard == [(1, 3), (2, 3), (3, 3)]
    with pytest.raises(Cancelled, match="after step 2 of 3"):
        prior.draw(PROMPTS, seeds=[0, 1], steps=3, callback=lambda step, steps: step < 2)


@pytest.mark.parametrize(
    "keywords, message",
    [
        ({"prompts": [], "seeds": []}, "no prompt"),
        ({"seeds": [1]}, "1 seeds for 2 prompts"),
        ({"seeds": [1, -1]}, "seed -1"),
        ({"seeds": [1, 2], "negative": [""]}, "1 negative prompts for 2"),
        ({"seeds": [1, 2], "steps": 0}, "0 denoising steps"),
    ],
)
def test_what_cannot_be_drawn_is_said_in_one_line(prior: StableDiffusionPrior, keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        prior.draw(**{"prompts": PROMPTS, **keywords})


# --- words --------------------------------------------------------------------------------------------------------------------


def test_prompts_are_embedded_as_the_pipeline_does_and_once(tiny_folder: Path) -> None:
    prior, pipeline = opened(tiny_folder), pipeline_of(tiny_folder)
    words, without = pipeline.encode_prompt(PROMPTS, torch.device("cpu"), 1, True, negative_prompt=["", NEGATIVE])
    calls = []
    hook = prior._text_encoder.register_forward_hook(lambda *_: calls.append(1))
    torch.testing.assert_close(prior.embed(PROMPTS).conditions["text"], words, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(prior.embed(["", NEGATIVE]).conditions["text"], without, atol=1e-5, rtol=1e-5)
    assert len(calls) == 4
    again = prior.embed([NEGATIVE, *PROMPTS, PROMPTS[0]])
    hook.remove()
    assert len(calls) == 4 and again.words == (NEGATIVE, *PROMPTS, PROMPTS[0])
    torch.testing.assert_close(again.conditions["text"][0], without[1], atol=1e-5, rtol=1e-5)


def test_a_prompt_that_would_be_cut_is_refused(prior: StableDiffusionPrior) -> None:
    with pytest.raises(InputError, match=r"has 34 tokens, and tiny-stable-diffusion reads 24"):
        prior.embed(["cow " * 32])


def test_no_prompts_are_none(prior: StableDiffusionPrior) -> None:
    assert len(prior.embed([])) == 0 and prior.embed([]).conditions["text"].shape == (0, 24, 32)


# --- pictures and latents -----------------------------------------------------------------------------------------------------


def test_encoding_is_the_vaes_scaled_and_the_posterior_can_be_sampled(copy_of_tiny: Path) -> None:
    path = copy_of_tiny / "vae" / "config.json"
    write_json(path, {**read_json(path), "scaling_factor": 0.5, "shift_factor": 0.1})
    prior = opened(copy_of_tiny)
    rgb = torch.rand(2, 3, 16, 16, generator=torch_generator(0, "rgb"))
    posterior = prior._vae.encode(2 * rgb - 1).latent_dist
    torch.testing.assert_close(prior.encode(rgb), (posterior.mean - 0.1) * 0.5)
    sampled = prior.encode(rgb, generator=torch_generator(1, "sample"))
    spread = (sampled - prior.encode(rgb)) / (0.5 * posterior.std)
    torch.testing.assert_close(spread, torch.randn(2, 4, 8, 8, generator=torch_generator(1, "sample")), atol=1e-4, rtol=1e-4)
    decoded = prior._vae.decode(posterior.mean).sample / 2 + 0.5
    torch.testing.assert_close(prior.decode(prior.encode(rgb)).rgb, decoded.clamp(0, 1), atol=1e-5, rtol=0)


def test_pictures_of_any_size_are_resized(prior: StableDiffusionPrior) -> None:
    coarse = torch.rand(1, 3, 4, 4, generator=torch_generator(0, "coarse"))
    large = torch.nn.functional.interpolate(coarse, (16, 16), mode="bilinear", align_corners=False)
    torch.testing.assert_close(prior.encode(coarse), prior.encode(large))
    with pytest.raises(Exception, match=r"square|S"):
        prior.encode(torch.zeros(1, 3, 16, 8))


def test_the_gradient_of_encoding_is_that_of_finite_differences(tiny_folder: Path) -> None:
    prior = opened(tiny_folder, dtype=torch.float64)
    generator = torch_generator(0, "differences")
    for size in (12, 16, 24):  # enlarged, as it is, reduced
        rgb = torch.rand(1, 3, size, size, generator=generator, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(prior.encode, (rgb,), fast_mode=True)
    assert prior.encode(rgb).dtype == torch.float64


def test_latents_come_in_the_pictures_dtype(tiny_folder: Path) -> None:
    prior = opened(tiny_folder, dtype=torch.bfloat16)
    assert prior.dtype == torch.bfloat16 and prior.embed([""]).conditions["text"].dtype == torch.bfloat16
    z = prior.encode(torch.rand(1, 3, 16, 16, generator=torch_generator(0, "half")))
    assert z.dtype == torch.float32
    noise = prior.predict_noise(z, torch.tensor([0.5]), prior.embed(["a horse"]), guidance=2.0)
    assert noise.dtype == torch.float32 and bool(torch.isfinite(noise).all())
    assert prior.draw(["a horse"], seeds=[0], steps=2).rgb.dtype == torch.float32


# --- the model as a whole -----------------------------------------------------------------------------------------------------


def test_what_the_program_sees(prior: StableDiffusionPrior) -> None:
    assert isinstance(prior, PicturePrior)
    assert (prior.name, prior.size_px, prior.latent_shape, prior.draws_alpha) == ("tiny-stable-diffusion", 16, (4, 8, 8), False)
    assert not any(value.requires_grad for part in (prior._unet, prior._vae, prior._text_encoder) for value in part.parameters())
    signal, noise = prior.levels(torch.tensor([0.0, 1.0]))
    assert float(signal[0]) > 0.999 and float(noise[1]) > 0.99 and prior.timesteps(torch.tensor([0.0, 1.0])).tolist() == [0, 999]


def test_the_digest_is_of_the_models_files(tiny_folder: Path, copy_of_tiny: Path) -> None:
    before = opened(tiny_folder).digest
    (copy_of_tiny / "README.md").write_text("a card")
    assert opened(copy_of_tiny).digest == before
    path = copy_of_tiny / "vae" / "config.json"
    write_json(path, {**read_json(path), "scaling_factor": 0.25})
    assert opened(copy_of_tiny).digest != before and len(before) == 64


@pytest.mark.gpu
def test_the_device_is_a_parameter(tiny_folder: Path, prior: StableDiffusionPrior) -> None:
    on_gpu = opened(tiny_folder, device="cuda")
    ours, theirs = (one.draw(PROMPTS, seeds=[1, 2], steps=4).rgb.cpu() for one in (prior, on_gpu))
    torch.testing.assert_close(ours, theirs, atol=2e-2, rtol=0)
