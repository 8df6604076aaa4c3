"""The same samples in many trials: what each sensor shows in each, and what the network says.

`WholeForward` runs any network anew for each trial. One that encodes each sensor by itself is
spared that (`shared.py`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustseg_core.datasets import Sample
from robustseg_core.errors import RobustsegError
from robustseg_core.evaluation.noise import add_noise, drop_elements, generator
from robustseg_core.evaluation.protocols import INTACT, ZERO, Trial, Variant
from robustseg_core.models.network import Network
from robustseg_core.types import network_size

Shown = Mapping[tuple[int, Variant], Sequence[int]]
"""(column, variant) -> the rows of the batch that show it, ascending."""


class Forward(ABC):
    """A network that sees the same samples in many trials.

    Args:
        model: in eval mode; runs on its own device, in its own precision.
        seed: of all damage.
    """

    def __init__(self, model: Network, *, seed: int = 0) -> None:
        self.seed = seed
        self._spec = model.spec
        weight = next(model.parameters())
        self._device, self._dtype = weight.device, weight.dtype
        self._samples: Sequence[Sample] = ()
        self._size = (0, 0)

    def take(self, samples: Sequence[Sample]) -> None:
        """These are the samples now; what was kept of earlier ones is forgotten.

        Raises:
            RobustsegError: images of different sizes, or of one that does not divide by 32.
        """
        self._samples = samples
        self._forget(intact_too=True)
        sizes = {i.shape[1:]: s.id for s in samples for i in s.images.values()}
        if len(sizes) > 1:
            (a, first), (b, second), *_ = sizes.items()
            raise RobustsegError(
                f"sample {first} is {a[0]}x{a[1]} and {second} is {b[0]}x{b[1]}; "
                "give the data set one size, e.g. 512x512"
            )
        for (height, width), name in sizes.items():
            self._size = (height, width)
            if (up := network_size(height, width)) != self._size:
                raise RobustsegError(
                    f"sample {name} is {height}x{width}; both must divide by 32; "
                    f"evaluate at {up[0]}x{up[1]}"
                )

    def forget_damaged(self) -> None:
        """Drop what was kept of damaged images; what is kept of intact ones serves on."""
        self._forget(intact_too=False)

    @torch.inference_mode()
    def logits(self, trial: Trial) -> tuple[Tensor, list[int]]:
        """What the network says in `trial`.

        Returns:
            (n, K, h, w) logits, and the n places in the batch that they belong to, ascending. Blind
            samples are left out: none of their sensors shows anything of the scene.

        Raises:
            RobustsegError: logits that are not finite; the text names sample and trial.
        """
        shown: dict[tuple[int, Variant], list[int]] = defaultdict(list)
        seeing = [i for i, sample in enumerate(self._samples) if self._sees(sample, trial)]
        for row, place in enumerate(seeing):
            for column, variant in self._variants(self._samples[place], trial):
                shown[column, variant].append(row)
        if not seeing:
            return torch.empty(0), []
        logits = self._ask(shown, seeing)
        if not is_finite(logits):
            row = int((~torch.isfinite(logits)).flatten(1).any(1).nonzero()[0])
            raise RobustsegError(
                f"the network's logits of sample {self._samples[seeing[row]].id} are not finite "
                f"({trial.protocol} with {', '.join(trial.subset)}), so nothing can be scored; use "
                "other weights, or look whether the sample's images are finite"
            )
        return logits, seeing

    def answers(self, trials: Sequence[Trial]) -> Iterator[tuple[Tensor, list[int]]]:
        """As `logits`, of each of these trials in turn."""
        for trial in trials:
            yield self.logits(trial)

    @abstractmethod
    def _ask(self, shown: Shown, seeing: Sequence[int]) -> Tensor:
        """(n, K, h, w) logits of the samples at the places `seeing`."""

    @abstractmethod
    def _forget(self, *, intact_too: bool) -> None:
        """Drop what is kept of the samples' damaged images, or of all."""

    def _variants(self, sample: Sample, trial: Trial) -> list[tuple[int, Variant]]:
        """Column and variant of every sensor that is alive in this trial."""
        found = []
        for column, name in enumerate(self._spec.modalities):
            if name not in sample.images:
                variant = None if trial.others is None else ZERO
            else:
                variant = trial.shown if name in trial.subset else trial.others
            if variant is not None:
                found.append((column, variant))
        return found

    def _sees(self, sample: Sample, trial: Trial) -> bool:
        return any(variant.informative for _, variant in self._variants(sample, trial))

    def _told(self, sample: int, column: int) -> float:
        """What the network is told of a sensor's quality."""
        return self._samples[sample].quality.get(self._spec.modalities[column], 1.0)

    @property
    def _all_well(self) -> bool:
        """Whether nobody's quality is told."""
        return not any(sample.quality for sample in self._samples)

    def _having(self, name: str) -> list[int]:
        """Places of the samples that have this sensor."""
        return [i for i, sample in enumerate(self._samples) if name in sample.images]

    def _images(self, name: str, variant: Variant) -> Tensor:
        """(len(_having(name)), C, H, W): what this sensor shows, of all samples that have it."""
        images = [self._damaged(self._samples[i], name, variant) for i in self._having(name)]
        return torch.from_numpy(np.stack(images)).to(self._device, self._dtype)

    def _zeros(self, name: str, count: int) -> Tensor:
        """(count, C, H, W)."""
        channels = self._spec.channels_of(name)
        return torch.zeros(count, channels, *self._size, device=self._device, dtype=self._dtype)

    def _damaged(self, sample: Sample, name: str, variant: Variant) -> NDArray[np.float32]:
        image = sample.images[name]
        if variant.kind == "dropped":
            rng = generator(self.seed, sample.id, name, "rmm")
            return drop_elements(image, float(variant.level), rng)
        if variant.kind == "noisy":
            rng = generator(self.seed, sample.id, name, "nm", variant.level)
            return add_noise(image, str(variant.level), name, rng)
        return image


def is_finite(logits: Tensor) -> bool:
    """Whether all of them are; of none, yes."""
    return not logits.numel() or bool(torch.isfinite(torch.stack(torch.aminmax(logits))).all())


class WholeForward(Forward):
    """Any network, run from images to logits in each trial."""

    def __init__(self, model: Network, *, seed: int = 0) -> None:
        super().__init__(model, seed=seed)
        self.model = model
        self._kept: dict[tuple[str, Variant], Tensor] = {}

    def _ask(self, shown: Shown, seeing: Sequence[int]) -> Tensor:
        """A sensor that is not there in a trial is not alive; a zero image is an image."""
        names = self._spec.modalities
        alive = torch.zeros(len(seeing), len(names), dtype=torch.bool)
        images: dict[str, Tensor] = {}
        for (column, variant), rows in shown.items():
            name = names[column]
            alive[rows, column] = True
            if name not in images:
                images[name] = self._zeros(name, len(seeing))
            if variant == ZERO:
                continue
            if (name, variant) not in self._kept:
                self._kept[name, variant] = self._images(name, variant)
            have = self._having(name)
            own = [have.index(seeing[row]) for row in rows]
            images[name][rows] = self._kept[name, variant][own]
        quality = None
        if not self._all_well:
            columns = range(len(names))
            told = [[self._told(place, column) for column in columns] for place in seeing]
            quality = torch.tensor(told, device=self._device, dtype=self._dtype)
        logits: Tensor = self.model(images, alive.to(self._device), quality).logits
        return logits

    def _forget(self, *, intact_too: bool) -> None:
        kept = {} if intact_too else self._kept
        self._kept = {key: images for key, images in kept.items() if key[1] == INTACT}
