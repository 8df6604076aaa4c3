"""The network as PyTorch runs it, with the folded head and the static shapes of inference."""

from __future__ import annotations

import os
import re

import numpy as np
import torch
from numpy.typing import NDArray

from robustseg_core.engines import LackingError, NotFiniteError
from robustseg_core.errors import RobustsegError
from robustseg_core.models.calibration import temperature, winner
from robustseg_core.models.network import Network
from robustseg_core.models.resize import resize_logits
from robustseg_core.types import Bundle, ModelSpec

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


class EagerEngine:
    """Runs one bundle at a time; its cost is that of the modalities which are there.

    Args:
        model: a segmenter in either head form; inference uses the folded one.
        device: where to run.
        cpu_threads: of this whole process, on a CPU; 0: all cores but one (`share_cores`).
    """

    def __init__(self, model: Network, device: torch.device, *, cpu_threads: int = 0) -> None:
        share_cores(device, threads=cpu_threads)
        self.spec: ModelSpec = model.spec
        self._device = device
        self._model = model.folded().to(device)

    def __call__(self, bundle: Bundle) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """(H, W) class ids and (H, W) confidence 0..255, at the network's size.

        Raises:
            LackingError: the bundle lacks a sensor that the network needs.
            NotFiniteError: the logits are not finite, as of damaged weights.
        """
        for name in self._model.needs:
            if name not in bundle.frames:
                raise LackingError(
                    name,
                    f"the network ({self.spec.architecture}) makes no mask without {name}, and "
                    f"there is only {', '.join(bundle.frames)}; use weights that do without it",
                )
        images, alive, quality = self._tensors(bundle)
        with torch.inference_mode():
            logits = self._model(images, alive, quality).logits  # (1, K, h, w)
            extremes = torch.stack(torch.aminmax(logits))  # a NaN anywhere makes both NaN
            logits = resize_logits(logits, self.spec.size)  # (1, K, H, W)
            quality_of = {name: frame.quality for name, frame in bundle.frames.items()}
            ids, confidence = winner(logits[0], temperature(self.spec, quality_of))  # (H, W) each
            finite = torch.isfinite(extremes).all() & torch.isfinite(confidence.sum())
            ids_u8 = ids.to(torch.uint8).cpu().numpy()
            confidence_u8 = (confidence * 255).round().to(torch.uint8).cpu().numpy()
        if not finite:
            raise NotFiniteError(
                f"the network's logits of {', '.join(bundle.frames)} are not finite, so no mask "
                "was made; use other weights"
            )
        return ids_u8, confidence_u8

    def _tensors(
        self, bundle: Bundle
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
        names = self.spec.modalities
        images = {
            name: torch.from_numpy(frame.array)[None].to(self._device, non_blocking=True)
            for name, frame in bundle.frames.items()
        }  # modality -> (1, C, H, W)
        alive = torch.tensor([[name in bundle.frames for name in names]])  # (1, M)
        quality = torch.tensor(
            [[bundle.frames[n].quality if n in bundle.frames else 0.0 for n in names]]
        )  # (1, M)
        return images, alive, quality
