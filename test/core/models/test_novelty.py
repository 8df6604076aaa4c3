"""Pictures that are like no other: what is said of them, and by which rule."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustseg_core.errors import RobustsegError
from robustseg_core.models import checkpoint
from robustseg_core.models.checkpoint import default_spec
from robustseg_core.models.novelty import (
    FEWEST,
    LIMIT,
    NEIGHBORS,
    Novelty,
    NoveltyMonitor,
    describe,
    described,
    novelty_of,
    references,
)
from robustseg_core.predictor import Predictor
from robustseg_core.types import MOST_REFERENCES, SECOND, Bundle, Frame, ModelSpec, References


def town(number: int, channels: int = 3, shape: tuple[int, int] = (32, 64)) -> np.ndarray:
    """(C, H, W): smooth sky above a rough road, each town a bit different."""
    rng = np.random.default_rng(number)
    rough = rng.normal(0, 1, (channels, *shape)).astype(np.float32)
    height = np.linspace(0, 1, shape[0], dtype=np.float32)[None, :, None]
    return (1 - height) * rng.uniform(0.8, 1.2) + height * rough * rng.uniform(0.4, 0.6)


def strange(number: int) -> np.ndarray:
    return np.flip(town(number), 1) * np.float32(3)


@pytest.fixture(scope="module")
def known() -> References:
    found = references(describe(town(n)) for n in range(60))
    assert found is not None
    return found


def spec_of(known: References) -> ModelSpec:
    return default_spec(references={"rgb": known})


def test_what_is_known_is_near_and_what_is_not_is_far(known):
    judge = Novelty(known)
    near = [judge(town(n)) for n in range(100, 130)]
    assert 0.8 < np.median(near) < 1.2
    assert min(judge(strange(n)) for n in range(100, 110)) > 2 * LIMIT


def test_is_the_local_outlier_factor_by_the_kth_neighbor(known):
    """Against the definition, written once more and by loops."""
    pictures = np.array(known.pictures) / 10
    asked = (describe(town(7777)) - np.array(known.mean)) / np.array(known.scale)

    def kth(point, others):
        gaps = sorted(
            (float(np.mean((point - other) ** 2)) ** 0.5, i) for i, other in enumerate(others)
        )
        return gaps[NEIGHBORS - 1][0], [i for _, i in gaps[:NEIGHBORS]]

    own, nearest = kth(asked, pictures)
    theirs = [kth(pictures[i], np.delete(pictures, i, 0))[0] for i in nearest]
    assert Novelty(known)(town(7777)) == pytest.approx(own / np.mean(theirs), rel=1e-9)


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_any_sensor_can_be_described(channels):
    found = describe(town(1, channels))
    assert found.shape == (5 * channels + 10 + 3 * (channels == 3),)
    assert np.isfinite(found).all()


@given(level=st.floats(-10, 10), channels=st.sampled_from([1, 3]))
def test_an_even_picture_is_described_by_numbers(level, channels):
    even = np.full((channels, 32, 32), level, np.float32)
    assert np.isfinite(describe(even)).all()


def test_too_few_pictures_say_nothing():
    few = [describe(town(n)) for n in range(2 * NEIGHBORS)]
    assert references(few) is None


def test_what_was_kept_comes_back_and_more_can_be_added(known):
    back = described(known)
    again = references(back)
    assert again is not None
    gap = np.array(back) - np.array(described(again))
    assert np.abs(gap / np.array(known.scale)).max() < 0.2  # they are rounded to tenths
    many = references([*back, *(describe(town(n)) for n in range(1000, 1000 + MOST_REFERENCES))])
    assert many is not None and len(many.pictures) == MOST_REFERENCES


def test_a_checkpoint_keeps_them(known, tmp_path):
    spec = spec_of(known)
    checkpoint.save(tmp_path / "a.safetensors", checkpoint.untrained(spec))
    assert checkpoint.spec_of(tmp_path / "a.safetensors").references == {"rgb": known}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"sonar": None}, "sonar"),
        ({"rgb": {"mean": [0.0], "scale": [1.0], "pictures": [[1], [1, 2]]}}, "one length"),
        ({"rgb": {"mean": [0.0], "scale": [0.0], "pictures": [[1], [1]]}}, "greater than 0"),
    ],
)
def test_references_that_do_not_fit_are_refused(known, wrong, said):
    given = {name: known if value is None else value for name, value in wrong.items()}
    fields = default_spec().model_dump() | {"references": given}
    with pytest.raises((RobustsegError, ValueError), match=said):
        ModelSpec.model_validate(fields)


def bundle(image: np.ndarray, at_s: float, quality: float = 1.0) -> Bundle:
    stamp_ns = round(at_s * SECOND)
    return Bundle(stamp_ns, {"rgb": Frame("rgb", stamp_ns, image, quality)})


def watched(known: References, pictures, every_s: float = 0.1, quality: float = 1.0):
    monitor = NoveltyMonitor(spec_of(known))
    for place, image in enumerate(pictures):
        monitor.look(bundle(image, place * every_s, quality))
    return monitor


def test_a_drive_through_what_is_known_says_nothing(known):
    monitor = watched(known, map(town, range(200, 300)))
    assert not monitor.remarks() and monitor.peaks["rgb"] < LIMIT


def test_a_drive_elsewhere_is_named_with_its_figure_and_the_way_out(known):
    monitor = watched(known, map(strange, range(200, 300)))
    (remark,) = monitor.remarks()
    assert remark.startswith("rgb looks unlike") and "robustseg adapt" in remark
    assert f"({monitor.peaks['rgb']:.1f} times" in remark


def test_three_pictures_are_enough_and_two_are_not(known):
    assert FEWEST == 3
    assert watched(known, map(strange, range(3)), every_s=0.01).remarks()
    assert not watched(known, map(strange, range(2))).remarks()


def test_one_strange_picture_is_no_strange_drive(known):
    drive = [town(n) for n in range(100)]
    drive[50] = strange(50)
    assert not watched(known, drive, every_s=1.0).remarks()


def test_what_was_new_is_not_forgotten(known):
    drive = [*map(strange, range(20)), *map(town, range(100))]
    assert watched(known, drive, every_s=1.0).remarks()


def test_a_sensor_that_ails_is_passed_over(known):
    assert not watched(known, map(strange, range(50)), quality=0.5).peaks


def test_stamps_that_jump_back_do_not_stop_the_looks(known):
    monitor = NoveltyMonitor(spec_of(known))
    for place in range(50):
        monitor.look(bundle(town(place), 1000 + place))
    for place in range(50):
        monitor.look(bundle(strange(place), 5 + place))
    assert monitor.remarks()


def test_without_references_nothing_is_said():
    monitor = NoveltyMonitor(default_spec())
    monitor.look(bundle(strange(1), 0))
    assert not monitor.peaks and not monitor.remarks() and novelty_of(default_spec()) == {}


def test_a_prediction_says_how_new_each_picture_is(known):
    class Engine:
        def __call__(self, bundle):
            blank = np.zeros(spec.size, np.uint8)
            return blank, blank

    spec = spec_of(known)
    image = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    made = Predictor(spec, Engine()).predict({"rgb": image})
    assert made.novelty["rgb"] == pytest.approx(
        Novelty(known)(made.bundle.frames["rgb"].array), rel=1e-9
    )
