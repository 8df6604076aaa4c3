"""A recording that carries its truth scores the masks made of it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from robustseg_core.bag import BagWriter
from robustseg_core.models.checkpoint import default_spec
from robustseg_core.recording.labels import Score, open_truth
from robustseg_core.recording.run import run_bags
from robustseg_core.types import IGNORE, MS, SECOND, Bundle, Calibration, LabelMap, Trust
from support.makers import image, scenes

pytestmark = pytest.mark.slow

START = 1_700_000_000 * SECOND
SCENES = scenes(20, seed=3)


def record(path, labels=None):
    """A camera at 30 Hz; `labels(k)` beside every second frame, 3 ms later in the log."""
    with BagWriter(path) as writer:
        for k in range(20):
            stamp = START + k * 33 * MS
            kind = "sensor_msgs/msg/Image"
            writer.write("/camera/image_raw", kind, image(SCENES[k], "rgb8", stamp), stamp)
            if labels is not None and k % 2 == 0:
                truth = image(labels(k), "mono8", stamp)
                writer.write("/camera/label", kind, truth, stamp + 3 * MS)
    return path


def test_the_truth_nearest_in_time_is_found_and_a_far_one_is_not(tmp_path):
    bag = record(tmp_path / "bag", lambda k: np.full((48, 64), k, np.uint8))
    with open_truth([bag]) as truth:
        assert truth.topic == "/camera/label"
        assert truth.at(START)[0, 0] == 0
        assert truth.at(START + 33 * MS) is None, "33 ms from both neighbours"
        assert truth.at(START + 60 * MS)[0, 0] == 2
        assert truth.at(START + 9 * SECOND) is None


def mask(ids, stamp, recording=0):
    return LabelMap(ids, ids, stamp, "c", (), {}, {}, {}, {}, Bundle(stamp, {}), recording)


def test_every_label_counts_once_and_without_a_mask_it_is_missed(tmp_path):
    right, wrong = np.full((48, 64), 1, np.uint8), np.full((48, 64), 0, np.uint8)
    bag = record(tmp_path / "bag", lambda k: right)  # ten labels, 66 ms apart
    with open_truth([bag, bag]) as truth:
        score = Score(truth, 3)
        for number in (0, 1):
            assert score.add(mask(wrong, START - 15 * MS, number)) == 0.0
            assert score.add(mask(right, START + 1 * MS, number)) == 1.0, "the nearer one counts"
            assert score.add(mask(wrong, START + 10 * MS, number)) == 0.0
            assert score.add(mask(right, START + 30 * MS, number)) is None
            assert score.add(mask(right[::2, ::2], START + 66 * MS, number)) == 1.0, "another size"
        score.finish()
    account = score.account()
    assert account["miou"] == pytest.approx(4 / 20), "16 of 20 are missed, and only class 1 occurs"
    assert (account["truth"]["labels"], account["truth"]["with_mask"]) == (20, 4)
    assert account["truth"]["classes_occurring"] == 1 and score.coverage == 0.2
    assert score.counts[:, 3].tolist() == [0, 16 * 48 * 64, 0], "no prediction, no false class"


def test_a_second_pass_of_the_same_bag_has_its_own_truth(tmp_path):
    bag = record(tmp_path / "bag", lambda k: np.full((48, 64), k, np.uint8))
    stamps = [START + k * 33 * MS for k in range(20)]
    with open_truth([bag] * 3) as truth:
        for number in range(3):
            found = [truth.at(stamp, number) for stamp in stamps]
            assert [ids[0, 0] for ids in found if ids is not None] == list(range(0, 20, 2))


def test_without_truth_nothing_is_scored(tmp_path):
    bag = record(tmp_path / "bag")
    with open_truth([bag]) as truth:
        assert truth.topic == "" and truth.at(START) is None
    result = run_bags([bag], out=tmp_path / "out")
    assert "miou" not in result and all("miou" not in row for row in result["masks"])


def test_a_mask_equal_to_the_truth_scores_one(tmp_path):
    plain = run_bags([record(tmp_path / "plain")], out=tmp_path / "first")
    masks = {}
    for file in (tmp_path / "first" / "masks").iterdir():
        masks[int(file.stem.split("_")[1])] = np.asarray(Image.open(file))
    nothing = np.full((48, 64), IGNORE, np.uint8)
    bag = record(tmp_path / "bag", lambda k: masks.get(START + k * 33 * MS, nothing))
    result = run_bags([bag], out=tmp_path / "second")
    assert [m["stamp_ns"] for m in result["masks"]] == [m["stamp_ns"] for m in plain["masks"]]
    scores = [m["miou"] for m in result["masks"] if "miou" in m]
    assert len(scores) >= 8 and set(scores) == {1.0}
    assert result["miou"] == 1.0
    page = (tmp_path / "second" / "report.html").read_text()
    assert "mIoU against the recording" in page
    assert json.loads((tmp_path / "second" / "result.json").read_text())["miou"] == pytest.approx(1)


def test_confidence_is_held_against_the_truth_of_each_label_once(tmp_path):
    right = np.full((48, 64), 1, np.uint8)
    bag = record(tmp_path / "bag", lambda k: right)
    least = ((0, 101),)
    trust = Trust(well=least, ailing=least)
    known = Calibration(alphas=(0.1,), subsets={}, overall=trust, data="noise")
    spec = default_spec(
        ("rgb",), classes=("a", "b"), palette=((0, 0, 0), (1, 1, 1)), calibration=known
    )
    sure = np.full((48, 64), 102, np.uint8)
    ids = right.copy()
    ids[:24] = 0  # half of it is wrong
    ids[40:] = IGNORE  # and this is not said
    sure[30:] = 51
    with open_truth([bag]) as truth:
        score = Score(truth, 2, spec)
        for k in range(10):
            far = LabelMap(1 - right, sure, START + k * 66 * MS + 3 * MS, "c", (), {}, {}, {}, {},
                           Bundle(0, {}))  # fmt: skip
            score.add(far)
            near = LabelMap(ids, sure, START + k * 66 * MS, "c", (), {}, {}, {}, {}, Bundle(0, {}))
            score.add(near)
        score.finish()
    said, account = score.confidence(), score.account()
    assert said["calibrated"] and said["note"] == "calibrated on noise"
    assert said["right"] == pytest.approx(16 / 40, abs=1e-4)
    assert said["mean"] == pytest.approx((30 * 0.4 + 10 * 0.2) / 40, abs=1e-4)
    assert said["promises"] == [{"alpha": 0.1, "kept": 0.75, "right": 0.2}]
    assert account["truth"]["position_prior"] == 1.0, "it always shows the same"
    assert Score(truth, 2).confidence() == {
        "calibrated": False,
        "note": "confidence is not calibrated",
    }
