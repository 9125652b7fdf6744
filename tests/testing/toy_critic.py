"""A critic for tests: the embedded prior's own classes at their smallest, seeded, with opinions of their own."""

from __future__ import annotations

import torch

from farm3d.barn.captions import VIEWS
from farm3d.core.random import torch_generator
from farm3d.diffusion.distill import DistillOptions
from farm3d.diffusion.embedded.config import PRESETS
from farm3d.diffusion.embedded.parts import build_parts
from farm3d.diffusion.embedded.pipeline import EmbeddedPrior
from farm3d.diffusion.embedded.tokenizer import WordTokenizer
from farm3d.training.category.virtual_views import Critic, CriticOptions
from farm3d.training.dataset.phrases import critic_prompts

__all__ = ["toy_critic"]


def toy_critic(*, grey: float = 0.0) -> Critic:
    """Return a critic of horses; ``grey`` is the share of views without colours."""
    tokenizer = WordTokenizer.of_captions([f"a horse, {wordings[0]}" for wordings in VIEWS], buckets=64, max_words=48)
    parts = build_parts(PRESETS["tiny"], tokenizer, seed=0)
    generator = torch_generator(0, "transform")
    parts.decoder.transform.fit(torch.rand(64, 3, 32, 32, generator=generator), torch.rand(64, 32, 32, generator=generator))
    for parameter in parts.denoiser.parameters():  # what begins at zero would have no opinion
        torch.nn.init.normal_(parameter, std=0.05, generator=generator)
    return Critic(
        EmbeddedPrior(parts),
        critic_prompts("horse", barn=True),
        CriticOptions(DistillOptions(t_min=0.5, t_max=0.9, guidance=3.0), grey=grey),
    )
