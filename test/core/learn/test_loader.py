"""The same batches, whoever loads them, wherever one begins."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import islice

import numpy as np
import pytest
import torch

from robustseg_core.datasets._base import Dataset, Sample
from robustseg_core.errors import RobustsegError
from robustseg_core.learn.augment import STILL, AugmentConfig
from robustseg_core.learn.corrupt import CorruptConfig
from robustseg_core.learn.loader import Key, Loader
from robustseg_core.models.classes import ClassSet
from robustseg_core.types import IGNORE, Batch, Fault, Rejection

pytestmark = pytest.mark.slow

SIZE = (16, 24)
VARIED = AugmentConfig(crop=(16, 16), jitter=0.5, blur=0.5)
BROKEN = CorruptConfig(p=0.5)


class Numbered(Dataset):
    """Samples that show their own number; every third has no LiDAR, every fourth no label."""

    known = ("rgb", "lidar")
    classes = ClassSet(("a", "b"), ((0, 0, 0), (255, 0, 0)))

    def __init__(self, count: int = 10, *, labelled: bool = True, broken: int = -1) -> None:
        self.count, self._labelled, self.broken = count, labelled, broken
        self.modalities, self.encodings = self.known, {}
        self.read: list[int] = []

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        self.read.append(index)
        if index == self.broken:
            raise Rejection(Fault.FORMAT, f"{index}.png is damaged; fetch it again")
        rng = np.random.default_rng(index)
        images = {name: rng.random((3, *SIZE), np.float32) for name in self.modalities}
        images["lidar"][0, :] = (index + 1) / 256
        if index % 3 == 0:
            del images["lidar"]
        label = rng.integers(0, 2, SIZE).astype(np.uint8)
        return Sample(str(index), images, label if self._labelled and index % 4 else None)

    def tags(self, index: int) -> Mapping[str, str]:
        return {"scene": "one"}


def some(loader: Loader, count: int, start: int = 0) -> list[Batch]:
    return list(islice(loader.batches(start), count))


def same(ours: Batch, theirs: Batch) -> bool:
    labels = (ours.label is None) == (theirs.label is None)
    if labels and ours.label is not None:
        labels = torch.equal(ours.label, theirs.label)
    return (
        labels
        and torch.equal(ours.alive, theirs.alive)
        and ours.images.keys() == theirs.images.keys()
        and all(torch.equal(ours.images[name], theirs.images[name]) for name in ours.images)
    )


def joined(parts: list[Batch]) -> Batch:
    """Batches side by side."""
    images = {name: torch.cat([p.images[name] for p in parts]) for name in parts[0].images}
    labels = [
        torch.full((len(p.alive), *p.images["rgb"].shape[2:]), IGNORE)
        if p.label is None
        else p.label
        for p in parts
    ]
    return Batch(images, torch.cat([p.alive for p in parts]), torch.cat(labels))


def test_a_batch_says_what_each_sample_has() -> None:
    (batch,) = some(Loader(Numbered(), batch=5, shuffle=False), 1)
    assert batch.images["rgb"].shape == batch.images["lidar"].shape == (5, 3, *SIZE)
    assert batch.images["rgb"].dtype == torch.float32 and batch.label.dtype == torch.int64
    assert batch.alive.tolist() == [[True, i % 3 != 0] for i in range(5)]
    assert batch.label.shape == (5, *SIZE)
    assert [bool((batch.label[i] == IGNORE).all()) for i in range(5)] == [
        True,
        False,
        False,
        False,
        True,
    ]
    whole = Numbered()[1]
    assert np.array_equal(batch.images["lidar"][1], whole.images["lidar"])
    assert np.array_equal(batch.label[1], whole.label)
    assert not batch.images["lidar"][0].any()


def test_an_unlabelled_batch_has_no_label() -> None:
    assert some(Loader(Numbered(labelled=False), batch=5), 1)[0].label is None


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("cache", [False, True])
def test_the_batches_do_not_depend_on_how_many_load_them(workers: int, cache: bool) -> None:
    alone, helped = (
        some(
            Loader(
                Numbered(), batch=3, augment=VARIED, corrupt=BROKEN, seed=4, workers=n, cache=cache
            ),
            7,
        )
        for n in (0, workers)
    )
    assert all(map(same, alone, helped))
    assert not same(alone[0], alone[3])


@pytest.mark.parametrize("start", [1, 3, 8])
def test_a_resumed_run_sees_what_the_uninterrupted_one_saw(start: int) -> None:
    options = {"batch": 3, "augment": VARIED, "corrupt": BROKEN, "seed": 9}
    through = some(Loader(Numbered(), **options), 11)
    resumed = some(Loader(Numbered(), **options), 11 - start, start)
    assert all(map(same, through[start:], resumed))


@pytest.mark.parametrize("count", [11, 3])
def test_two_processes_see_what_one_with_twice_the_batch_sees(count: int) -> None:
    options = {"augment": VARIED, "corrupt": BROKEN, "seed": 2}
    one = some(Loader(Numbered(count), batch=4, **options), 5)
    ranks = [
        some(Loader(Numbered(count), batch=2, rank=r, world=2, **options), 5) for r in range(2)
    ]
    for whole, *parts in zip(one, *ranks, strict=True):
        assert same(whole, joined(parts))


def test_an_epoch_holds_every_sample_once_and_the_next_in_another_order() -> None:
    loader = Loader(Numbered(12), batch=4, seed=1)
    assert len(loader) == 3
    epochs = [[key for step in range(3) for key in loader.keys(3 * e + step)] for e in range(3)]
    for number, keys in enumerate(epochs):
        assert sorted(keys) == [Key(number, index) for index in range(12)]
    assert len({tuple(k.index for k in keys) for keys in epochs}) == 3


def test_what_does_not_fill_a_batch_is_left_for_another_epoch() -> None:
    loader = Loader(Numbered(11), batch=2, world=2)
    assert len(loader) == 2
    seen = {key for step in range(2) for key in loader.keys(step)}
    assert len(seen) == 4 and {key.epoch for key in seen} == {0}
    ever = {key.index for step in range(40) for key in loader.keys(step)}
    assert ever == set(range(11))


def test_a_set_smaller_than_a_batch_goes_round_and_looks_different_each_time() -> None:
    loader = Loader(Numbered(3), batch=8, augment=VARIED)
    assert len(loader) == 1
    keys = loader.keys(0) + loader.keys(1) + loader.keys(2)
    assert keys == sorted(keys, key=lambda key: key.epoch)
    assert len(set(keys)) == 24 and {key.epoch for key in keys} == set(range(8))
    (batch,) = some(loader, 1)
    pictures = {image.numpy().tobytes() for image in batch.images["rgb"]}
    assert len(pictures) == 8


def test_seeds_differ_in_order_and_in_looks() -> None:
    one, other = (Loader(Numbered(50), batch=25, seed=seed, augment=VARIED) for seed in (0, 1))
    assert one.keys(0) != other.keys(0)
    straight = [
        some(Loader(Numbered(1), batch=1, shuffle=False, seed=s, augment=VARIED), 1)[0]
        for s in (0, 1)
    ]
    assert not same(*straight)


def test_loading_leaves_the_dice_of_training_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    np.random.seed(0)
    state = np.random.get_state()[1].copy()
    some(Loader(Numbered(), batch=2, augment=VARIED, corrupt=BROKEN), 3)
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], state)


def test_a_cached_set_is_read_once_and_hardly_differs() -> None:
    data = Numbered(6)
    loader = Loader(data, batch=3, cache=True, augment=STILL)
    cached = some(loader, 8) + some(loader, 4)
    assert sorted(data.read) == list(range(6))
    fresh = some(Loader(Numbered(6), batch=3, augment=STILL), 8)
    for ours, theirs in zip(cached, fresh, strict=False):
        assert torch.equal(ours.alive, theirs.alive)
        assert torch.allclose(ours.images["rgb"], theirs.images["rgb"], atol=1e-3)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("cache", [False, True])
def test_a_damaged_sample_is_reported_in_its_own_words(workers: int, cache: bool) -> None:
    loader = Loader(Numbered(broken=7), batch=2, workers=workers, cache=cache)
    with pytest.raises(RobustsegError) as caught:
        some(loader, 5)
    assert str(caught.value) == "7.png is damaged; fetch it again"


def test_a_sample_without_any_sensor_is_named() -> None:
    class Blind(Numbered):
        def __getitem__(self, index: int) -> Sample:
            return Sample("drive/17", {})

    with pytest.raises(RobustsegError, match="'drive/17' has no sensor at all"):
        some(Loader(Blind(), batch=1), 1)


def test_samples_of_several_sizes_need_a_crop() -> None:
    class Odd(Numbered):
        def __getitem__(self, index: int) -> Sample:
            return Sample(str(index), {"rgb": np.zeros((3, 8, 8 + index), np.float32)})

    with pytest.raises(RobustsegError, match=r"several sizes \(0 8x8, 1 8x9\)"):
        some(Loader(Odd(), batch=2, shuffle=False), 1)
    crop = AugmentConfig(crop=(8, 8))
    assert some(Loader(Odd(), batch=2, augment=crop), 1)[0].images["rgb"].shape == (2, 3, 8, 8)


def test_a_worker_that_is_killed_says_what_to_change() -> None:
    class Greedy(Numbered):
        def __getitem__(self, index: int) -> Sample:
            os.kill(os.getpid(), 9)
            raise AssertionError

    with pytest.raises(RobustsegError, match=r"a loading process was killed.*data\.workers"):
        some(Loader(Greedy(), batch=2, workers=1), 1)


def test_waiting_is_counted_and_the_training_step_is_not() -> None:
    loader = Loader(Numbered(), batch=2)
    source = loader.batches()
    assert loader.waited_s == 0
    next(source)
    once = loader.waited_s
    assert once > 0
    next(source)
    assert loader.waited_s > once


@pytest.mark.parametrize(
    "options", [{"batch": 0}, {"batch": 2, "workers": -1}, {"batch": 2, "rank": 2, "world": 2}]
)
def test_numbers_out_of_range_are_refused(options: dict) -> None:
    with pytest.raises(RobustsegError, match="expected a batch of 1 or more"):
        Loader(Numbered(), **options)
