"""One vector for all weights: the same numbers as torch's own optimizer, module by module."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from farm3d.training.prior.flat_weights import FlatWeights


def two_modules() -> dict[str, nn.Module]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return {"text": nn.Linear(5, 3), "network": nn.Sequential(nn.Linear(3, 7), nn.Linear(7, 2))}


def loss_of(modules: dict[str, nn.Module], x: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return modules["network"](modules["text"](x).to(dtype)).float().square().mean()


def test_it_is_adamw_with_clipping() -> None:
    ours, theirs = two_modules(), two_modules()
    flat = FlatWeights(ours)
    parameters = [parameter for name in sorted(theirs) for parameter in theirs[name].parameters()]
    optimizer = torch.optim.AdamW(parameters, betas=(0.9, 0.98), weight_decay=0.01)
    for step in range(12):
        x = 3 * torch.randn(16, 5, generator=torch.Generator().manual_seed(step))
        rate = 0.01 * (step + 1)
        flat.clear_gradient()
        loss_of(ours, x).backward()
        flat.step(rate=rate, norm=flat.gather_gradient(), clip=0.05)
        optimizer.zero_grad()
        loss_of(theirs, x).backward()
        nn.utils.clip_grad_norm_(parameters, 0.05)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
    for name in ours:
        for one, other in zip(ours[name].parameters(), theirs[name].parameters(), strict=True):
            torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)


def test_narrow_modules_are_rounded_copies_and_small_steps_are_not_lost() -> None:
    modules = two_modules()
    flat = FlatWeights(modules, dtypes={"network": torch.bfloat16})
    weight = next(modules["network"].parameters())
    before, master = weight.detach().clone(), flat.master.clone()
    assert weight.dtype == torch.bfloat16
    for step in range(3):
        flat.clear_gradient()
        loss_of(modules, torch.randn(4, 5, generator=torch.Generator().manual_seed(step)), torch.bfloat16).backward()
        flat.step(rate=1e-6, norm=flat.gather_gradient(), clip=1.0)
    assert torch.equal(weight, before)  # too small a step for bfloat16 …
    moved = (flat.master - master).abs()
    assert 0.5e-6 < float(moved.max()) < 4e-6  # … which the master remembers
    assert next(modules["text"].parameters()).dtype == torch.float32


def test_state_goes_on_exactly() -> None:
    runs = []
    for interrupted in (False, True):
        modules = two_modules()
        flat = FlatWeights(modules, dtypes={"network": torch.bfloat16})
        for step in range(6):
            if interrupted and step == 3:
                state = copy.deepcopy(flat.state())
                modules = two_modules()
                flat = FlatWeights(modules, dtypes={"network": torch.bfloat16})
                flat.load_state(state)
            flat.clear_gradient()
            loss_of(modules, torch.randn(4, 5, generator=torch.Generator().manual_seed(step)), torch.bfloat16).backward()
            flat.step(rate=0.01, norm=flat.gather_gradient(), clip=1.0)
            flat.follow(0.9)
        runs.append(flat.state())
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])


def test_a_module_may_learn_slower() -> None:
    moved = []
    for rates in ({}, {"text": 0.1}):
        modules = two_modules()
        flat = FlatWeights(modules, rates=rates, decay=0.0)
        before = {name: next(module.parameters()).detach().clone() for name, module in modules.items()}
        loss_of(modules, torch.randn(8, 5, generator=torch.Generator().manual_seed(0))).backward()
        flat.step(rate=0.01, norm=flat.gather_gradient(), clip=1.0)
        moved.append({name: float((next(module.parameters()) - before[name]).detach().abs().max()) for name, module in modules.items()})
    assert moved[1]["text"] == pytest.approx(0.1 * moved[0]["text"], rel=1e-3)
    assert moved[1]["network"] == pytest.approx(moved[0]["network"], rel=1e-3)


def test_the_average_can_be_looked_at_and_kept() -> None:
    modules = two_modules()
    flat = FlatWeights(modules, dtypes={"network": torch.bfloat16})
    trained = flat.master.clone()
    flat.average.mul_(0.5)
    weight = next(modules["text"].parameters())
    shown = weight.detach().clone()
    with flat.averaged():
        torch.testing.assert_close(weight, shown / 2)
    assert torch.equal(weight, shown) and torch.equal(flat.master, trained)
    with pytest.raises(RuntimeError, match="looked"), flat.averaged():
        raise RuntimeError("looked")
    assert torch.equal(weight, shown)
    flat.settle()
    torch.testing.assert_close(weight, shown / 2)
    assert all(
        parameter.dtype == torch.float32 and parameter.grad is None for module in modules.values() for parameter in module.parameters()
    )


def test_what_is_not_finite_has_a_name() -> None:
    modules = two_modules()
    flat = FlatWeights(modules, dtypes={"network": torch.bfloat16})
    loss_of(modules, torch.randn(4, 5), torch.bfloat16).backward()
    assert torch.isfinite(flat.gather_gradient()) and flat.name_of_nonfinite() == ""
    gradient = dict(modules["network"].named_parameters())["1.bias"].grad
    assert gradient is not None
    gradient[1] = float("inf")
    assert not torch.isfinite(flat.gather_gradient())
    assert flat.name_of_nonfinite() == "network/1.bias"
