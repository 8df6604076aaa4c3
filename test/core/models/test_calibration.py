"""What a checkpoint knows of its confidence, and what a robot may ask of it."""

from __future__ import annotations

import numpy as np
import pytest

from robustseg_core.engines import Engine
from robustseg_core.errors import RobustsegError
from robustseg_core.models import checkpoint
from robustseg_core.models.calibration import Promise, key, temperature, trust_of, unpromised
from robustseg_core.models.checkpoint import default_spec
from robustseg_core.predictor import Predictor
from robustseg_core.robot.config import RobotConfig
from robustseg_core.segmenter import Segmenter
from robustseg_core.types import IGNORE, SURE, Bundle, Calibration, Frame, ModelSpec, Trust
from support.makers import scenes

CLASSES = 19
SURE_OF_ROAD = ((100, *[SURE] * (CLASSES - 1)),)
ALL = ((0,) * CLASSES,)
KNOWN = Calibration(
    alphas=(0.1,),
    subsets={
        "rgb+lidar": Trust(temperature=2, slope=1, well=SURE_OF_ROAD, ailing=ALL),
        "rgb": Trust(temperature=3, well=SURE_OF_ROAD, ailing=ALL),
    },
    overall=Trust(temperature=5, well=ALL, ailing=ALL),
)


@pytest.fixture
def spec() -> ModelSpec:
    return default_spec(calibration=KNOWN)


def seen(**quality: float) -> Bundle:
    image = np.zeros((3, 2, 2), np.float32)
    return Bundle(0, {name: Frame(name, 0, image, q) for name, q in quality.items()})


def test_a_subset_has_its_own_temperature_and_quality_warms_it(spec):
    assert key(spec, ["lidar", "rgb"]) == "rgb+lidar"
    assert temperature(spec, {"lidar": 1, "rgb": 1}) == 2
    assert temperature(spec, {"lidar": 1, "rgb": 0}) == pytest.approx(2 * np.exp(0.5))
    assert temperature(spec, {"event": 0.2}) == 5, "a subset that nobody saw"
    assert temperature(default_spec(), {"rgb": 0.1}) == 1
    assert trust_of(default_spec(), ["rgb"]) is None


def test_pixels_below_the_promise_lose_their_label_and_others_keep_it(spec):
    ids = np.array([[0, 0], [1, IGNORE]], np.uint8)
    confidence = np.array([[99, 100], [255, 255]], np.uint8)
    kept = Promise(spec, 0.1).kept(ids, confidence, seen(rgb=1.0))
    assert kept.tolist() == [[IGNORE, 0], [IGNORE, IGNORE]]
    assert Promise(spec, 0.1).kept(ids, confidence, seen(rgb=0.5)).tolist() == ids.tolist()
    assert Promise(spec, 0).kept(ids, confidence, seen(rgb=1.0)) is ids
    assert ids[0, 0] == 0, "what the engine made stays"


def test_a_promise_that_nobody_gave_is_refused(spec):
    with pytest.raises(RobustsegError, match=r"alpha is 0.07, and the checkpoint promises 0.1;"):
        Promise(spec, 0.07)
    with pytest.raises(RobustsegError, match=r"confidence is not calibrated, so it promises noth"):
        Promise(default_spec(), 0.1)
    with pytest.raises(RobustsegError, match=r"not calibrated"):
        Segmenter(RobotConfig(streams={"rgb": {"topic": "/a"}}, alpha=0.1), default_spec(), nobody)
    with pytest.raises(RobustsegError, match=r"alpha"):
        RobotConfig(alpha=0.6)


def nobody(bundle: Bundle) -> tuple[np.ndarray, np.ndarray]:
    """An engine that finds road everywhere, and is 90 of 255 sure."""
    ids = np.zeros(default_spec().size, np.uint8)
    return ids, np.full_like(ids, 90)


def test_arrays_are_predicted_with_a_promise(spec):
    engine: Engine = nobody
    image = scenes(1, seed=3)[0]  # noise would be told as a camera that is ailing
    assert (Predictor(spec, engine).predict({"rgb": image}).ids == 0).all()
    assert (Predictor(spec, engine, alpha=0.1).predict({"rgb": image}).ids == IGNORE).all()


def test_a_checkpoint_keeps_it_and_one_without_it_is_read(tmp_path, spec):
    path = tmp_path / "a.safetensors"
    checkpoint.save(path, checkpoint.untrained(spec))
    assert checkpoint.spec_of(path).calibration == KNOWN == checkpoint.load(path).spec.calibration
    other = checkpoint.load(path, size=(64, 96)).spec
    assert other == spec.model_copy(
        update={"size": (64, 96), "calibration": unpromised(KNOWN), "references": {}}
    ), "temperatures stay; promises and known pictures go"
    with pytest.raises(RobustsegError, match="promises nothing"):
        Promise(other, KNOWN.alphas[0])
    words = spec.model_dump_json(exclude={"calibration"})
    assert ModelSpec.model_validate_json(words).calibration is None, "of an earlier version"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"subsets": {"lidar+rgb": KNOWN.overall}}, r"has a subset 'lidar\+rgb'"),
        ({"subsets": {"radar": KNOWN.overall}}, "has a subset 'radar'"),
        ({"alphas": (0.1, 0.2)}, r"thresholds of \[19\]; expected 2 rows of 19"),
        ({"alphas": (0.2, 0.1)}, "ascending"),
        ({"overall": {"temperature": 0}}, "temperature"),
        ({"overall": {"well": [[300]]}}, "256"),
    ],
    ids=["order", "stranger", "rows", "ascending", "cold", "level"],
)
def test_a_calibration_of_another_network_is_refused(change, text):
    with pytest.raises(RobustsegError, match=text):
        default_spec(calibration={**KNOWN.model_dump(), **change})
