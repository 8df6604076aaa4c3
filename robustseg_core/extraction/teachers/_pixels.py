"""What teachers of other makes share: a picture in, a score of every class at every pixel out."""

from __future__ import annotations

import copy
import zlib
from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustseg_core.engines import NotFiniteError
from robustseg_core.extraction.class_names import distinct, match
from robustseg_core.extraction.teachers import CAMERA, Teacher
from robustseg_core.models.checkpoint import make_spec
from robustseg_core.models.classes import CITYSCAPES, ClassSet
from robustseg_core.models.resize import resize_logits
from robustseg_core.types import IGNORE, Bundle, Color, ModelSpec, network_size

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and deviation of pictures in [0, 1], where nobody tells others."""


class PixelTeacher(Teacher):
    """One that looks at the camera alone, and scores each class at each pixel.

    Where several of its classes are one of the wanted, their probabilities add up, so that it is
    as sure of `vegetation` as it is of `tree` and `bush` together.
    """

    _merging: Tensor | None = None
    """(K', K) of 0 and 1: which of its classes make each of the wanted; None: they are its own."""

    @abstractmethod
    def logits(self, picture: NDArray[np.float32]) -> Tensor:
        """(1, K, h, w) scores, before the softmax, of a normalized picture (1, 3, H, W)."""

    def __call__(self, bundle: Bundle) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """(H, W) class ids and (H, W) confidence 0..255 of the camera's picture.

        Raises:
            NotFiniteError: the scores are not finite.
        """
        with torch.inference_mode():
            found = self.logits(bundle.frames[CAMERA].array[None]).float()
            if not torch.isfinite(found).all():
                raise NotFiniteError(f"the scores of {self.name} are not finite; use another")
            chances = resize_logits(found, self.spec.size)[0].softmax(0)  # (K, H, W)
            if self._merging is None:
                confidence, ids = chances.max(0)
            else:
                merging = self._merging.to(chances.device)
                wanted = torch.einsum("jk,khw->jhw", merging, chances)  # (K', H, W)
                confidence, ids = wanted.max(0)
                strange = (chances * (1 - merging.amax(0))[:, None, None]).amax(0)
                ids = torch.where(strange > confidence, IGNORE, ids)
        sure = (confidence.clamp(0, 1) * 255).round().to(torch.uint8)
        return ids.to(torch.uint8).cpu().numpy(), sure.cpu().numpy()

    def speaking(self, table: NDArray[np.uint8], classes: ClassSet) -> Teacher:
        """The same network; probabilities are merged."""
        other = copy.copy(self)
        merging = torch.zeros(len(classes.names), len(table))
        for place, new in enumerate(table.tolist()):
            if new != IGNORE:
                merging[new, place] = 1
        other._merging = merging
        other.spec = self.spec.model_copy(
            update={"classes": classes.names, "palette": classes.palette}
        )
        return other


def camera_spec(
    name: str,
    classes: Sequence[str],
    size: tuple[int, int],
    levels: tuple[Sequence[float], Sequence[float]] = IMAGENET,
) -> ModelSpec:
    """What a network of another make is fed: one camera, at a size whose sides divide by 32.

    Raises:
        RobustsegError: names or sizes that no network of ours could have, either.
    """
    names = distinct(classes)
    mean, std = levels
    return make_spec(
        {
            "modalities": (CAMERA,),
            "classes": names,
            "palette": tuple(_colors(names)),
            "size": network_size(*size),
            "encodings": {CAMERA: {"mean": tuple(mean), "std": tuple(std)}},
            "trained": True,
            "provenance": name[-200:],
        },
        source=f"the teacher {name}",
    )


def _colors(names: Sequence[str]) -> list[Color]:
    """Cityscapes' colors where a name is one of its classes; others by the name."""
    try:
        table = match(names, CITYSCAPES.names).table.tolist()
    except Exception:  # none is
        table = [IGNORE] * len(names)
    codes = [zlib.crc32(name.encode()) for name in names]
    return [
        CITYSCAPES.palette[place]
        if place != IGNORE
        else (64 + code % 160, 64 + (code >> 8) % 160, 64 + (code >> 16) % 160)
        for place, code in zip(table, codes, strict=True)
    ]
