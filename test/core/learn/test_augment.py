"""Whatever happens to a scene happens to all of its sensors, and to its label."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustseg_core.config import parse
from robustseg_core.datasets._base import Sample
from robustseg_core.errors import RobustsegError
from robustseg_core.learn.augment import STILL, AugmentConfig, Geometry, around, augment, draw
from robustseg_core.modalities.rgb import Rgb
from robustseg_core.types import IGNORE

MEAN, STD = (np.array(v, np.float32)[:, None, None] for v in Rgb.Encoding().model_dump().values())


def scene(height: int = 24, width: int = 36, seed: int = 0) -> Sample:
    """A sample of textured picture, sparse others and a label."""
    rng = np.random.default_rng(seed)
    rgb = (rng.random((3, height, width), np.float32) - MEAN) / STD
    sparse = rng.random((3, height, width), np.float32) * (rng.random((height, width)) < 0.2)
    label = rng.integers(0, 9, (height, width)).astype(np.uint8)
    return Sample("one", {"rgb": rgb, "depth": sparse + 1, "lidar": sparse}, label)


def mapped(height: int, width: int) -> Sample:
    """A sample whose every pixel says where it is (row + 1, column + 1; 0 is nowhere)."""
    rows, columns = np.mgrid[1 : height + 1, 1 : width + 1].astype(np.float32)
    image = np.stack([rows, columns, rows])
    label = ((np.arange(height * width) * 7) % 251).reshape(height, width).astype(np.uint8)
    return Sample("map", {"lidar": image, "event": image.copy(), "nir": image.copy()}, label)


@pytest.mark.slow
@given(
    st.tuples(st.integers(8, 40), st.integers(8, 40)),
    st.tuples(st.integers(4, 48), st.integers(4, 48)),
    st.floats(0.3, 2.5),
    st.integers(0, 1000),
)
def test_sensors_and_label_stay_aligned_whatever_is_drawn(
    size: tuple[int, int], crop: tuple[int, int], scale: float, seed: int
) -> None:
    before = mapped(*size)
    config = AugmentConfig(crop=crop, scale=(scale, scale))

    after = augment(before, np.random.default_rng(seed), config)

    lidar, event, nir = (after.images[name] for name in ("lidar", "event", "nir"))
    assert lidar.shape == (3, *crop) and after.label.shape == crop
    assert np.array_equal(lidar, event)
    scenery = lidar[0] > 0
    rows, columns = (lidar[axis][scenery].astype(int) - 1 for axis in (0, 1))
    assert np.array_equal(before.label[rows, columns], after.label[scenery])
    assert (after.label[~scenery] == IGNORE).all()
    factor = scale * min(crop[0] / size[0], crop[1] / size[1])
    reach = 1.01 + 0.5 / factor  # pixels of the source that half a pixel of the crop is away
    assert np.abs(nir - lidar)[:2, scenery].max(initial=0) <= reach
    assert scenery.any()


@given(st.integers(0, 100))
def test_a_scene_flipped_twice_is_the_scene(seed: int) -> None:
    config = STILL.model_copy(update={"flip": 1.0})
    rng = np.random.default_rng(seed)
    before = scene(seed=seed)

    once = augment(before, rng, config)
    twice = augment(once, rng, config)

    assert np.array_equal(once.label, before.label[:, ::-1])
    assert np.array_equal(twice.label, before.label)
    for name, image in before.images.items():
        assert np.array_equal(once.images[name], image[..., ::-1])
        assert np.array_equal(twice.images[name], image)


def test_without_dice_a_sample_is_itself() -> None:
    before = scene()
    after = augment(before, np.random.default_rng(1), STILL)
    assert np.array_equal(after.label, before.label)
    assert all(np.array_equal(after.images[name], before.images[name]) for name in before.images)


def test_the_same_dice_make_the_same_sample_and_others_another() -> None:
    config = AugmentConfig(crop=(16, 16), jitter=1, blur=1)
    one, same, other = (augment(scene(), np.random.default_rng(s), config) for s in (5, 5, 6))
    assert all(np.array_equal(one.images[name], same.images[name]) for name in one.images)
    assert not np.array_equal(one.images["rgb"], other.images["rgb"])


def test_what_is_given_stays_as_it_is() -> None:
    before, kept = scene(), scene()
    augment(before, np.random.default_rng(0), AugmentConfig(jitter=1, blur=1))
    assert all(np.array_equal(before.images[name], kept.images[name]) for name in kept.images)


def test_beyond_a_small_scene_there_is_black_nothing_and_no_label() -> None:
    config = STILL.model_copy(update={"scale": (0.5, 0.5)})
    after = augment(scene(), np.random.default_rng(3), config)
    beyond = after.label == IGNORE
    assert beyond.mean() == 0.75
    assert not after.images["lidar"][:, beyond].any()
    black = after.images["rgb"] * STD + MEAN
    assert np.abs(black[:, beyond]).max() < 1e-6
    assert not np.abs(black[:, ~beyond]).max(0).min() < 1e-6


def test_returns_are_never_mixed_with_the_nothing_beside_them() -> None:
    before = scene()
    config = AugmentConfig(crop=(40, 40), scale=(0.7, 1.9))
    for seed in range(10):
        after = augment(before, np.random.default_rng(seed), config)
        assert np.isin(after.images["lidar"], before.images["lidar"]).all()


def test_scale_counts_from_the_crop_so_a_small_crop_sees_the_whole_scene() -> None:
    config = AugmentConfig(crop=(256, 256), scale=(1, 1), flip=0)
    square = draw((1042, 1042), np.random.default_rng(0), config)
    assert square.scaled == (256, 256) and square.corner == (0, 0)
    wide = draw((540, 960), np.random.default_rng(0), config)
    assert wide.scaled == (144, 256) and -112 <= wide.corner[0] <= 0


def test_a_crop_lies_anywhere_and_scales_are_drawn_evenly() -> None:
    rng, config = np.random.default_rng(0), AugmentConfig(crop=(32, 32))
    drawn = [draw((64, 64), rng, config) for _ in range(2000)]
    factors = np.array([g.scaled[0] / 32 for g in drawn])
    assert factors.min() >= 0.5 and factors.max() <= 2 and abs(factors.mean() - 1.25) < 0.03
    assert abs(np.mean([g.flip for g in drawn]) - 0.5) < 0.04
    large = [g for g in drawn if g.scaled[0] == 48]
    assert min(g.corner[0] for g in large) <= 2 and max(g.corner[1] for g in large) >= 14


def test_the_camera_sees_other_light_and_the_others_do_not() -> None:
    before = scene()
    config = STILL.model_copy(update={"jitter": 1.0, "jitter_range": (0.5, 0.5)})
    after = augment(before, np.random.default_rng(0), config)
    old, new = (s.images["rgb"] * STD + MEAN for s in (before, after))
    assert new.min() >= -1e-6 and new.max() <= 1 + 1e-6
    gray = np.array([0.299, 0.587, 0.114], np.float32)[:, None, None]
    assert (new * gray).sum(0).mean() == pytest.approx((old * gray).sum(0).mean() / 2, rel=1e-4)
    # Half of the brightness, half of the contrast, and color beside gray once more halved.
    assert (new * gray).sum(0).std() == pytest.approx((old * gray).sum(0).std() / 4, rel=1e-3)
    assert np.ptp(new, axis=0).mean() == pytest.approx(np.ptp(old, axis=0).mean() / 8, rel=1e-3)
    assert np.array_equal(after.images["depth"], before.images["depth"])


def test_blur_takes_sharpness_and_keeps_brightness() -> None:
    before = scene()
    config = STILL.model_copy(update={"blur": 1.0})
    after = augment(before, np.random.default_rng(0), config)
    old, new = before.images["rgb"], after.images["rgb"]
    assert np.abs(np.diff(new)).mean() < 0.7 * np.abs(np.diff(old)).mean()
    assert np.abs(new.mean((1, 2)) - old.mean((1, 2))).max() < 0.05


def test_light_is_undone_and_redone_as_the_encoding_says() -> None:
    levels = scene().images["rgb"] * STD + MEAN
    config = STILL.model_copy(update={"jitter": 1.0})
    plain = {"rgb": {"mean": (0, 0, 0), "std": (1, 1, 1)}}
    usual = augment(
        Sample("a", {"rgb": (levels - MEAN) / STD}), np.random.default_rng(2), config
    ).images["rgb"]
    bare = augment(
        Sample("a", {"rgb": levels}), np.random.default_rng(2), config, encodings=plain
    ).images["rgb"]
    assert np.allclose(usual * STD + MEAN, bare, atol=1e-5)


def test_an_unlabelled_sample_stays_unlabelled_and_an_absent_sensor_absent() -> None:
    after = augment(
        Sample("x", {"lidar": scene().images["lidar"]}),
        np.random.default_rng(0),
        AugmentConfig(crop=(8, 8)),
    )
    assert after.label is None and list(after.images) == ["lidar"]
    assert after.images["lidar"].flags.c_contiguous


def test_nearest_pixels_are_those_whose_centers_are_nearest() -> None:
    geometry = Geometry((4, 4), (2, 8), (2, 8), (0, 0))
    array = np.arange(16).reshape(4, 4)
    assert geometry.pick(array, 0).tolist() == [
        [4, 4, 5, 5, 6, 6, 7, 7],
        [12, 12, 13, 13, 14, 14, 15, 15],
    ]


@given(
    st.tuples(st.integers(8, 40), st.integers(8, 40)),
    st.tuples(st.integers(4, 48), st.integers(4, 48)),
    st.floats(0.2, 1.5),
    st.integers(0, 1000),
)
def test_a_scene_that_shrinks_keeps_the_readings_of_a_sparse_sensor(
    size: tuple[int, int], crop: tuple[int, int], scale: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    where = mapped(*size).images["lidar"] * (rng.random(size) < 0.1)
    before = Sample("few", {"lidar": where, "event": where.copy()}, None)
    config = AugmentConfig(crop=crop, scale=(scale, scale), flip=0, sparse=("lidar",))

    after = augment(before, np.random.default_rng(seed), config)

    kept, picked = (after.images[name] for name in ("lidar", "event"))
    geometry = draw(size, np.random.default_rng(seed), config)
    expected = np.zeros(crop, bool)
    rows, columns = np.nonzero(where[0])
    factors = [Fraction(scaled, n) for scaled, n in zip(geometry.scaled, size, strict=True)]
    down = geometry.scaled[0] < size[0]
    for row, column in zip(rows, columns, strict=True):  # by hand: the pixel that a center is in
        at = [int((n + Fraction(1, 2)) * f) for n, f in zip((row, column), factors, strict=True)]
        inside = [n - corner for n, corner in zip(at, geometry.corner, strict=True)]
        if all(0 <= n < c for n, c in zip(inside, crop, strict=True)):
            expected[tuple(inside)] = True
            if down:
                assert kept[0][tuple(inside)] > 0
    if down:
        assert np.array_equal(kept[0] > 0, expected)
        lines, places = kept[0][expected].astype(int) - 1, kept[1][expected].astype(int) - 1
        assert where[0][lines, places].all()  # whole readings of this scene, never mixtures
        assert (kept[0] > 0).sum() >= (picked[0] > 0).sum()
    else:
        assert np.array_equal(kept, picked)


def test_sizes_that_differ_are_refused() -> None:
    images = {"rgb": np.zeros((3, 8, 8), np.float32), "lidar": np.zeros((3, 8, 9), np.float32)}
    with pytest.raises(RobustsegError, match=r"rgb 8x8, lidar 8x9; expected .* one size"):
        augment(Sample("odd", images), np.random.default_rng(0), STILL)


@pytest.mark.parametrize(
    ("tree", "text"),
    [
        ({"scale": (2, 1)}, "scale: 2 to 1 is no range"),
        ({"crop": (0, 4)}, "crop: crop is 0x4"),
        ({"flipp": 1}, "did you mean 'flip'"),
        ({"jitter": 2}, "jitter is 2"),
    ],
)
def test_a_bad_option_says_the_way_out(tree: dict, text: str) -> None:
    with pytest.raises(RobustsegError, match=text):
        parse(AugmentConfig, tree)


@pytest.mark.parametrize(
    "options",
    [{"crop": (100_000, 32)}, {"crop": (0, 32)}, {"scale": (1, 1e9)}, {"scale": (1, np.inf)}],
)
def test_a_picture_that_no_memory_holds_is_never_asked_for(options):
    with pytest.raises(RobustsegError, match=f"{next(iter(options))}"):
        parse(AugmentConfig, options)


def test_a_balanced_crop_shows_small_classes_as_often_as_large_ones() -> None:
    label = np.zeros((64, 96), np.uint8)
    label[50:52, 80:82] = 7
    label[:, :3] = 255
    config = AugmentConfig(crop=(32, 32), scale=(3, 3), flip=0)
    rng = np.random.default_rng(0)
    shown = []
    for _ in range(300):
        geometry = draw((64, 96), rng, config)
        moved = around(geometry, label, rng)
        assert (moved.scaled, moved.crop) == (geometry.scaled, geometry.crop)
        assert all(
            0 <= c <= s - k for c, s, k in zip(moved.corner, moved.scaled, moved.crop, strict=True)
        )
        shown.append((moved.pick(label, 255) == 7).any())
    assert 0.45 < np.mean(shown) < 0.75
    whole = draw((64, 96), rng, AugmentConfig(crop=(64, 96), scale=(1, 1)))
    assert around(whole, label, rng) == whole
    assert around(geometry, np.full_like(label, 255), rng) == geometry
