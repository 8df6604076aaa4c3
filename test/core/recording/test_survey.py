"""Guessing a robot from its bag: which topic is which sensor, how fast, and with what gaps."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml

from robustseg_core.bag import Bag, BagWriter
from robustseg_core.bag.typestore import EVENT_PACKET
from robustseg_core.config import load, read_yaml
from robustseg_core.output import topics as outputs
from robustseg_core.recording.guess import (
    Candidate,
    camera_info_of,
    modality_of,
    rank,
    several,
    words,
)
from robustseg_core.recording.survey import Survey, survey
from robustseg_core.robot.config import RobotConfig
from robustseg_core.types import MS, SECOND
from support import rigs
from support.label_maps import UNSURE
from support.makers import camera_info, compressed, events, image, make, transform, xyz

IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
CLOUD, INFO = "sensor_msgs/msg/PointCloud2", "sensor_msgs/msg/CameraInfo"
START = 100 * SECOND


@pytest.fixture(scope="module")
def drive(tmp_path_factory) -> Survey:
    """2 s of a robot with two cameras, depth, events, a LiDAR with a dropout, truth and tf."""
    rgb = np.zeros((48, 64, 3), np.uint8)
    depth = np.full((48, 64), 1000, np.uint16)
    points = np.ones((50, 3))
    path = tmp_path_factory.mktemp("survey") / "drive"
    with BagWriter(path) as writer:
        writer.write("/tf_static", "tf2_msgs/msg/TFMessage", transform("a", "b"), START)
        for number in range(60):
            seen = START + round(number * SECOND / 30)
            heard = seen + (number % 3) * 9 * MS  # the network jitters, the sensor does not
            writer.write(
                "/cam/color/image_raw/compressed", COMPRESSED, compressed(rgb, seen), heard
            )
            writer.write("/cam/color/camera_info", INFO, camera_info(48, 64), heard)
            writer.write(
                "/cam/infra1/image_rect_raw", IMAGE, image(rgb[..., 0], "mono8", seen), heard
            )
            if number % 3 == 0:
                picture = image(depth, "16UC1", seen, "camera")
                writer.write("/cam/aligned_depth_to_color/image_raw", IMAGE, picture, heard)
                label = image(rgb[..., 0], "mono8", seen)
                writer.write("/truth/label_mask", IMAGE, label, heard)
                writer.write(
                    "/cam/depth/points", CLOUD, xyz(np.ones((900, 3)), stamp_ns=seen), heard
                )
            if number % 3 == 0 and not 15 <= number < 33:
                writer.write("/ouster/points", CLOUD, xyz(points, stamp_ns=seen), heard)
            writer.write(
                "/event_camera/events", EVENT_PACKET, events(np.zeros(0, np.uint16), 0), heard
            )
    with Bag(path) as bag:
        return survey(bag)


def by_name(found: Survey) -> dict:
    return {topic.topic: topic for topic in found.topics}


def test_each_sensor_is_found_among_its_look_alikes(drive):
    assert {name: topic.topic for name, topic in drive.modalities.items()} == {
        "rgb": "/cam/color/image_raw/compressed",
        "depth": "/cam/aligned_depth_to_color/image_raw",
        "event": "/event_camera/events",
        "lidar": "/ouster/points",
    }
    topics = by_name(drive)
    assert topics["/cam/infra1/image_rect_raw"].alternative_for == "rgb"
    assert topics["/cam/depth/points"].alternative_for == "lidar"
    truth = topics["/truth/label_mask"]
    assert (truth.modality, truth.alternative_for, truth.truth) == (None, None, True)
    assert topics["/tf_static"].modality is None
    assert topics["/cam/color/camera_info"].modality is None


def test_rates_are_those_of_the_sensor_and_not_of_the_network(drive):
    topics = by_name(drive)
    camera = topics["/cam/color/image_raw/compressed"]
    assert camera.rate_hz == pytest.approx(30, rel=1e-6)
    assert (camera.clock, camera.gaps, camera.width, camera.height) == ("header", 0, 64, 48)
    assert topics["/event_camera/events"].clock == "log"  # all its stamps are zero
    assert topics["/tf_static"].rate_hz is None


def test_a_dropout_is_a_gap_and_does_not_lower_the_rate(drive):
    lidar = by_name(drive)["/ouster/points"]
    assert lidar.rate_hz == pytest.approx(10, rel=1e-6)
    assert lidar.largest_gap_ms == pytest.approx(700, abs=1e-3)
    assert (lidar.gaps, lidar.count, lidar.points) == (1, 14, 50)


def test_each_camera_finds_its_calibration(drive):
    topics = by_name(drive)
    # by namespace, and by frame and size
    assert topics["/cam/color/image_raw/compressed"].camera_info == "/cam/color/camera_info"
    aligned = topics["/cam/aligned_depth_to_color/image_raw"]
    assert aligned.camera_info == "/cam/color/camera_info"
    assert topics["/ouster/points"].camera_info == ""


def test_the_survey_is_json_for_scripts(drive):
    tree = json.loads(json.dumps(drive.to_json(), allow_nan=False))
    assert tree["duration_s"] == pytest.approx(59 / 30 + 0.018, abs=1e-3)
    assert tree["notices"] == []
    lidar = next(t for t in tree["topics"] if t["modality"] == "lidar")
    assert (lidar["topic"], lidar["type"], lidar["count"]) == ("/ouster/points", CLOUD, 14)
    assert lidar["rate_hz"] == pytest.approx(10)


def test_the_guessed_robot_yaml_says_the_same_as_the_guess(drive):
    tree = read_yaml(drive.robot_yaml(), source="guess")
    assert tree["streams"] == {
        "rgb": {
            "topic": "/cam/color/image_raw/compressed",
            "camera_info": "/cam/color/camera_info",
            "rate_hz": 30.0,
        },
        "depth": {
            "topic": "/cam/aligned_depth_to_color/image_raw",
            "camera_info": "/cam/color/camera_info",
            "rate_hz": 10.0,
        },
        "event": {"topic": "/event_camera/events", "rate_hz": 29.7},
        "lidar": {"topic": "/ouster/points", "rate_hz": 10.0},
    }
    assert "# or: /cam/infra1/image_rect_raw" in drive.robot_yaml()


def test_the_guessed_robot_yaml_is_a_robot_configuration(drive, tmp_path):
    (tmp_path / "robot.yaml").write_text(drive.robot_yaml())
    assert load(RobotConfig, tmp_path / "robot.yaml") == drive.robot()


def test_a_bag_without_any_sensor_guesses_no_robot(tmp_path):
    text = make("std_msgs/msg/String", data="hello")
    with BagWriter(tmp_path / "drive") as writer:
        writer.write("/chatter", "std_msgs/msg/String", text, START)
    with Bag(tmp_path / "drive") as bag:
        found = survey(bag)
    assert found.modalities == {}
    assert yaml.safe_load(found.robot_yaml()) == {"/**": {"ros__parameters": {"streams": {}}}}
    assert found.robot() == RobotConfig()


def test_a_topic_that_never_decodes_is_no_sensor(tmp_path):
    broken = compressed(np.zeros((8, 8, 3), np.uint8), START)
    broken.format = "jpeg"
    with BagWriter(tmp_path / "drive") as writer:
        for number in range(3):
            cloud = xyz(np.ones((4, 3)), stamp_ns=START + number)
            writer.write("/velodyne_points", CLOUD, cloud, START + number)
    path = tmp_path / "drive" / "drive.mcap"
    content = path.read_bytes()
    path.write_bytes(content.replace(b"\0\1\0\0" + b"\x64\0\0\0", b"\x09\x09\0\0" + b"\x64\0\0\0"))
    with Bag(path) as bag:
        (topic,) = survey(bag).topics
    assert (topic.count, topic.modality) == (3, None)
    assert "CDR encapsulation" in topic.problem


@pytest.mark.parametrize(
    ("candidate", "modality"),
    [
        (Candidate("/front/image_raw", IMAGE, 1, "bgr8"), "rgb"),
        (Candidate("/zed/depth/depth_registered", IMAGE, 1, "32FC1"), "depth"),
        (Candidate("/sensor", IMAGE, 1, "16UC1"), "depth"),
        (Candidate("/flir/thermal/image", IMAGE, 1, "16UC1"), "rgb"),
        (Candidate("/cam/image/compressedDepth", COMPRESSED, 1, "16UC1; compressedDepth"), "depth"),
        (Candidate("/segmentation/overlay", IMAGE, 1, "rgb8"), None),
        (Candidate("/robustseg/label_mask", IMAGE, 1, "mono8"), None),
        (Candidate("/dvs", EVENT_PACKET, 1), "event"),
        (Candidate("/dvs/events", "dvs_msgs/msg/EventArray", 1), "event"),
        (Candidate("/points", CLOUD, 1), "lidar"),
        (Candidate("/tf", "tf2_msgs/msg/TFMessage", 1), None),
    ],
)
def test_a_topic_is_taken_for_what_it_is(candidate, modality):
    assert modality_of(candidate) == modality


@pytest.mark.parametrize(
    "likely_first",
    [
        (
            Candidate("/os1_cloud_node/points", CLOUD, 1, points=131072),
            Candidate("/velodyne_points", CLOUD, 1, points=37334),
            Candidate("/camera/depth/points", CLOUD, 99, points=300000),
        ),
        (Candidate("/points", CLOUD, 1), Candidate("/global_map/cloud", CLOUD, 1, points=10**7)),
        (Candidate("/cam/rgb/image", IMAGE, 1, "rgb8"), Candidate("/cam/mono/image", IMAGE, 9)),
        (Candidate("/stereo/left/image", IMAGE, 1), Candidate("/stereo/right/image", IMAGE, 1)),
        (Candidate("/cam/image", IMAGE, 1), Candidate("/cam/image/compressed", COMPRESSED, 1)),
        (Candidate("/z/aligned_depth", IMAGE, 1), Candidate("/a/depth", IMAGE, 1)),
        (Candidate("/z/depth", IMAGE, 1, "16UC1"), Candidate("/a/disparity", IMAGE, 1, "32FC1")),
    ],
)
def test_of_two_likely_topics_the_likelier_comes_first(likely_first):
    (names,) = rank(reversed(likely_first)).values()
    assert names == [candidate.topic for candidate in likely_first]


@pytest.mark.parametrize(
    ("topic", "info"),
    [
        ("/camera/color/image_raw/compressed", "/camera/color/camera_info"),
        ("/camera/color/image_raw", "/camera/color/camera_info"),
        ("/image", "/camera_info"),
        ("/rig/left/image", "/rig/camera_info"),
        ("/camera/depth/image", ""),
    ],
)
def test_the_calibration_beside_an_image_is_found(topic, info):
    infos = ["/camera/color/camera_info", "/rig/camera_info"]
    assert camera_info_of(topic, [*infos, "/camera_info"] if topic == "/image" else infos) == info


def test_names_are_read_as_words():
    assert words("/os1_cloudNode/points2") == "os cloud node points"


def test_what_the_node_says_is_no_sensor_whatever_its_name(monkeypatch):
    """A new output topic, in a recording of ours: the camera is the camera."""
    ours = [topic for topic in outputs.OUTPUTS if topic.make and topic.type == IMAGE]
    assert len(ours) >= 3
    for output in [*ours, UNSURE]:
        for topic in (f"/robustseg/{output.name}", f"/front/robustseg/{output.name}"):
            heard = [Candidate(topic, kind, 9, "rgb8") for kind in (IMAGE, COMPRESSED)]
            if output is UNSURE:
                assert [modality_of(found) for found in heard] == ["rgb", "rgb"], "not ours yet"
                continue
            assert [modality_of(found) for found in heard] == [None, None]
    monkeypatch.setattr(outputs, "OUTPUTS", (*outputs.OUTPUTS, UNSURE))
    camera = Candidate("/cam/unsure", IMAGE, 1, "rgb8")
    ranked = rank([Candidate("/robustseg/unsure", IMAGE, 9, "rgb8"), camera])
    assert ranked == {"rgb": ["/cam/unsure"]}


def test_six_cameras_of_which_two_share_a_frame_are_told_in_one_sentence(tmp_path):
    pixels = np.zeros((48, 64, 3), np.uint8)
    names = ("front", "front_left", "front_right", "back", "back_left", "back_right")
    with BagWriter(tmp_path / "bag") as writer:
        for k, name in enumerate(names):
            frame = "camera" if name in ("front", "back") else f"{name}_optical"
            picture = image(pixels, "rgb8", START, frame)
            writer.write(f"/{name}/image_raw", picture.__msgtype__, picture, START)
            for where, scale in ((name, 1), (f"{name}/half", 2)):
                info = camera_info(48 // scale, 64 // scale, fx=(60 + k) / scale, frame_id=frame)
                writer.write(f"/{where}/camera_info", info.__msgtype__, info, START)
    with Bag(tmp_path / "bag") as bag:
        found = survey(bag)
    assert found.notices == (
        "/back/camera_info and /front/camera_info and /front/half/camera_info are of different "
        "cameras, and all in the frame 'camera'; let each driver name its own optical frame, or "
        "LiDAR and depth land in the wrong picture",
    )
    assert len([t for t in found.topics if t.alternative_for == "rgb"]) == 5
    assert found.modalities["rgb"].topic in {f"/{name}/image_raw" for name in names}


SIX = ("FRONT", "FRONT_LEFT", "FRONT_RIGHT", "BACK", "BACK_LEFT", "BACK_RIGHT")


def guess_of(topics: dict[str, str], frames: dict[str, str] | None = None) -> dict[str, str]:
    """stream -> topic of topics of these types, in frames of their own unless they are given."""
    ranked = rank(Candidate(topic, kind, 10) for topic, kind in topics.items())
    own = {topic: topic for topic in topics}
    found = several(ranked, own if frames is None else frames)
    return {stream: topic for topic, stream in found.items()}


def test_cameras_called_by_their_sides_are_several() -> None:
    topics = {f"/CAM_{side}/image_rect_compressed": COMPRESSED for side in SIX}
    found = guess_of({**topics, "/LIDAR_TOP": CLOUD})
    assert found == {
        **{f"rgb.{side.lower()}": f"/CAM_{side}/image_rect_compressed" for side in SIX},
        "lidar": "/LIDAR_TOP",
    }
    assert list(found)[:2] == ["rgb.front", "rgb.front_left"]


def test_numbered_cameras_and_lidars_by_their_places_are_several() -> None:
    topics = {f"/sensing/camera/camera{n}/image_raw": IMAGE for n in range(5)}
    topics |= {f"/sensing/lidar/{side}/pointcloud_raw": CLOUD for side in ("top", "left", "right")}
    topics["/sensing/camera/traffic_light/image_raw"] = IMAGE
    assert guess_of(topics) == {
        **{f"rgb.camera{n}": f"/sensing/camera/camera{n}/image_raw" for n in range(5)},
        **{f"lidar.{s}": f"/sensing/lidar/{s}/pointcloud_raw" for s in ("top", "left", "right")},
    }


def test_depth_joins_the_camera_that_is_called_as_it_is() -> None:
    topics = {
        "/camera_front/color/image_raw": IMAGE,
        "/camera_rear/color/image_raw": IMAGE,
        "/camera_rear/depth/image_rect_raw": IMAGE,
        "/other/depth/image_rect_raw": IMAGE,
    }
    assert guess_of(topics) == {
        "rgb.front": "/camera_front/color/image_raw",
        "rgb.rear": "/camera_rear/color/image_raw",
        "depth.rear": "/camera_rear/depth/image_rect_raw",
    }


@pytest.mark.parametrize(
    "topics",
    [
        ["/left/image_raw", "/right/image_raw"],
        ["/stereo/front_left/image", "/stereo/front_right/image"],
        ["/cam0/image_raw", "/cam1/image_raw"],
        ["/camera/color/image_raw", "/camera/color/image_raw/compressed"],
        ["/camera/image_raw"],
    ],
)
def test_a_stereo_pair_is_one_camera_and_so_is_a_picture_in_two_forms(topics) -> None:
    kinds = {name: COMPRESSED if name.endswith("compressed") else IMAGE for name in topics}
    assert guess_of(kinds) == {}


def test_pictures_that_share_a_frame_are_of_one_camera() -> None:
    topics = {"/front/image_raw": IMAGE, "/rear/image_raw": IMAGE}
    assert guess_of(topics) and not guess_of(topics, dict.fromkeys(topics, "camera"))


def test_the_guess_of_several_cameras_is_a_file_that_works(tmp_path) -> None:
    streams = rigs.streams_of(rigs.CAMERAS[:3])
    rigs.write_bag(tmp_path / "bag", rigs.schedule(1, streams), streams)
    with Bag([tmp_path / "bag"]) as bag:
        found = survey(bag)
    (tmp_path / "robot.yaml").write_text(found.robot_yaml(several=True))
    robot = load(RobotConfig, tmp_path / "robot.yaml")
    assert robot == found.robot(several=True)
    assert robot.topics == {name: rigs.topic_of(name) for name in streams}
    assert robot.streams["rgb.left"].camera_info == "/left/camera_info"
    assert set(found.robot().streams) == {"rgb", "lidar"}  # who takes one, gets the likeliest
