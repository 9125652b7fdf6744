"""Weights of several modules in one float32 vector: AdamW, average and checkpoint are a few vector operations each.

A module may compute in bfloat16: its parameters are then rounded copies of the vector, and its gradients are widened before the step
(pure bfloat16 weights with a float32 master: measured on a prototype, where autocast was half as fast).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from farm3d.core.shapes import Tensor

__all__ = ["FlatWeights"]

_ALIGNED = 64  # numbers: each parameter starts on a cache line of its own, which the matrix kernels like
_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class _Place:
    name: str
    parameter: nn.Parameter
    begin: int
    end: int


@dataclass(frozen=True)
class _Narrow:
    """A stretch of the vector that its module holds in another dtype."""

    begin: int
    end: int
    weights: Tensor
    gradients: Tensor


class FlatWeights:
    """Parameters of ``modules`` as one vector with its gradient, its Adam moments and its running average.

    Args:
        modules: by name; their parameters are float32 and will be views of vectors from now on.
        dtypes: of what each module computes in; float32 if not named.
        rates: by what the learning rate of a module is multiplied; 1 if not named.
        betas, decay: of AdamW.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        *,
        dtypes: Mapping[str, torch.dtype] | None = None,
        rates: Mapping[str, float] | None = None,
        betas: tuple[float, float] = (0.9, 0.98),
        decay: float = 0.01,
    ) -> None:
        self._places: list[_Place] = []
        spans: dict[str, tuple[int, int]] = {}
        size = 0
        for module_name, module in sorted(modules.items()):
            begin = size
            for name, parameter in sorted(module.named_parameters()):
                self._places.append(_Place(f"{module_name}/{name}", parameter, size, size + parameter.numel()))
                size += -(-parameter.numel() // _ALIGNED) * _ALIGNED
            spans[module_name] = (begin, size)
        self.master = torch.zeros(size)
        self._gradient = torch.zeros(size)
        self._narrow: list[_Narrow] = []
        for place in self._places:
            self.master[place.begin : place.end] = place.parameter.detach().flatten()
        for module_name in sorted(modules):
            begin, end = spans[module_name]
            dtype = (dtypes or {}).get(module_name, torch.float32)
            weights, gradients = self.master[begin:end], self._gradient[begin:end]
            if dtype != torch.float32:
                weights, gradients = weights.to(dtype), gradients.to(dtype)
                self._narrow.append(_Narrow(begin, end, weights, gradients))
            for place in self._places:
                if begin <= place.begin < end:
                    inside = slice(place.begin - begin, place.end - begin)
                    place.parameter.grad = None
                    place.parameter.data = weights[inside].view(place.parameter.shape)
                    place.parameter.grad = gradients[inside].view(place.parameter.shape)
        self.average = self.master.clone()
        self._moments = {name: torch.zeros(size) for name in _MOMENTS}
        self._stretches: list[nn.Parameter] = []
        self._rates = [(rates or {}).get(name, 1.0) for name in sorted(modules)]
        for begin, end in (spans[name] for name in sorted(modules)):
            stretch = nn.Parameter(self.master[begin:end], requires_grad=False)
            stretch.grad = self._gradient[begin:end]
            self._stretches.append(stretch)
        groups = [{"params": [stretch]} for stretch in self._stretches]
        self._optimizer = torch.optim.AdamW(groups, lr=0.0, betas=betas, weight_decay=decay, fused=True)
        for stretch, (begin, end) in zip(self._stretches, (spans[name] for name in sorted(modules)), strict=True):
            moments = {name: vector[begin:end] for name, vector in self._moments.items()}
            self._optimizer.state[stretch] = {"step": torch.tensor(0.0), **moments}

    def clear_gradient(self) -> None:
        """Set every gradient to zero, in place."""
        self._gradient.zero_()
        for narrow in self._narrow:
            narrow.gradients.zero_()

    def gather_gradient(self) -> Tensor:
        """Return the norm of the whole gradient, after widening what is narrow."""
        for narrow in self._narrow:
            self._gradient[narrow.begin : narrow.end] = narrow.gradients
        return torch.linalg.vector_norm(self._gradient)

    def name_of_nonfinite(self) -> str:
        """Return the first parameter whose gradient is not finite, or an empty string."""
        for place in self._places:
            if not bool(torch.isfinite(self._gradient[place.begin : place.end]).all()):
                return place.name
        return ""

    def step(self, *, rate: float, norm: Tensor, clip: float) -> None:
        """Take one step of AdamW with the gathered gradient, scaled down to the norm ``clip`` where it is above."""
        if float(norm) > clip:
            self._gradient.mul_(clip / float(norm))
        for group, factor in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor
        self._optimizer.step()
        self._show(self.master)

    def follow(self, keep: float) -> None:
        """Move the average toward the weights, keeping the share ``keep`` of it."""
        self.average.lerp_(self.master, 1 - keep)

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Let the modules compute with the average inside the block."""
        trained = self.master.clone()
        try:
            self.master.copy_(self.average)
            self._show(self.average)
            yield
        finally:
            self.master.copy_(trained)
            self._show(trained)

    def settle(self) -> None:
        """Make the average the weights of the modules, as ordinary float32 parameters without gradients: training of them is over."""
        for place in self._places:
            place.parameter.grad = None
            place.parameter.data = self.average[place.begin : place.end].clone().view(place.parameter.shape)

    def state(self) -> dict[str, Tensor]:
        """Return all that is needed to go on exactly."""
        steps = self._optimizer.state[self._stretches[0]]["step"]
        return {"master": self.master, "average": self.average, **self._moments, "optimizer_step": steps.reshape(1)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take what :meth:`state` returned."""
        self.master.copy_(state["master"])
        self.average.copy_(state["average"])
        for name in _MOMENTS:
            self._moments[name].copy_(state[name])
        for stretch in self._stretches:
            self._optimizer.state[stretch]["step"].copy_(state["optimizer_step"][0])
        self._show(self.master)

    def _show(self, weights: Tensor) -> None:
        for narrow in self._narrow:
            narrow.weights.copy_(weights[narrow.begin : narrow.end])
