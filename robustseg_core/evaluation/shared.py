"""One encoding for every subset: features do not know which other sensors are there.

No row of a packed encoder sees another, so a sensor's features are the same in all subsets that
hold it. Each (sensor, damage) pair is encoded once per batch, and every trial is a choice of rows
followed by fusion and head: 15 subsets cost 4 encodings, not 32. The zero image is the same for all
samples and is encoded once per run. Where the fusion is a mean, the folded head does for each
sensor once, too, what it does before its ReLU (`FoldedHead.of_means`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from robustseg_core.evaluation.forward import Forward, Shown, WholeForward, is_finite
from robustseg_core.evaluation.protocols import INTACT, ZERO, Trial, Variant
from robustseg_core.models.head import FoldedHead
from robustseg_core.models.network import Network, PackedNetwork

_MOST_LOGITS = 1 << 26
"""Logits of a batch in several trials that are held at once."""


class SharedForward(Forward):
    """A network that encodes each sensor by itself, and does so once for all trials."""

    def __init__(self, model: PackedNetwork, *, seed: int = 0) -> None:
        super().__init__(model, seed=seed)
        self.model = model
        self._maps: dict[tuple[str, Variant], list[Tensor]] = {}
        self._blank: dict[tuple[str, tuple[int, int]], list[Tensor]] = {}
        head = model.head
        self._head = head if model.averages and isinstance(head, FoldedHead) else None

    @torch.inference_mode()
    def answers(self, trials: Sequence[Trial]) -> Iterator[tuple[Tensor, list[int]]]:
        """As `Forward.answers`: many trials together, where the fusion is a mean."""
        if self._head is None or len(trials) == 1:
            yield from super().answers(trials)
            return
        pixels = self._size[0] * self._size[1] // self.model.stride**2
        one = max(1, len(self._samples) * len(self._spec.classes) * pixels)
        step = max(1, _MOST_LOGITS // one)
        for start in range(0, len(trials), step):
            yield from self._together(self._head, trials[start : start + step])

    def _together(
        self, head: FoldedHead, trials: Sequence[Trial]
    ) -> Iterator[tuple[Tensor, list[int]]]:
        parts: list[list[Tensor]] = [[] for _ in trials]
        seeing: list[list[int]] = [[] for _ in trials]
        for place, sample in enumerate(self._samples):
            asked = [t for t, trial in enumerate(trials) if self._sees(sample, trial)]
            shown = [self._variants(sample, trials[t]) for t in asked]
            keys = list(dict.fromkeys(key for some in shown for key in some))  # N
            weights = torch.zeros(len(asked), len(keys), device=self._device, dtype=self._dtype)
            for row, some in enumerate(shown):
                weights[row, [keys.index(key) for key in some]] = 1 / len(some)
            if not asked:
                continue
            features = [self._features(column, variant, [place]) for column, variant in keys]
            stages = [torch.cat(stage) for stage in zip(*features, strict=True)]
            found = head.of_means(stages, weights)
            for row, t in enumerate(asked):
                parts[t].append(found[row : row + 1])
                seeing[t].append(place)
        for trial, logits, places in zip(trials, parts, seeing, strict=True):
            together = torch.cat(logits) if places else torch.empty(0)
            # A sensor that is not finite is so in all means, those that leave it out included.
            yield (together, places) if is_finite(together) else self.logits(trial)

    def _ask(self, shown: Shown, seeing: Sequence[int]) -> Tensor:
        parts: list[list[Tensor]] = []
        rows: list[int] = []
        columns: list[int] = []
        for (column, variant), own in sorted(shown.items(), key=lambda item: item[0][0]):
            parts.append(self._features(column, variant, [seeing[row] for row in own]))
            rows += own
            columns += [column] * len(own)
        sample = torch.tensor(rows, device=self._device)  # (N,)
        modality = torch.tensor(columns, device=self._device)  # (N,)
        stages = [torch.cat(stage) for stage in zip(*parts, strict=True)]
        quality = None
        if not self._all_well:
            told = [self._told(seeing[r], c) for r, c in zip(rows, columns, strict=True)]
            quality = torch.tensor(told, device=self._device, dtype=self._dtype)
        fused = self.model.fuse(stages, sample, modality, batch=len(seeing), quality=quality)
        return self.model.decode(fused)

    def _features(self, column: int, variant: Variant, places: list[int]) -> list[Tensor]:
        """S maps of (len(places), C_s, H_s, W_s)."""
        name = self._spec.modalities[column]
        if variant == ZERO:
            if (name, self._size) not in self._blank:
                self._blank[name, self._size] = self._encode(self._zeros(name, 1), column)
            maps = self._blank[name, self._size]
            return [m.expand(len(places), -1, -1, -1) for m in maps]
        if (name, variant) not in self._maps:
            self._maps[name, variant] = self._encode(self._images(name, variant), column)
        maps, have = self._maps[name, variant], self._having(name)
        if places == have:
            return maps
        index = torch.tensor([have.index(place) for place in places], device=self._device)
        return [m[index] for m in maps]

    def _encode(self, rows: Tensor, column: int) -> list[Tensor]:
        return self.model.encode(rows, torch.full((len(rows),), column, device=self._device))

    def _forget(self, *, intact_too: bool) -> None:
        kept = {} if intact_too else self._maps
        self._maps = {key: maps for key, maps in kept.items() if key[1] == INTACT}


def forward_of(model: Network, *, seed: int = 0) -> Forward:
    """The cheapest way to see many trials with this network; arguments as `Forward`."""
    if isinstance(model, PackedNetwork):
        return SharedForward(model, seed=seed)
    return WholeForward(model, seed=seed)
