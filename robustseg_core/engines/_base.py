"""What every engine does alike: a bundle in, labels out, and no sensor encoded twice."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from robustseg_core.engines import Labels, LackingError, NoMaskError, NotFiniteError
from robustseg_core.engines._winner import labels
from robustseg_core.models import architectures
from robustseg_core.models.calibration import temperature
from robustseg_core.types import Bundle, Frame, ModelSpec


class NetworkEngine(ABC):
    """Runs a bundle, or a batch of them, for one thread at a time.

    Args:
        spec: the network's.
    """

    name: ClassVar[str]
    """What `engine` of a robot calls it; where it runs may be added."""

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec

    def __call__(self, bundle: Bundle) -> Labels:
        """(H, W) class ids and (H, W) confidence 0..255, at the network's size.

        Raises:
            LackingError: the bundle lacks a sensor that the network needs.
            NotFiniteError: the logits are not finite, as of damaged weights.
        """
        self._expect_needed(bundle)
        with torch.inference_mode():
            return self._labels(bundle, self.logits(bundle)[0])

    def batch(self, bundles: Mapping[str, Bundle]) -> dict[str, Labels | NoMaskError]:
        """As `BatchEngine.batch`."""
        answers: dict[str, Labels | NoMaskError] = {}
        ready: dict[str, Bundle] = {}
        for key, bundle in bundles.items():
            try:
                self._expect_needed(bundle)
                ready[key] = bundle
            except LackingError as error:
                answers[key] = error
        with torch.inference_mode():
            for key, logits in self.logits_of(ready) if ready else ():
                try:
                    answers[key] = self._labels(ready[key], logits)
                except NotFiniteError as error:
                    answers[key] = error
        return answers

    def _expect_needed(self, bundle: Bundle) -> None:
        for name in architectures.needs(self.spec):
            if name not in bundle.frames:
                raise LackingError(
                    name,
                    f"the network ({self.spec.architecture}) makes no mask without {name}, and "
                    f"there is only {', '.join(bundle.frames)}; use weights that do without it",
                )

    def _labels(self, bundle: Bundle, logits: Tensor) -> Labels:
        """Of (K, h, w) logits."""
        quality = {name: frame.quality for name, frame in bundle.frames.items()}
        found = labels(logits, self.spec.size, temperature(self.spec, quality))
        if found is None:
            raise NotFiniteError(
                f"the network's logits of {', '.join(bundle.frames)} are not finite, so no mask "
                "was made; use other weights"
            )
        return found

    def logits_of(self, bundles: Mapping[str, Bundle]) -> Iterable[tuple[str, Tensor]]:
        """(key, (K, h, w)) of each of several bundles; called in inference mode.

        One after the other, unless an engine knows better.
        """
        for key, bundle in bundles.items():
            yield key, self.logits(bundle)[0]

    @abstractmethod
    def logits(self, bundle: Bundle) -> Tensor:
        """(1, K, h, w) of the sensors that are there; called in inference mode."""


class Memory:
    """What the encoder made of the frames of the last bundle, for those that come again.

    A held frame, the same scan beside the next image, is the same object; a frame is never changed.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[Frame, list[Tensor]]] = {}
        self.encoded = 0
        """Frames that went through the encoder, since the start."""

    def news(self, bundle: Bundle) -> list[str]:
        """The sensors whose frame is not the one that was encoded last."""
        return [
            name
            for name, frame in bundle.frames.items()
            if name not in self._known or self._known[name][0] is not frame
        ]

    def keep(self, name: str, frame: Frame, maps: list[Tensor]) -> None:
        """Remember a sensor's maps, until another frame of it comes."""
        self._known[name] = (frame, maps)
        self.encoded += 1

    def maps(self, names: Sequence[str]) -> list[list[Tensor]]:
        """Per sensor, its maps."""
        return [self._known[name][1] for name in names]

    def forget(self, name: str) -> None:
        """Know nothing of a sensor: its maps are about to be overwritten."""
        self._known.pop(name, None)

    def prune(self, bundle: Bundle) -> None:
        """Forget the sensors that are not in this bundle."""
        for name in self._known.keys() - bundle.frames.keys():
            del self._known[name]


def told(bundle: Bundle, names: Sequence[str]) -> list[float]:
    """The quality of each sensor; 0 of one that is not there."""
    return [bundle.frames[name].quality if name in bundle.frames else 0.0 for name in names]
