"""What a network's confidence means: a temperature for the sensors alive, and a promise.

The mathematics: docs/specs/confidence.md. How they are fitted: `learn/calibrate.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustseg_core.errors import RobustsegError
from robustseg_core.types import IGNORE, Bundle, Calibration, ModelSpec, Thresholds, Trust

WELL = 0.9
"""Mean quality told of the alive sensors from which on they count as well."""
UNCALIBRATED = "confidence is not calibrated"


def key(spec: ModelSpec, alive: Iterable[str]) -> str:
    """How `Calibration.subsets` names these sensors."""
    names = set(alive)
    return "+".join(name for name in spec.modalities if name in names)


def trust_of(spec: ModelSpec, alive: Iterable[str]) -> Trust | None:
    """What holds while these sensors are alive; None: the network is not calibrated."""
    found = spec.calibration
    return None if found is None else found.subsets.get(key(spec, alive), found.overall)


def mean_quality(quality: Mapping[str, float]) -> float:
    """In [0, 1], of modality -> quality of the alive sensors."""
    return sum(quality.values()) / len(quality) if quality else 1.0


def temperature(spec: ModelSpec, quality: Mapping[str, float]) -> float:
    """What logits are divided by before confidence is made of them; 1 without a calibration.

    Args:
        spec: the network's.
        quality: modality -> told quality in [0, 1], of the sensors that are alive.
    """
    trust = trust_of(spec, quality)
    return 1.0 if trust is None else temperature_at(trust, mean_quality(quality))


def temperature_at(trust: Trust, quality: float) -> float:
    """The temperature at a mean quality in [0, 1]."""
    return trust.temperature * math.exp(trust.slope * (1 - quality))


def winner(logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """(...) int64 ids and (...) probability in [0, 1] of the winning class of (K, ...) logits.

    The ids are those of the logits as they are: no temperature changes a label.
    """
    best, ids = logits.max(0)
    if temperature != 1:
        logits, best = logits / temperature, best / temperature
    return ids, (best - logits.logsumexp(0)).exp()


class Promise:
    """Takes the label of each pixel of which too little can be promised.

    Args:
        spec: the network's.
        alpha: at most this share of the pixels that keep their label is wrong; 0: all keep it.

    Raises:
        RobustsegError: the checkpoint does not promise that.
    """

    def __init__(self, spec: ModelSpec, alpha: float) -> None:
        self._spec = spec
        self._row: int | None = None
        if not alpha:
            return
        known = spec.calibration
        if known is None:
            raise RobustsegError(
                f"alpha is {alpha:g}, but the checkpoint's {UNCALIBRATED}, so it promises nothing; "
                "make one that does with `robustseg calibrate`, or set alpha to 0"
            )
        self._row = row_of(known, alpha)

    def kept(
        self, ids: NDArray[np.uint8], confidence: NDArray[np.uint8], bundle: Bundle
    ) -> NDArray[np.uint8]:
        """(H, W) ids, `IGNORE` where the (H, W) confidence, 0..255, is below the threshold.

        Args:
            ids: class ids; they stay as they are.
            confidence: as an engine returns it.
            bundle: what the network saw.
        """
        if self._row is None:
            return ids
        quality = {name: frame.quality for name, frame in bundle.frames.items()}
        trust = trust_of(self._spec, quality)
        assert trust is not None, "it was there when this was made"
        least = np.full(IGNORE + 1, 0, np.int64)
        row = thresholds(trust, mean_quality(quality))[self._row]
        least[: len(row)] = row
        return np.where(confidence >= least[ids], ids, np.uint8(IGNORE))


def thresholds(trust: Trust, quality: float) -> Thresholds:
    """(A, K) thresholds at a mean quality."""
    return trust.well if quality >= WELL else trust.ailing


def row_of(calibration: Calibration, alpha: float) -> int:
    """The row of thresholds of this alpha.

    Raises:
        RobustsegError: there is none.
    """
    for row, known in enumerate(calibration.alphas):
        if math.isclose(known, alpha, rel_tol=1e-6):
            return row
    given = ", ".join(f"{known:g}" for known in calibration.alphas) or "nothing"
    raise RobustsegError(
        f"alpha is {alpha:g}, and the checkpoint promises {given}; give one of these, or make "
        f"another checkpoint with `robustseg calibrate --alpha {alpha:g}`"
    )


def unpromised(calibration: Calibration) -> Calibration:
    """Its temperatures alone: no alpha is promised."""
    none: dict[str, Any] = {"well": (), "ailing": ()}
    subsets = {k: trust.model_copy(update=none) for k, trust in calibration.subsets.items()}
    overall = calibration.overall.model_copy(update=none)
    changed = {"alphas": (), "subsets": subsets, "overall": overall}
    return calibration.model_copy(update=changed)


def on_levels(confidence: Tensor) -> Tensor:
    """Probabilities in [0, 1] as masks have them, 0..255 int64."""
    return (confidence * 255).round().to(torch.int64)
