"""The door: what comes through, and one clear line for everything else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.testing.tiny_models import read_json, write_json

from farm3d.core.errors import Farm3DError, InputError, MissingPartError, ModelError
from farm3d.diffusion.prior import Pictures, Prompts, is_embedded, load_prior
from farm3d.diffusion.stable_diffusion import StableDiffusionPrior

UNET = "unet/diffusion_pytorch_model.safetensors"


def change_json(path: Path, **values: object) -> None:
    write_json(path, {**read_json(path), **values})


def change_tensors(path: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def pickled_only(folder: Path) -> None:
    (folder / UNET).rename(folder / "unet" / "diffusion_pytorch_model.bin")


def code_for_a_part(folder: Path) -> None:
    """What a model with code of its own looks like; the module would leave a trace if it were ever imported."""
    (folder / "unet" / "my_unet.py").write_text(f"open({str(folder / 'TRACE')!r}, 'w').close()\nclass UNet2DConditionModel: pass\n")
    change_json(folder / INDEX, unet=["my_unet", "UNet2DConditionModel"])


def code_for_the_pipeline(folder: Path) -> None:
    (folder / "my_pipeline.py").write_text(f"open({str(folder / 'TRACE')!r}, 'w').close()\nclass MyPipeline: pass\n")
    change_json(folder / INDEX, _class_name=["my_pipeline", "MyPipeline"])


def code_for_a_config(folder: Path) -> None:
    (folder / "text_encoder" / "my_text.py").write_text(f"open({str(folder / 'TRACE')!r}, 'w').close()\nclass CLIPTextModel: pass\n")
    change_json(folder / "text_encoder" / "config.json", auto_map={"AutoModel": "my_text.CLIPTextModel"})


def code_for_the_tokenizer(folder: Path) -> None:
    change_json(folder / "tokenizer" / "tokenizer_config.json", auto_map={"AutoTokenizer": ["my_words.Tokenizer", None]})


def cut_short(folder: Path) -> None:
    data = (folder / UNET).read_bytes()
    (folder / UNET).write_bytes(data[: len(data) // 2])


def without_a_tensor(folder: Path) -> None:
    change_tensors(folder / UNET, lambda tensors: tensors.pop("conv_in.bias"))


def with_a_small_tensor(folder: Path) -> None:
    change_tensors(folder / UNET, lambda tensors: tensors.update({"conv_in.bias": torch.zeros(3)}))


def with_a_nan(folder: Path) -> None:
    change_tensors(folder / "vae" / "diffusion_pytorch_model.safetensors", lambda tensors: tensors["quant_conv.bias"].fill_(float("nan")))


def words_beyond_the_text_encoder(folder: Path) -> None:
    vocabulary = read_json(folder / "tokenizer" / "vocab.json")
    write_json(folder / "tokenizer" / "vocab.json", {**vocabulary, "extra</w>": len(vocabulary)})


INDEX = "model_index.json"
DAMAGES: list[tuple[Callable[[Path], object], str]] = [
    (lambda folder: (folder / INDEX).unlink(), r"model_index\.json: missing"),
    (lambda folder: (folder / INDEX).write_text("{"), r"model_index\.json: not readable as JSON"),
    (lambda folder: (folder / INDEX).write_text("[1]"), r"model_index\.json: expected an object"),
    (
        lambda folder: change_json(folder / INDEX, _class_name="StableDiffusionXLPipeline"),
        "holds a 'StableDiffusionXLPipeline'",
    ),
    (
        lambda folder: change_json(folder / INDEX, text_encoder_2=["transformers", "CLIPTextModel"]),
        "'text_encoder_2' is no part",
    ),
    (lambda folder: change_json(folder / INDEX, scheduler=["diffusers", "MyScheduler"]), "'scheduler' is .*MyScheduler"),
    (lambda folder: change_json(folder / INDEX, vae=None), "part 'vae' is missing"),
    (lambda folder: shutil.rmtree(folder / "vae"), "vae: missing"),
    (lambda folder: (folder / "vae" / "config.json").unlink(), r"vae/config\.json: missing"),
    (lambda folder: (folder / UNET).unlink(), "missing, and only safetensors are read"),
    (pickled_only, "only pickled weights"),
    (code_for_a_part, r"'unet' is \['my_unet', 'UNet2DConditionModel'\].*never run"),
    (code_for_the_pipeline, r"holds a \['my_pipeline', 'MyPipeline'\].*never run"),
    (code_for_a_config, r"text_encoder/config\.json: asks for code of its own"),
    (code_for_the_tokenizer, r"tokenizer_config\.json: asks for code of its own"),
    (lambda folder: change_json(folder / "unet" / "config.json", quantization_config={"quant_method": "bitsandbytes"}), "quantized"),
    (lambda folder: write_json(folder / "text_encoder" / "adapter_config.json", {"base_model_name_or_path": "someone/else"}), "adapter"),
    (lambda folder: change_json(folder / "unet" / "config.json", in_channels=9), "in_channels is 9, but the latents of vae have 4"),
    (lambda folder: change_json(folder / "vae" / "config.json", latent_channels=16), "in_channels is 4, but the latents of vae have 16"),
    (lambda folder: change_json(folder / "unet" / "config.json", cross_attention_dim=64), "cross_attention_dim is 64, .* gives 32"),
    (lambda folder: change_json(folder / "unet" / "config.json", addition_embed_type="text_time"), "wants more than a prompt"),
    (lambda folder: change_json(folder / "unet" / "config.json", sample_size=[8, 16]), r"sample_size is \[8, 16\]"),
    (lambda folder: change_json(folder / "unet" / "config.json", block_out_channels=[32, "x"]), "unet: not a UNet2DConditionModel"),
    (lambda folder: change_json(folder / "scheduler" / "scheduler_config.json", prediction_type="score"), "scheduler: .*score"),
    (cut_short, "unet: not a UNet2DConditionModel that can be read"),
    (without_a_tensor, r"1 tensors of a UNet2DConditionModel are missing or ill-shaped, first conv_in\.bias"),
    (with_a_small_tensor, r"conv_in\.bias"),
    (with_a_nan, r"'quant_conv\.bias' has values that are not finite"),
    (words_beyond_the_text_encoder, "tokens, but text_encoder knows"),
    (lambda folder: (folder / "tokenizer" / "merges.txt").unlink(), "tokenizer"),
]


@pytest.mark.parametrize("damage, message", DAMAGES, ids=[str(number) for number in range(len(DAMAGES))])
def test_one_clear_line_for_each_bad_model(copy_of_tiny: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(copy_of_tiny)
    with pytest.raises(ModelError, match=message) as caught:
        load_prior(copy_of_tiny)
    assert "\n" not in str(caught.value) and str(copy_of_tiny) in str(caught.value)
    assert not (copy_of_tiny / "TRACE").exists()


def test_code_that_nothing_names_is_left_alone(copy_of_tiny: Path) -> None:
    (copy_of_tiny / "unet" / "handler.py").write_text(f"open({str(copy_of_tiny / 'TRACE')!r}, 'w').close()\n")
    change_json(copy_of_tiny / "model_index.json", safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"])
    assert isinstance(load_prior(copy_of_tiny), StableDiffusionPrior)
    assert not (copy_of_tiny / "TRACE").exists()


def test_variants_are_other_files_of_the_same_parts(copy_of_tiny: Path) -> None:
    for path in copy_of_tiny.rglob("*.safetensors"):
        path.rename(path.with_name(path.name.replace(".safetensors", ".fp16.safetensors")))
    assert load_prior(copy_of_tiny, variant="fp16").name == "model"
    with pytest.raises(ModelError, match=r"has no diffusion_pytorch_model\.safetensors, but diffusion_pytorch_model\.fp16\.safetensors"):
        load_prior(copy_of_tiny)


def test_our_own_model_has_no_variants(tmp_path: Path) -> None:
    write_json(tmp_path / INDEX, {"_class_name": "Farm3DEmbeddedPipeline"})
    with pytest.raises(ModelError, match="has no variants, but 'fp16' was asked for"):
        load_prior(tmp_path, variant="fp16")


@pytest.mark.parametrize(
    "source, kind, message",
    [
        ("no/such/folder", InputError, "no such folder"),
        (Path("no/such"), InputError, "no such folder"),
        ("nobody/knows-this-model", MissingPartError, "not among the models downloaded before"),
    ],
)
def test_what_is_not_here(
    source: str | Path, kind: type[Farm3DError], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind, match=message) as caught:
        load_prior(source, local_files_only=True)
    assert "\n" not in str(caught.value)


def test_which_kind_it_is_says_the_index_alone(tmp_path: Path) -> None:
    for name, own in (("Farm3DEmbeddedPipeline", True), ("StableDiffusionPipeline", False)):
        write_json(tmp_path / INDEX, {"_class_name": name})
        assert is_embedded(tmp_path) == is_embedded(str(tmp_path)) == own
    write_json(tmp_path / INDEX, {"_class_name": "PixArtAlphaPipeline"})
    with pytest.raises(ModelError, match="PixArtAlphaPipeline"):
        is_embedded(tmp_path)
    with pytest.raises(MissingPartError, match="not among the models downloaded before"):
        is_embedded("nobody/knows-this-model", local_files_only=True)


def test_prompts_are_picked_and_repeated() -> None:
    prompts = Prompts(("a", "b"), {"text": torch.arange(6.0).reshape(2, 3)})
    assert prompts.for_batch(2) is prompts
    assert prompts.pick([1, 0, 1]).words == ("b", "a", "b")
    assert prompts.pick([1]).for_batch(3).conditions["text"].tolist() == [[3.0, 4.0, 5.0]] * 3
    with pytest.raises(ValueError, match="2 prompts for a batch of 3"):
        prompts.for_batch(3)
    assert repr(prompts) == "Prompts(words=('a', 'b'), conditions={text: float32[2, 3]})"


def test_values_move_together() -> None:
    moved = Pictures(torch.zeros(1, 3, 4, 4), torch.ones(1, 4, 4), ("a",), (7,)).to(torch.float64)
    assert moved.rgb.dtype == torch.float64 and moved.alpha is not None and moved.alpha.dtype == torch.float64 and moved.seeds == (7,)


def test_the_index_is_only_compared(copy_of_tiny: Path) -> None:
    """A class of diffusers, but not the one for this part: known names are no way in either."""
    index = json.loads((copy_of_tiny / "model_index.json").read_text())
    index["vae"], index["unet"] = index["unet"], index["vae"]
    write_json(copy_of_tiny / "model_index.json", index)
    with pytest.raises(ModelError, match="'unet' is .*AutoencoderKL"):
        load_prior(copy_of_tiny)
