"""Real recordings, opened: counts, and which topic is which sensor."""

from __future__ import annotations

import pytest

from robustseg_core.bag import Bag
from robustseg_core.recording.survey import survey

pytestmark = pytest.mark.slow

GUESSES = {
    "collage_four_sensors": {
        "rgb": ("/camera/color/image_raw/compressed", 60),
        "depth": ("/camera/aligned_depth_to_color/image_raw", 20),
        "event": ("/event_camera/events", 498),
        "lidar": ("/velodyne_points", 9),
    },
    "rgbd_60frames": {
        "rgb": ("/camera/color/image_raw/compressed", 60),
        "depth": ("/camera/aligned_depth_to_color/image_raw", 20),
    },
    "rellis3d_frame104": {
        "rgb": ("/pylon_camera_node/image_color/compressed", 1),
        "lidar": ("/os1_cloud_node/points", 1),
    },
    "kitti_object_3frames": {
        "rgb": ("/kitti/camera_color_left/image_rect/compressed", 3),
        "lidar": ("/kitti/velo/pointcloud", 3),
    },
    "events_evt3_640x480": {"event": ("/event_camera/events", 517)},
    "camera_old_schema": {"rgb": ("/camera/image_raw", 2)},
}


@pytest.mark.parametrize("name", GUESSES)
def test_the_sensors_of_a_real_recording_are_guessed_right(realdata, name):
    with Bag(realdata / name) as bag:
        found = survey(bag)
    assert {m: (t.topic, t.count) for m, t in found.modalities.items()} == GUESSES[name]
    assert sum(topic.count for topic in found.topics) == bag_count(realdata / name)
    assert [topic.problem for topic in found.topics] == [""] * len(found.topics)


def bag_count(path) -> int:
    with Bag(path) as bag:
        return bag.message_count


def test_the_four_sensor_bag_tells_rates_sizes_and_calibration(realdata):
    with Bag(realdata / "collage_four_sensors") as bag:
        found = survey(bag).modalities
    assert [round(found[m].rate_hz, 1) for m in found] == [30.0, 10.0, 249.5, 5.0]
    assert found["depth"].encoding == "16UC1"
    assert found["lidar"].points == 121_618
    assert found["depth"].camera_info == found["rgb"].camera_info == "/camera/color/camera_info"
    assert (found["event"].width, found["event"].height) == (640, 480)


def test_every_header_that_is_peeked_is_the_header_of_the_message(realdata):
    with Bag([realdata / name for name in GUESSES]) as bag:
        headers = 0
        for recorded in bag.messages():
            message = recorded.message()
            if header := recorded.header():
                stamp = message.header.stamp
                assert header == (stamp.sec * 10**9 + stamp.nanosec, message.header.frame_id)
                headers += 1
        assert headers == bag.message_count - 5  # all but tf_static


def test_a_split_recording_with_twelve_parts_missing_plays_the_thirteenth(realdata):
    with Bag(realdata / "camera_old_schema") as bag:
        assert [m.message().encoding for m in bag.messages()] == ["rgb8", "rgb8"]
        assert bag.topics[0].type == "sensor_msgs/msg/Image"
        assert bag.notices == [
            "camera_old_schema: 12 of 13 files are missing (soccer_goal_0.mcap ... "
            "soccer_goal_11.mcap)"
        ]


def test_a_real_recording_that_lost_its_end_plays_up_to_there(realdata, tmp_path):
    source = realdata / "collage_four_sensors" / "collage_four_sensors.mcap"
    cut = tmp_path / "cut.mcap"
    with source.open("rb") as file:
        cut.write_bytes(file.read(source.stat().st_size // 2))
    with Bag(source) as whole, Bag(cut) as half:
        expected = [(m.topic, m.time_ns, len(m.raw)) for m in whole.messages()]
        seen = [(m.topic, m.time_ns, len(m.raw)) for m in half.messages()]
        assert "ends early, at byte" in half.notices[0]
    assert 250 < len(seen) < 400
    assert seen == expected[: len(seen)]
