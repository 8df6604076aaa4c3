"""The network as PyTorch runs it, with the folded head and the static shapes of inference."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
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
        self._at_once = device.type != "cpu"
        """Whether the images of a batch are encoded in one call; maps of one stay in a cache."""
        self._memories: defaultdict[str, Memory] = defaultdict(Memory)
        """Of each camera, where there are several."""

    def logits_of(self, bundles: Mapping[str, Bundle]) -> Iterable[tuple[str, Tensor]]:
        """As `NetworkEngine.logits_of`: fused and decoded at once, and on a GPU encoded at once.

        On a processor, images are encoded one after the other, as those of one bundle are.
        """
        model, names = self._model, self.spec.modalities
        if not isinstance(model, PackedNetwork):
            yield from super().logits_of(bundles)
            return
        fresh = [(key, name) for key in bundles for name in self._memories[key].news(bundles[key])]
        for some in [fresh] if self._at_once else [[pair] for pair in fresh]:
            self._encode(model, bundles, some)
        for key, bundle in bundles.items():
            self._memories[key].prune(bundle)
        rows = [
            (sample, column, name, key)
            for column, name in enumerate(names)
            for sample, (key, bundle) in enumerate(bundles.items())
            if name in bundle.frames
        ]  # by modality first, as `PackedNetwork.pack` orders them
        own = [self._memories[key].maps([name])[0] for _, _, name, key in rows]
        fused = model.fuse(
            [torch.cat(x) for x in zip(*own, strict=True)],
            torch.tensor([sample for sample, *_ in rows], device=self._device),
            torch.tensor([column for _, column, *_ in rows], device=self._device),
            batch=len(bundles),
            quality=torch.tensor(
                [bundles[key].frames[name].quality for *_, name, key in rows], device=self._device
            ),
        )
        yield from zip(bundles, model.decode(fused), strict=True)

    def _encode(
        self,
        model: PackedNetwork,
        bundles: Mapping[str, Bundle],
        fresh: Sequence[tuple[str, str]],
    ) -> None:
        """Remember what the encoder makes of these frames, by whose they are and by modality."""
        names, keys = self.spec.modalities, list(dict.fromkeys(key for key, _ in fresh))
        if not fresh:
            return
        alive = torch.tensor([[(key, name) in fresh for name in names] for key in keys])
        images = {}
        for name in dict.fromkeys(name for _, name in fresh):
            own = {
                key: torch.from_numpy(bundles[key].frames[name].array)
                for key in keys
                if (key, name) in fresh
            }
            nothing = torch.zeros_like(next(iter(own.values())))
            images[name] = torch.stack([own.get(key, nothing) for key in keys])
        model.check(images, alive)
        here = {name: image.to(self._device, non_blocking=True) for name, image in images.items()}
        rows, sample, modality = model.pack(here, alive)
        encoded = model.encode(rows, modality)
        pairs = zip(sample.tolist(), modality.tolist(), strict=True)
        for row, (number, column) in enumerate(pairs):
            key, name = keys[number], names[column]
            own_maps = [x[row : row + 1] for x in encoded]
            self._memories[key].keep(name, bundles[key].frames[name], own_maps)

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
