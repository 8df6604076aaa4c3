"""Batches in an order that is written down beforehand.

Step s of rank r holds the same samples, varied in the same way, whatever the number of worker
processes and wherever a run was resumed: order is a function of (seed, epoch), and a sample's
variation of (seed, epoch, index). Ranks cut each global batch into consecutive slices, so that two
processes with batches of 4 see what one with batches of 8 sees.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing import get_all_start_methods
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from robustseg_core.datasets._base import Dataset, Sample
from robustseg_core.errors import RobustsegError
from robustseg_core.learn.augment import AugmentConfig, augment
from robustseg_core.learn.corrupt import CorruptConfig, corrupt
from robustseg_core.learn.embeddings import Embeddings
from robustseg_core.modalities import channels_of
from robustseg_core.types import IGNORE, Batch

_ORDER, _VARIATION = 0, 1
"""What random numbers are for: one seed gives independent ones for each."""


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """A sample at one time: the same index in another epoch looks different."""

    epoch: int
    index: int


class Loader:
    """Batches of a data set, augmented and corrupted, loaded beside the training step.

    An epoch has as many whole global batches as the data set gives; what is left over comes in
    other epochs. A data set smaller than one global batch is gone through again and again.

    Args:
        dataset: where samples come from. With workers it is copied into forked processes: it opens
            its files in `__getitem__`, not before.
        batch: B, samples per step of this process.
        augment: how samples are varied; None: not at all.
        corrupt: how sensors are broken; None: not at all.
        seed: of order and variation; the same on all ranks.
        workers: processes that load; 0: this one, while the training step waits.
        shuffle: False: in the data set's order.
        rank: which of `world` processes this is.
        world: processes that share each global batch.
        cache: keep all samples in memory, as float16, read once before the first batch.
        embeddings: of all samples; None: of none.

    Raises:
        RobustsegError: a number out of range.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        batch: int,
        augment: AugmentConfig | None = None,
        corrupt: CorruptConfig | None = None,
        seed: int = 0,
        workers: int = 0,
        shuffle: bool = True,
        rank: int = 0,
        world: int = 1,
        cache: bool = False,
        embeddings: Embeddings | None = None,
    ) -> None:
        if batch < 1 or workers < 0 or seed < 0 or not 0 <= rank < world:
            raise RobustsegError(
                f"batch {batch}, workers {workers}, seed {seed}, rank {rank} of {world}; expected "
                "a batch of 1 or more, no negative number, and a rank below the number of processes"
            )
        self.dataset = dataset
        self.batch, self.workers, self.seed = batch, workers, seed
        self.shuffle, self.rank, self.world, self.cache = shuffle, rank, world, cache
        self.waited_s = 0.0
        """Seconds that `batches` kept its caller waiting, in all; reading into the cache too."""
        self._varied = _Varied(dataset, seed, augment, corrupt, embeddings)
        self._epoch = -1
        self._order = np.empty(0, np.intp)

    def __len__(self) -> int:
        """Steps per epoch; at least 1."""
        return max(1, len(self.dataset) // (self.batch * self.world))

    def keys(self, step: int) -> list[Key]:
        """Which samples step `step` (0, 1, ... over all epochs) of this rank holds, in order."""
        count, whole = len(self.dataset), self.batch * self.world
        first = self.rank * self.batch
        if count >= whole:
            epoch, step = divmod(step, len(self))
            places = range(step * whole + first, step * whole + first + self.batch)
            return [Key(epoch, self._index(epoch, place)) for place in places]
        stream = range(step * whole + first, step * whole + first + self.batch)
        return [Key(n // count, self._index(n // count, n % count)) for n in stream]

    def batches(self, start: int = 0) -> Iterator[Batch]:
        """The batches of step `start` and after, without end; workers live until it is dropped.

        Rows of a sensor that a sample lacks are 0 in `images` and False in `alive`; `label` is all
        `IGNORE` for a sample without one, and None for a batch of such samples.

        Raises:
            RobustsegError: a sample cannot be read, has no sensor, or is not of its neighbors'
                size; a worker died.
        """
        began = time.perf_counter()
        if self.cache and self._varied.kept is None:
            self._varied.kept = self._read_all()
        for made in self._load(self._varied, _Schedule(self, start), _Collate(self.dataset)):
            self.waited_s += time.perf_counter() - began
            yield Batch(**made)
            began = time.perf_counter()

    def _index(self, epoch: int, place: int) -> int:
        if not self.shuffle:
            return place
        if epoch != self._epoch:
            rng = _rng(self.seed, _ORDER, epoch)
            self._epoch, self._order = epoch, rng.permutation(len(self.dataset))
        return int(self._order[place])

    def _load(self, samples: Any, schedule: Any, collate: Any) -> Iterator[Any]:
        forks = self.workers > 0 and "fork" in get_all_start_methods()
        made = DataLoader(
            samples,
            batch_sampler=schedule,
            num_workers=self.workers,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available() and isinstance(collate, _Collate),
            worker_init_fn=_alone,
            multiprocessing_context="fork" if forks else None,
            generator=torch.Generator(),  # the global generator is the training loop's
        )
        return _run(made)

    def _read_all(self) -> list[Sample]:
        """Every sample, as float16, read by all workers."""
        parts = [[index] for index in range(len(self.dataset))]
        return list(self._load(_Stored(self.dataset), parts, _first))


class _Schedule:
    """Keys of one step after another."""

    def __init__(self, loader: Loader, start: int) -> None:
        self._loader, self._start = loader, start

    def __iter__(self) -> Iterator[list[Key]]:
        step = self._start
        while True:
            yield self._loader.keys(step)
            step += 1


class _Failed(str):
    """Text of an error, on its way from a worker: an exception would arrive as a traceback."""


class _Varied:
    """The data set by `Key`, as the training step gets to see it."""

    def __init__(
        self,
        dataset: Dataset,
        seed: int,
        vary: AugmentConfig | None,
        damage: CorruptConfig | None,
        embeddings: Embeddings | None,
    ) -> None:
        self._dataset, self._seed, self._vary, self._damage = dataset, seed, vary, damage
        self._embeddings = embeddings
        self._rows = {} if embeddings is None else embeddings.rows()
        self.kept: list[Sample] | None = None

    def __getitem__(self, key: Key) -> Sample | _Failed:
        try:
            return self._make(key)
        except RobustsegError as error:
            return _Failed(error)

    def _make(self, key: Key) -> Sample:
        encodings = self._dataset.encodings
        rng = _rng(self._seed, _VARIATION, key.epoch, key.index)
        sample = (
            self._dataset[key.index] if self.kept is None else _as(np.float32, self.kept[key.index])
        )
        if not sample.images:
            raise RobustsegError(f"sample {sample.id!r} has no sensor at all; leave it out")
        if self._embeddings is not None:
            sample = self._embeddings.attached(sample, self._rows)
        if self._vary is not None:
            sample = augment(sample, rng, self._vary, encodings=encodings)
        if self._damage is not None:
            images, done = corrupt(sample.images, rng, self._damage, encodings=encodings)
            intact = {name: sample.images[name] for name in done}
            quality = {name: damage.quality for name, damage in done.items()}
            sample = replace(sample, images=images, quality=quality, intact=intact)
        return sample


class _Stored:
    """The data set as it is kept in memory."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset

    def __getitem__(self, index: int) -> Sample | _Failed:
        try:
            return _as(np.float16, self._dataset[index])
        except RobustsegError as error:
            return _Failed(error)


class _Collate:
    """Samples side by side. Plain containers, because these alone are pinned by DataLoader."""

    def __init__(self, dataset: Dataset) -> None:
        self._modalities = dataset.modalities
        self._channels = {
            name: channels_of(name, dataset.encodings.get(name, {})) for name in dataset.modalities
        }

    def __call__(self, made: Sequence[Sample | _Failed]) -> dict[str, Any] | _Failed:
        """The fields of a `Batch`, by name."""
        if failed := [sample for sample in made if isinstance(sample, _Failed)]:
            return failed[0]
        samples = [sample for sample in made if isinstance(sample, Sample)]
        sizes = {sample.id: next(iter(sample.images.values())).shape[-2:] for sample in samples}
        if len(set(sizes.values())) != 1:
            listed = ", ".join(f"{name} {h}x{w}" for name, (h, w) in sizes.items())
            return _Failed(
                f"a batch of samples of several sizes ({listed}); set data.size or augment.crop"
            )
        size = next(iter(sizes.values()))
        label = None
        if any(sample.label is not None for sample in samples):
            label = torch.full((len(samples), *size), IGNORE, dtype=torch.int64)
            for row, sample in enumerate(samples):
                if sample.label is not None:
                    label.numpy()[row] = sample.label
        quality = None
        if any(sample.quality for sample in samples):
            quality = torch.tensor(
                [[s.quality.get(name, 1.0) for name in self._modalities] for s in samples]
            )
        return {
            "images": {
                name: self._rows(name, [sample.images for sample in samples], size)
                for name in self._modalities
            },
            "alive": torch.tensor([[n in s.images for n in self._modalities] for s in samples]),
            "label": label,
            "quality": quality,
            "intact": {
                name: self._rows(name, [{**s.images, **s.intact} for s in samples], size)
                for name in self._modalities
                if any(name in sample.intact for sample in samples)
            },
            "embeddings": self._embeddings(samples),
            "text": _side_by_side([sample.text for sample in samples]),
        }

    def _embeddings(self, samples: Sequence[Sample]) -> torch.Tensor | None:
        """(B, M, D), zeros of a sensor that has none; None where nobody has any."""
        flat = _side_by_side([s.embeddings.get(n) for s in samples for n in self._modalities])
        return None if flat is None else flat.view(len(samples), len(self._modalities), -1)

    def _rows(
        self, name: str, images: Sequence[Mapping[str, NDArray[np.float32]]], size: tuple[int, ...]
    ) -> torch.Tensor:
        """(B, C, H, W) of one modality; zeros where a sample lacks it."""
        rows = torch.zeros(len(images), self._channels[name], *size)
        for row, there in enumerate(images):
            if name in there:
                rows.numpy()[row] = there[name]
        return rows


def _side_by_side(vectors: Sequence[NDArray[np.float32] | None]) -> torch.Tensor | None:
    """(n, D), zeros in place of None; None where all are."""
    width = next((len(vector) for vector in vectors if vector is not None), None)
    if width is None:
        return None
    rows = torch.zeros(len(vectors), width)
    for row, vector in enumerate(vectors):
        if vector is not None:
            rows.numpy()[row] = vector
    return rows


def _first(samples: list[Any]) -> Any:
    return samples[0]


def _as(kind: type[np.floating[Any]], sample: Sample) -> Sample:
    return replace(sample, images={k: np.asarray(v, kind) for k, v in sample.images.items()})


def _rng(seed: int, *place: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=place))


def _alone(worker: int) -> None:
    """One thread per worker: more would take the training step's, and OpenCV's do not survive a
    fork."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)


def _run(loader: DataLoader[Any]) -> Iterator[Any]:
    """What the workers make, or why they do not; they end as soon as this does."""
    source = iter(loader)
    try:
        while True:
            made, died = None, ""
            try:
                made = next(source)
            except StopIteration:
                return
            except RuntimeError as error:
                if "DataLoader worker" not in str(error):
                    raise
                died = str(error)
            if died:  # raised here, because a chained traceback would keep the other workers
                raise RobustsegError(
                    "a loading process was killed, most likely for memory: set fewer data.workers, "
                    f"a smaller batch, or more shared memory (docker run --shm-size) ({died})"
                )
            if isinstance(made, _Failed):
                raise RobustsegError(str(made))
            yield made
    finally:
        del source  # not left to the garbage collector, which waits 5 s for each worker
