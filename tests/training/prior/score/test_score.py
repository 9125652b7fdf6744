"""A score from end to end on toys: the classifier learns, a perfect model scores high, copies are found, and nothing is made twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.testing.toy_barn import toy_fact, toy_picture, toy_prior, write_toy_facts

from farm3d.barn.captions import VIEWS
from farm3d.core.errors import InputError
from farm3d.diffusion.embedded.pipeline import EmbeddedPrior
from farm3d.diffusion.prior import Pictures
from farm3d.model.encoder import load_encoder
from farm3d.training.prior.framing import framed
from farm3d.training.prior.score.classifier import Answers, mirrored_view, train_classifier
from farm3d.training.prior.score.copies import latent_neighbours, map_neighbours, told
from farm3d.training.prior.score.features import Features, cut_out, features_of
from farm3d.training.prior.score.known import Known, read_known
from farm3d.training.prior.score.obeyed import bulk, obeyed
from farm3d.training.prior.score.reconstruction import reconstructed, reconstruction_error
from farm3d.training.prior.score.samples import asked_for, draw_samples
from farm3d.training.prior.score.score import ScoreSettings, score
from farm3d.training.prior.score.tables import score_tables

SMALL = ScoreSettings(count=8, taught=40, searched=64, epochs=40, steps=2)


@pytest.fixture(scope="module")
def barns(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    folder = tmp_path_factory.mktemp("barns")
    return {
        split: [write_toy_facts(folder / f"{split}-{name}", name, split=split, count=count) for name in ("horse", "cow")]
        for split, count in (("train", 88), ("val", 16))
    }


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def known(barns: dict[str, list[Path]], state: Path) -> Known:
    return read_known(barns["train"], state / "pictures", held_out=False, size_px=32, most=64)


class Faithful(EmbeddedPrior):
    """Draws exactly the toy that was asked for: what a perfect model would do."""

    @classmethod
    def made(cls) -> Faithful:
        return cls(toy_prior().parts, name="faithful", digest="faithful")

    @staticmethod
    def _framed(fact: dict) -> np.ndarray:
        picture = toy_picture(fact)
        return framed(picture[:3].transpose(1, 2, 0), picture[3], size_px=32, rng=np.random.default_rng(0))

    def draw(self, prompts, *, seeds, **options) -> Pictures:
        facts = [fact for name in ("horse", "cow") for fact in (toy_fact(name, number) for number in range(64))]
        by_words = {fact["captions"][0]: fact for fact in facts}
        pixels = torch.from_numpy(np.stack([self._framed(by_words[prompt]) for prompt in prompts])).float() / 255
        return Pictures(pixels[:, :3], pixels[:, 3], tuple(prompts), tuple(seeds))


def test_backgrounds_decide_nothing_where_there_is_a_mask() -> None:
    pixels = np.stack([toy_picture(toy_fact("cow", 2))] * 2)
    pixels[1, :3, pixels[1, 3] == 0] = 255
    rgb, alpha = cut_out(pixels, masked=True)
    assert torch.equal(rgb[0], rgb[1]) and float(rgb[0, 0, 0, 0]) == 0.5 and float(alpha.max()) == 1
    rgb, alpha = cut_out(pixels, masked=False)
    assert not torch.equal(rgb[0], rgb[1]) and float(alpha.max()) == 0


def test_bulk_is_one_for_the_held_out_and_more_for_the_fat(known: Known) -> None:
    own = known.of("cow")
    pixels, asked = known.pixels[own].copy(), [known.facts[number] for number in own]
    same = bulk(pixels, asked, known)
    assert same["all"] == pytest.approx(1) and all(ratio == pytest.approx(1) for ratio in same["by_view"].values())
    view = asked[0].view
    fat = np.array([fact.view == view for fact in asked])
    pixels[fat, 3] = 255
    more = bulk(pixels, asked, known)
    name = VIEWS[view][0]
    assert more["all"] > 1 and more["by_view"].pop(name) > 1.2
    assert more["by_view"] == pytest.approx({other: ratio for other, ratio in same["by_view"].items() if other != name})


def test_features_are_kept_and_refused_where_they_do_not_fit(known: Known, tmp_path: Path) -> None:
    encoder = load_encoder()
    first = features_of(known.pixels[:4], encoder, masked=True, path=tmp_path / "some.npz", blur_seed=0)
    again = features_of(
        known.pixels[:4], encoder, masked=True, path=tmp_path / "some.npz", blur_seed=0, on_progress=lambda *n: pytest.fail("made again")
    )
    assert np.array_equal(first.maps, again.maps) and first.maps.shape[2:] == (8, 8) and first.masks.shape == (4, 32, 32)
    sharp = features_of(known.pixels[:4], encoder, masked=True)
    assert np.array_equal(sharp.maps[::2], first.maps[::2]) and not np.array_equal(sharp.maps[1], first.maps[1])
    with pytest.raises(InputError, match="features of 4 pictures, but there are 3"):
        features_of(known.pixels[:3], encoder, masked=True, path=tmp_path / "some.npz")


def test_shares_of_what_was_asked(known: Known) -> None:
    facts = [replace(known.facts[0], species="cow", view=view, action="jumping") for view in (0, 2, 2, 3)]
    features = Features(
        np.random.default_rng(0).normal(size=(len(known), 5, 8, 8)).astype(np.float16), np.zeros((len(known), 32, 32), np.float16)
    )
    words = train_classifier(features, known.facts, epochs=1)
    cow, horse, jumping = words.species.index("cow"), words.species.index("horse"), words.actions.index("jumping")
    answers = Answers(np.array([cow, cow, horse, cow]), np.array([0, 6, 1, 5]), np.array([jumping, jumping, 1 - jumping, jumping]))
    found = obeyed(words, answers, facts)
    counts = {kind: (found[kind]["count"], found[kind]["of"]) for kind in ("species", "view", "adjacent", "opposite", "mirrored", "action")}
    assert counts == {"species": (3, 4), "view": (1, 4), "adjacent": (1, 4), "opposite": (1, 4), "mirrored": (2, 3), "action": (3, 4)}
    assert found["by_view"]["seen from its left side"]["n"] == 2 and found["species_named"] == {"cow": 3, "horse": 1}
    assert [mirrored_view(view) for view in (0, 1, 2, 4, 7)] == [0, 7, 6, 4, 1]


def test_prompts_come_from_all_sides(known: Known) -> None:
    asked = asked_for(known, "cow", count=20, seed=0)
    assert [fact.view for fact in asked] == [i % 8 for i in range(20)] and {fact.species for fact in asked} == {"cow"}
    assert asked == asked_for(known, "cow", count=20, seed=0) and asked != asked_for(known, "cow", count=20, seed=1)
    few = Known(known.pixels[:1], known.facts[:1], "few")
    with pytest.raises(InputError, match="from view"):
        asked_for(few, known.facts[0].species, count=8, seed=0)


def test_samples_are_drawn_once(known: Known, tmp_path: Path) -> None:
    pytest.importorskip("diffusers", reason="diffusers is not installed: pip install 'farm3d[diffusion]'")
    asked = asked_for(known, "cow", count=9, seed=0)
    options = {"guidance": 2.0, "steps": 2, "seed": 0, "folder": tmp_path}
    samples = draw_samples(toy_prior(), asked, **options)
    assert samples.pixels.shape == (9, 4, 32, 32)
    again = draw_samples(toy_prior(), asked, **options, on_progress=lambda *n: pytest.fail("drawn again"))
    assert np.array_equal(again.pixels, samples.pixels) and again.digest == samples.digest
    assert not np.array_equal(draw_samples(toy_prior(seed=1), asked, **options).pixels, samples.pixels)


def test_copies_are_found_and_mirror_images_too(known: Known) -> None:
    training = np.array(known.pixels[:60])
    copies = np.stack([training[7], training[11][..., ::-1]])
    held = np.array(known.pixels[60:])
    found = latent_neighbours(toy_prior(), copies, held, training)
    assert found.samples.max() < 0.01 and found.held_out.max() > 0.1
    same = [
        np.array_equal(training[number][..., ::-1] if turned else training[number], copy)
        for number, turned, copy in zip(found.numbers, found.flipped, copies)
    ]
    assert same == [True, True]
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(12, 3, 8, 8)).astype(np.float16)
    masks = np.zeros((12, 32, 32), np.float16)
    near = map_neighbours(Features(maps[[4]][..., ::-1], masks[:1]), Features(maps[:2] + 1, masks[:2]), Features(maps, masks))
    assert near.numbers.tolist() == [4] and near.flipped.tolist() == [True] and near.samples[0] == pytest.approx(0, abs=1e-3)
    assert told(near)["copies"] == 1


def test_reconstruction_is_measured(known: Known) -> None:
    prior, pixels = toy_prior(), np.array(known.pixels[:8])
    again = reconstructed(prior, pixels)
    exact = reconstruction_error(pixels, pixels, masked=True)
    assert exact["psnr_db"] == pytest.approx(100) and exact["mask_iou"] == 1
    assert 15 < reconstruction_error(pixels, again, masked=True)["psnr_db"] < 60
    off = pixels.copy()
    off[:, :3] = np.where(pixels[:, :3] > 127, pixels[:, :3] - 51, pixels[:, :3] + 51)
    assert reconstruction_error(pixels, off, masked=False)["psnr_db"] == pytest.approx(-20 * np.log10(0.2), abs=0.01)


def test_a_perfect_model_scores_high_and_a_random_one_low(barns: dict[str, list[Path]], state: Path, tmp_path: Path) -> None:
    pytest.importorskip("diffusers", reason="diffusers is not installed: pip install 'farm3d[diffusion]'")
    places = {"training": barns["train"], "held_out": barns["val"], "state": state}
    stages: list[str] = []

    def tell(what: str):
        stages.append(what)
        return lambda done, total: None

    perfect = score(Faithful.made(), load_encoder(), SMALL, **places, out=tmp_path / "perfect", tell=tell)
    random = score(toy_prior(), load_encoder(), SMALL, **places, out=tmp_path / "random", tell=tell)
    assert perfect["classifier"]["held_out"]["species"]["share"] > 0.9
    assert perfect["all"]["species"]["share"] > 0.9 and perfect["all"]["action"]["share"] > 0.9
    assert random["all"]["species"]["share"] < 0.9
    for name in ("horse", "cow"):
        assert perfect["species"][name]["distances"]["samples"]["kid"] < random["species"][name]["distances"]["samples"]["kid"]
        assert (tmp_path / "perfect" / f"neighbours-{name}.png").is_file() and (tmp_path / "perfect" / f"samples-{name}-1.png").is_file()
    with Image.open(tmp_path / "perfect" / "views-horse.png") as sheet:
        assert sheet.width == 16 * 128
    text = score_tables(perfect, command="farm3d prior score")
    assert "| held out |" in text and "| **all** |" in text and "nan" not in text
    with pytest.raises(InputError, match="no pictures of a wolf"):
        score(toy_prior(), load_encoder(), replace(SMALL, species=("wolf",)), **places, out=tmp_path / "none")


@pytest.mark.parametrize("wrong", [{"count": 7}, {"taught": 3}, {"epochs": 0}])
def test_numbers_that_cannot_be(wrong: dict[str, int]) -> None:
    with pytest.raises(InputError, match="expected at least"):
        replace(SMALL, **wrong)
