"""One encoding for every subset: features do not know which other sensors are there.

No row of the packed encoder sees another, so a sensor's features are the same in all subsets that
hold it. Each (sensor, damage) pair is encoded once per batch, and every trial is a choice of rows
followed by fusion and head: 15 subsets cost 4 encodings, not 32. The zero image is the same for all
samples and is encoded once per run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustseg_core.datasets import Sample
from robustseg_core.errors import RobustsegError
from robustseg_core.evaluation.noise import add_noise, drop_elements, generator
from robustseg_core.evaluation.protocols import INTACT, ZERO, Trial, Variant
from robustseg_core.models.anymodal import AnyModalSegmenter


class SharedForward:
    """A network that sees the same samples in many trials.

    Args:
        model: in eval mode; runs on its own device, in its own precision.
        seed: of all damage.
    """

    def __init__(self, model: AnyModalSegmenter, *, seed: int = 0) -> None:
        self.model = model
        self.seed = seed
        weight = next(model.parameters())
        self._device, self._dtype = weight.device, weight.dtype
        self._samples: Sequence[Sample] = ()
        self._maps: dict[tuple[str, Variant], list[Tensor]] = {}
        self._zeros: dict[tuple[str, tuple[int, int]], list[Tensor]] = {}
        self._size = (0, 0)

    def take(self, samples: Sequence[Sample]) -> None:
        """These are the samples now; features of earlier ones are forgotten.

        Raises:
            RobustsegError: images of different sizes, or of one that does not divide by 32.
        """
        self._samples, self._maps = samples, {}
        sizes = {i.shape[1:]: s.id for s in samples for i in s.images.values()}
        if len(sizes) > 1:
            (a, first), (b, second), *_ = sizes.items()
            raise RobustsegError(
                f"sample {first} is {a[0]}x{a[1]} and {second} is {b[0]}x{b[1]}; "
                "give the data set one size, e.g. 512x512"
            )
        for (height, width), name in sizes.items():
            self._size = (height, width)
            if height % 32 or width % 32:
                up = [max(32, -(-n // 32) * 32) for n in self._size]
                raise RobustsegError(
                    f"sample {name} is {height}x{width}; both must divide by 32; "
                    f"evaluate at {up[0]}x{up[1]}"
                )

    def forget_damaged(self) -> None:
        """Drop the features of all damaged images; those of intact ones serve on."""
        self._maps = {key: maps for key, maps in self._maps.items() if key[1] == INTACT}

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
        parts: list[list[Tensor]] = []
        rows: list[int] = []
        columns: list[int] = []
        for (column, variant), own in sorted(shown.items(), key=lambda item: item[0][0]):
            parts.append(self._features(column, variant, [seeing[row] for row in own]))
            rows += own
            columns += [column] * len(own)
        sample = torch.tensor(rows, device=self._device)  # (N,)
        modality = torch.tensor(columns, device=self._device)  # (N,)
        fused = [
            fuse(torch.cat(stage), sample, modality, len(seeing))  # (n, C_s, H_s, W_s)
            for fuse, stage in zip(self.model.fusions, zip(*parts, strict=True), strict=True)
        ]
        logits = self.model.head(fused)
        if not torch.isfinite(torch.stack(torch.aminmax(logits))).all():
            row = int((~torch.isfinite(logits)).flatten(1).any(1).nonzero()[0])
            raise RobustsegError(
                f"the network's logits of sample {self._samples[seeing[row]].id} are not finite "
                f"({trial.protocol} with {', '.join(trial.subset)}), so nothing can be scored; use "
                "other weights, or look whether the sample's images are finite"
            )
        return logits, seeing

    def _variants(self, sample: Sample, trial: Trial) -> list[tuple[int, Variant]]:
        """Column and variant of every sensor that is alive in this trial."""
        found = []
        for column, name in enumerate(self.model.spec.modalities):
            if name not in sample.images:
                variant = None if trial.others is None else ZERO
            else:
                variant = trial.shown if name in trial.subset else trial.others
            if variant is not None:
                found.append((column, variant))
        return found

    def _sees(self, sample: Sample, trial: Trial) -> bool:
        return any(variant.informative for _, variant in self._variants(sample, trial))

    def _features(self, column: int, variant: Variant, places: list[int]) -> list[Tensor]:
        """S maps of (len(places), C_s, H_s, W_s)."""
        name = self.model.spec.modalities[column]
        if variant == ZERO:
            if (name, self._size) not in self._zeros:
                count = self.model.spec.channels_of(name)
                image = torch.zeros(1, count, *self._size, device=self._device, dtype=self._dtype)
                self._zeros[name, self._size] = self._encode(image, column)
            maps = self._zeros[name, self._size]
            return [m.expand(len(places), -1, -1, -1) for m in maps]
        have = [i for i, sample in enumerate(self._samples) if name in sample.images]
        if (name, variant) not in self._maps:
            images = [self._damaged(self._samples[i], name, variant) for i in have]
            rows = torch.from_numpy(np.stack(images)).to(self._device, self._dtype)
            self._maps[name, variant] = self._encode(rows, column)
        maps = self._maps[name, variant]
        if places == have:
            return maps
        index = torch.tensor([have.index(place) for place in places], device=self._device)
        return [m[index] for m in maps]

    def _encode(self, rows: Tensor, column: int) -> list[Tensor]:
        modality = torch.full((len(rows),), column, device=self._device)
        maps: list[Tensor] = self.model.encoder(rows, modality)
        return maps

    def _damaged(self, sample: Sample, name: str, variant: Variant) -> NDArray[np.float32]:
        image = sample.images[name]
        if variant.kind == "dropped":
            rng = generator(self.seed, sample.id, name, "rmm")
            return drop_elements(image, float(variant.level), rng)
        if variant.kind == "noisy":
            rng = generator(self.seed, sample.id, name, "nm", variant.level)
            return add_noise(image, str(variant.level), name, rng)
        return image
