"""The network as PyTorch runs it, with the folded head and the static shapes of inference."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from robustseg_core.engines._base import Memory, NetworkEngine, told
from robustseg_core.errors import RobustsegError
from robustseg_core.models.network import Network, PackedNetwork
from robustseg_core.types import Bundle

DEVICE = re.compile(r"auto|cpu|cuda(:\d{1,3})?")


def pick_device(name: str) -> torch.device:
    """`auto` is the first GPU if there is one, else the CPU.

    Raises:
        RobustsegError: no such device, or a GPU was asked for and there is none.
    """
    if not isinstance(name, str) or not DEVICE.fullmatch(name):
        raise RobustsegError(f"device is {name!r}; expected auto, cpu, cuda or cuda:N")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise RobustsegError(
            f"device is {name!r}, but this machine has no CUDA GPU; use auto or cpu"
        )
    device = torch.device(name)
    if device.index is not None and device.index >= torch.cuda.device_count():
        raise RobustsegError(
            f"device is {name!r}, but this machine has {torch.cuda.device_count()} CUDA GPUs; "
            "they count from cuda:0"
        )
    return device


def share_cores(device: torch.device, *, threads: int = 0, processes: int = 1) -> None:
    """Set the threads of this process's networks on a CPU; nothing on a GPU.

    PyTorch's threads wait for each other in a busy loop, so that one core too many makes everything
    slower: 5 times on a busy machine of two cores (measured).

    Args:
        device: where the network runs.
        threads: how many; 0: all cores but one, which is left to whoever feeds the network.
        processes: that do the same on this machine.
    """
    if device.type == "cpu":
        spare = max(1, (os.cpu_count() or 2) - 1)
        torch.set_num_threads(threads or max(1, spare // processes))


class EagerEngine(NetworkEngine):
    """The network as it is; its cost is that of the modalities which are there and new.

    Args:
        model: a segmenter in either head form; inference uses the folded one.
        device: where to run.
        cpu_threads: of this whole process, on a CPU; 0: all cores but one (`share_cores`).
    """

    name: ClassVar = "eager"

    def __init__(self, model: Network, device: torch.device, *, cpu_threads: int = 0) -> None:
        share_cores(device, threads=cpu_threads)
        super().__init__(model.spec)
        self._device = device
        self._model = model.folded().to(device)
        self.memory = Memory()

    def logits(self, bundle: Bundle) -> Tensor:
        """As `NetworkEngine.logits`."""
        names = self.spec.modalities
        images = {n: torch.from_numpy(frame.array)[None] for n, frame in bundle.frames.items()}
        alive = torch.tensor([[name in bundle.frames for name in names]])  # (1, M)
        if isinstance(self._model, PackedNetwork):
            self._model.check(images, alive)
            return self._of_packed(self._model, bundle, images)
        here = {name: image.to(self._device) for name, image in images.items()}
        logits: Tensor = self._model(here, alive, torch.tensor([told(bundle, names)])).logits
        return logits

    def _of_packed(
        self, model: PackedNetwork, bundle: Bundle, images: Mapping[str, Tensor]
    ) -> Tensor:
        names = [name for name in self.spec.modalities if name in bundle.frames]
        fresh = self.memory.news(bundle)
        # A processor is faster with one image after the other, whose maps stay in its cache.
        for some in [[name] for name in fresh] if self._device.type == "cpu" else [fresh]:
            here = {name: images[name].to(self._device, non_blocking=True) for name in some}
            new = torch.tensor([[name in some for name in self.spec.modalities]])
            rows, _, modality = model.pack(here, new)
            encoded = model.encode(rows, modality)
            for row, column in enumerate(modality.tolist()):
                name = self.spec.modalities[column]
                own = [x[row : row + 1] for x in encoded]
                self.memory.keep(name, bundle.frames[name], own)
        self.memory.prune(bundle)
        modality = torch.tensor([self.spec.modalities.index(name) for name in names])
        modality = modality.to(self._device)
        quality = torch.tensor(told(bundle, names), device=self._device)
        maps = [torch.cat(x) for x in zip(*self.memory.maps(names), strict=True)]
        fused = model.fuse(maps, torch.zeros_like(modality), modality, batch=1, quality=quality)
        return model.decode(fused)
