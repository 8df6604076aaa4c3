"""Stories about names: a frame, a size or an encoding that is another one all of a sudden."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from robustseg_core.types import MS, SECOND, Fault, State
from support.drives import ALL, EPOCH, OPTICAL, drive, message, rows, segmenter
from support.makers import camera_info, compressed, image, transform

pytestmark = pytest.mark.slow

AHEAD = 3


def renamed(name: str, new: str, from_s: float = 1.5, seconds: float = AHEAD):
    """A drive in which one sensor calls its frame by another name from some time on."""
    for at, stream, sent in rows(seconds):
        if stream == name and at >= from_s * SECOND:
            yield at, stream, replace(sent, header=replace(sent.header, frame_id=new))
        else:
            yield at, stream, sent


def test_a_sensor_in_an_unknown_frame_is_refused_with_both_names_at_its_first_message():
    for name in ALL:
        made, said = segmenter(), {}

        def watch(now, name=name, made=made, said=said):
            health = made.health(now)[name]
            if health.rejected:
                said.setdefault(now, health)

        maps = list(drive(made, renamed(name, "elsewhere"), watch))
        at, health = next(iter(said.items()))
        assert at == round(1.5 * SECOND) and health.state is State.DEAD
        old = message(name, 0).header.frame_id
        assert f"from {old!r} to 'elsewhere'" in health.reason
        assert name not in maps[-1][1].used
        assert len(maps) >= 0.9 * 20 * AHEAD


def test_a_new_frame_is_accepted_as_soon_as_a_transform_places_it():
    made = segmenter()

    def watch(now):
        if now == 2 * SECOND:
            made.push_transforms(transform("camera", "elsewhere", quaternion=OPTICAL))

    maps = list(drive(made, renamed("lidar", "elsewhere", seconds=4), watch))
    assert maps[-1][1].used == ALL
    assert set(made.health(4 * SECOND)["lidar"].rejected) == {Fault.FRAME_ID}


def test_a_frame_that_was_known_all_along_raises_no_alarm():
    made = segmenter()
    made.push_transforms(transform("camera", "spare", quaternion=OPTICAL))
    maps = list(drive(made, renamed("lidar", "spare")))
    assert maps[-1][1].used == ALL and not made.health(AHEAD * SECOND)["lidar"].rejected


def test_a_camera_that_is_renamed_together_with_its_calibration_goes_on():
    made = segmenter()

    def watch(now):
        if now >= round(1.4 * SECOND):
            made.push_camera_info("rgb", camera_info(48, 64, fx=60.0, frame_id="new_camera"))

    list(drive(made, renamed("rgb", "new_camera"), watch))
    assert not made.health(AHEAD * SECOND)["rgb"].rejected


def test_a_camera_that_changes_its_resolution_is_told_once_and_goes_on():
    made, told = segmenter(), []

    def watch(now):
        if now >= SECOND:
            told.extend((now, f) for f in made.health(now)["rgb"].findings)

    def halved():
        for at, name, sent in rows(5):
            if name == "rgb" and at >= SECOND:
                pixels = np.frombuffer(sent.data, np.uint8).reshape(48, 64, 3)[::2, ::2]
                yield at, name, image(pixels, "rgb8", EPOCH + at)
            else:
                yield at, name, sent

    maps = list(drive(made, halved(), watch))
    assert {f.fault for _, f in told} == {Fault.RESOLUTION}
    assert told[0][1].text == "changed from 64x48 to 32x24"
    assert told[0][0] == SECOND and told[-1][0] <= 3 * SECOND
    assert maps[-1][1].used == ALL and len(maps) >= 0.9 * 20 * 5
    assert made.health(5 * SECOND)["rgb"].state is State.LIVE


def test_another_format_that_decodes_is_told_and_used():
    made = segmenter(("rgb",))
    for k in range(30):
        pixels = np.frombuffer(message("rgb", k).data, np.uint8).reshape(48, 64, 3)
        sent = compressed(pixels, EPOCH + k * 50 * MS, form="png" if k >= 20 else "jpeg")
        assert made.push("rgb", sent, k * 50 * MS) is None
    (finding,) = made.health(1500 * MS)["rgb"].findings
    assert finding.fault is Fault.FORMAT and "from 'jpeg' to 'png'" in finding.text


def test_after_a_reset_the_first_message_teaches_its_frame_anew():
    made = segmenter()
    list(drive(made, rows(1.0)))
    made.reset(SECOND)
    for at, name, sent in renamed("rgb", "elsewhere", from_s=0, seconds=0.2):
        assert made.push(name, sent, SECOND + at) is None
