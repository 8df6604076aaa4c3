"""Faults done to a real recording, replayed, and found with the right reason."""

from __future__ import annotations

import pytest

from robustseg_core import config
from robustseg_core.bag import Bag
from robustseg_core.engines.eager import EagerEngine, pick_device
from robustseg_core.faults import parse_fault
from robustseg_core.models import checkpoint
from robustseg_core.recording.inject import FaultyBag, guessed_topics
from robustseg_core.recording.replay import replay
from robustseg_core.recording.survey import survey
from robustseg_core.robot.config import RobotConfig
from robustseg_core.segmenter import Segmenter
from robustseg_core.types import SECOND, Fault

START = 1_700_000_000 * SECOND
ALL = ("rgb", "depth", "event", "lidar")
MODEL = checkpoint.untrained(checkpoint.default_spec(size=(64, 96)))
ENGINE = EagerEngine(MODEL, pick_device("cpu"))


def since_s(label_map) -> float:
    return (label_map.stamp_ns - START) / SECOND


def replayed(folder, *texts):
    """Label maps from 0.8 s until the last LiDAR scan is old, and the final opinion of each."""
    with Bag(folder / "collage_four_sensors") as bag:
        tree = config.read_yaml(survey(bag).robot_yaml(), source="guessed")
        segmenter = Segmenter(config.parse(RobotConfig, tree), ENGINE.spec, ENGINE)
        specs = [parse_fault(text) for text in texts]
        disturbed = FaultyBag(bag, specs, seed=1, topics=guessed_topics(bag))
        maps = [m for m in replay(disturbed, segmenter) if 0.8 <= since_s(m) < 1.75]
        assert not disturbed.injector.refused
        return maps, segmenter.health(bag.start_ns + 2 * SECOND)


@pytest.mark.parametrize(
    "text, reason",
    [
        ("rgb:stuck@0.8", "stuck"),
        ("rgb:black@0.8", "black"),
        ("rgb:offset@0.8", "offset"),
        ("depth:invalid_depth@0.8", "invalid_depth"),
        ("lidar:off@0.8", "silent"),
        ("lidar:frame_id@0.8", "frame_id"),
        ("event:undecodable@0.8", "undecodable"),
        ("rgb:garbage@0.8", "format"),
        ("depth:garbage@0.8", "noisy"),
        ("lidar:garbage@0.8", "undecodable"),
        ("event:encoding@0.8", "undecodable"),
        ("rgb:frame_id@0.8", "frame_id"),
    ],
)
def test_a_sensor_that_breaks_in_a_real_drive_is_left_out_for_the_right_reason(
    realdata, text, reason
):
    name = text.partition(":")[0]
    maps, health = replayed(realdata, text)
    assert len(maps) >= 0.9 * 30 * 0.95
    last = maps[-1]
    assert name not in last.used and last.reasons[name][0].fault is Fault(reason)
    assert set(ALL) - {name} <= set(last.used)
    assert not any(health[other].rejected for other in ALL if other != name)


def test_a_covered_real_camera_is_used_with_doubt(realdata):
    maps, health = replayed(realdata, "rgb:covered(share=0.7)@0.8")
    assert "rgb" in maps[-1].used and health["rgb"].score < 0.8
    assert [f.fault.value for f in health["rgb"].findings] == ["covered"]


@pytest.mark.parametrize(
    "text, fault",
    [
        ("rgb:covered(share=0.35)", "covered"),
        ("rgb:blurred", "blurred"),
        ("rgb:gaussian_noise", "noisy"),
        ("rgb:salt_pepper", "noisy"),
        ("event:hot_pixels", "hot_pixels"),
        ("event:truncated", "format"),
        ("event:sequence_gap", "sequence_gap"),
    ],
)
def test_a_real_sensor_that_sees_badly_is_doubted_for_the_right_reason(realdata, text, fault):
    name = text.partition(":")[0]
    maps, health = replayed(realdata, f"{text}@0.8")
    assert maps[-1].used == ALL, "doubted, not left out"
    assert {f.fault.value for f in health[name].findings} == {fault}
    others = [health[other] for other in ALL if other != name]
    assert not any(h.rejected or h.findings for h in others)


def test_a_clean_real_drive_raises_no_alarm(realdata):
    maps, health = replayed(realdata)
    assert maps[-1].used == ALL
    assert not any(h.rejected or h.findings for h in health.values())


def test_two_broken_sensors_do_not_stop_the_other_two(realdata):
    maps, _ = replayed(realdata, "rgb:black@0.8", "event:undecodable@0.8")
    assert maps[-1].used == ("depth", "lidar")
    assert len(maps) >= 0.9 * 10 * 0.95, "at the rate of the next reference: depth, 10 Hz"


def test_noise_that_a_network_must_live_with_leaves_nobody_out(realdata):
    texts = ["rgb:gaussian_noise(sigma=10)", "depth:holes", "lidar:jitter", "event:hot_pixels"]
    maps, health = replayed(realdata, *(f"{text}@0.8" for text in texts))
    assert maps[-1].used == ALL and not any(h.rejected for h in health.values())
