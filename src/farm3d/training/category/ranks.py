"""Several processes train one category as one would: each takes its share of every batch, and all end a step with the same weights.

What is random is drawn for the joint batch in every process, and each keeps its own rows. Gradients are those of the joint loss: sums over
processes, each part weighted by how many of the pictures it was made of. DistributedDataParallel would do neither: it takes the plain mean
of processes, and wants one ``forward`` in which everything happens.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import distributed, nn

from farm3d.core.errors import Farm3DError, InputError
from farm3d.core.shapes import Tensor

__all__ = ["ALONE", "Ranks", "Share", "launched_ranks"]

_ENVIRONMENT = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # what torchrun and `accelerate launch` tell their processes


@dataclass(frozen=True)
class Share:
    """The pictures ``begin`` to ``end`` (not included) of a joint batch of ``count``."""

    begin: int
    end: int
    count: int

    @property
    def whole(self) -> bool:
        """Whether that is all of them."""
        return self.end - self.begin == self.count

    @property
    def weight(self) -> float:
        """How much a mean over the share counts in the mean over the batch."""
        return (self.end - self.begin) / self.count


@dataclass(frozen=True)
class Ranks:
    """Which of the processes that train together this one is: ``number`` of ``count``, from 0, and ``local`` on its machine.

    One process talks to nobody. The methods that talk are called by all processes, in the same order.
    """

    number: int = 0
    count: int = 1
    local: int = 0

    def device(self, asked: str, *, gpus: int) -> str:
        """Return where this process computes: of a machine with several GPUs, ``cuda`` is another one for each of its processes."""
        return f"cuda:{self.local % gpus}" if asked == "cuda" and self.count > 1 and gpus else asked

    @property
    def first(self) -> bool:
        """Whether this process writes and tells."""
        return self.number == 0

    def share(self, size: int) -> Share:
        """Return this process's part of a batch of ``size`` pictures; parts differ by one picture at most."""
        return Share(self.number * size // self.count, (self.number + 1) * size // self.count, size)

    def totals(self, values: Mapping[str, Tensor]) -> dict[str, float]:
        """Return the sums over processes of single numbers, by name."""
        numbers = torch.stack([value.detach().double() for value in values.values()])
        summed = numbers if self.count == 1 else self._sum(numbers)
        return dict(zip(values, summed.tolist(), strict=True))

    def joined(self, share: Share, values: Tensor) -> Tensor:
        """Return the rows of the joint batch, ``[count * K]``, of those of each share, ``[(end - begin) * K]``, to the bit."""
        if self.count == 1:
            return values
        rows = values.detach().unflatten(0, (share.end - share.begin, -1))
        whole = rows.new_zeros((share.count, *rows.shape[1:]), dtype=torch.float64)
        whole[share.begin : share.end] = rows.double()
        return self._sum(whole).flatten(0, 1).to(values.dtype)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Let each parameter's gradient be the sum over processes; one that no process has a gradient for stays without."""
        if self.count == 1:
            return
        wanted = list(parameters)
        parts = [parameter.new_zeros(parameter.numel()) if parameter.grad is None else parameter.grad.flatten() for parameter in wanted]
        there = parts[0].new_tensor([float(parameter.grad is not None) for parameter in wanted])
        summed = self._sum(torch.cat([*parts, there]))
        pieces = summed[: -len(wanted)].split([len(part) for part in parts])
        for parameter, piece, holders in zip(wanted, pieces, summed[-len(wanted) :].tolist(), strict=True):
            if holders > 0:
                parameter.grad = piece.view_as(parameter)

    def largest(self, value: int) -> int:
        """Return the largest of the processes' numbers, each 0 or more: a request to stop that one of them got reaches all."""
        if self.count == 1:
            return value
        return int(self._sum(torch.nn.functional.one_hot(torch.tensor(self.number), self.count) * value).max())

    def meet(self) -> None:
        """Wait for the others."""
        self.largest(0)

    def require_same(self, words: str, state: Mapping[str, Tensor]) -> None:
        """Compare words and tensors between processes before they begin.

        Raises:
            InputError: they differ, in all processes.
        """
        if self.count == 1:
            return
        sha = hashlib.sha256(words.encode())
        for name, value in state.items():
            sha.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
        digests = torch.zeros(self.count, 4, dtype=torch.int64)
        digests[self.number] = torch.frombuffer(bytearray(sha.digest()), dtype=torch.int64)
        if bool((self._sum(digests) != digests[self.number]).any()):
            raise InputError(
                "the processes do not begin alike: other pictures, settings, checkpoints or versions",
                hint="start all with the same command, on folders that all of them see",
            )

    def _sum(self, values: Tensor) -> Tensor:
        here = values.cpu()  # where every gloo can sum
        try:
            distributed.all_reduce(here)
        except RuntimeError as error:
            raise Farm3DError(
                f"process {self.number} of {self.count}: another process of this training has ended",
                hint="its own message says why; the same command goes on from the newest checkpoint",
            ) from error
        return here.to(values.device)


ALONE = Ranks()


@contextlib.contextmanager
def launched_ranks() -> Iterator[Ranks]:
    """Yield what a launcher (torchrun, ``accelerate launch``) made this process part of; without one, :data:`ALONE`.

    Raises:
        InputError: the launcher did not say all that is needed, or the processes do not find each other.
    """
    said = {name: os.environ.get(name, "") for name in _ENVIRONMENT}
    count = int(said["WORLD_SIZE"]) if said["WORLD_SIZE"].isdigit() else 1
    if count == 1:
        yield ALONE
        return
    if missing := [name for name, value in said.items() if not value]:
        raise InputError(f"WORLD_SIZE is {count}, and {missing[0]} is not set", hint="start several processes with torchrun")
    try:
        distributed.init_process_group("gloo")
    except (RuntimeError, ValueError) as error:
        where = f"{said['MASTER_ADDR']}:{said['MASTER_PORT']}"
        raise InputError(f"no connection to the other processes at {where}: {error}", hint="check MASTER_ADDR and the network") from error
    try:
        local = os.environ.get("LOCAL_RANK", "")
        yield Ranks(distributed.get_rank(), count, int(local) if local.isdigit() else 0)
    finally:
        distributed.destroy_process_group()
