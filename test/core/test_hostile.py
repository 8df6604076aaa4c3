"""What fuzzing found, one test each: sizes that are lies, words that are none, endless names."""

from __future__ import annotations

import sqlite3
import struct
import tracemalloc
from contextlib import closing
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from fuzz.bags import sound, whole
from robustseg_core.bag import Bag, BagWriter
from robustseg_core.codecs.compressed_depth import decode_depth
from robustseg_core.codecs.fields import as_bytes, byte_order, header, most_pixels, word
from robustseg_core.codecs.image import decode_compressed
from robustseg_core.codecs.picture import picture_size
from robustseg_core.codecs.points import decode_points
from robustseg_core.geometry.camera import Camera
from robustseg_core.geometry.transforms import TransformTree, pose
from robustseg_core.geometry.view import View
from robustseg_core.recording.survey import survey
from robustseg_core.types import Fault, Rejection
from support.drives import message, segmenter
from support.makers import camera_info, compressed, events, image, pretend_png, rvl, transform, xyz

pytestmark = pytest.mark.slow

NAN, INF = float("nan"), float("inf")


def message_of(data: np.ndarray):
    sent = compressed(np.zeros((2, 2, 3), np.uint8))
    sent.data = data
    return sent


@pytest.mark.parametrize("form", ["jpeg", "png", "webp"])
@pytest.mark.parametrize("size", [(1, 1), (48, 64), (17, 301)])
def test_the_size_in_a_picture_s_header_is_what_comes_out_of_it(form, size):
    pixels = np.random.default_rng(1).integers(0, 255, (*size, 3), dtype=np.uint8)
    data = cv2.imencode(f".{form}", pixels)[1].reshape(-1)
    assert picture_size(data) == size
    for end in range(0, min(len(data), 700)):
        assert picture_size(data[:end]) in (None, size)


def test_other_kinds_of_webp_and_jpeg_say_their_size_too():
    pixels = np.random.default_rng(2).integers(0, 255, (33, 65, 4), dtype=np.uint8)
    lossless = cv2.imencode(".webp", pixels, [cv2.IMWRITE_WEBP_QUALITY, 101])[1].reshape(-1)
    lossy = cv2.imencode(".webp", pixels, [cv2.IMWRITE_WEBP_QUALITY, 50])[1].reshape(-1)
    assert {bytes(lossless[12:16]), bytes(lossy[12:16])} == {b"VP8L", b"VP8X"}
    progressive = cv2.imencode(".jpg", pixels[..., :3], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1]
    comment = [0xFF, 0xFF, 0xFE, 0, 4, 0xFF, 0xC0, 0]  # a fill byte, a false marker, garbage
    commented = np.insert(progressive.reshape(-1), 2, comment)
    assert decode_compressed(message_of(commented)).shape == (33, 65, 3)
    for data in (lossless, lossy, progressive.reshape(-1), commented):
        assert picture_size(data) == (33, 65)


@pytest.mark.parametrize("size", [(30_000, 30_000), (2**31 - 1, 2**31 - 1), (0, 5), (9000, 9000)])
def test_a_picture_that_claims_gigabytes_is_refused_before_they_are_allocated(size):
    sent = message_of(np.frombuffer(pretend_png(*size), np.uint8))
    tracemalloc.start()
    with pytest.raises(Rejection, match="claims"):
        decode_compressed(sent)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000


def test_a_large_picture_with_something_in_it_is_believed():
    pixels = np.zeros((3000, 4000, 3), np.uint8)  # black: as small as a payload can be
    for form in ("jpeg", "png"):
        assert decode_compressed(compressed(pixels, form=form)).shape == pixels.shape
    assert most_pixels(10) == 1 << 22
    assert most_pixels(1 << 20) == 1 << 26


def test_formats_that_no_camera_sends_are_not_given_to_their_decoders():
    for form in ("bmp", "tiff", "ppm"):
        with pytest.raises(Rejection, match="expected jpeg, png or webp"):
            decode_compressed(compressed(np.zeros((4, 4, 3), np.uint8), form=form))


def test_an_rvl_image_of_nothing_but_zeros_cannot_claim_any_size():
    sent = compressed(np.zeros((2, 2, 3), np.uint8))
    sent.format = "16UC1; compressedDepth rvl"
    body = rvl(np.zeros((4, 4), np.uint16))[8:]
    data = bytes(12) + struct.pack("<II", 1 << 13, 1 << 13) + body
    sent.data = np.frombuffer(data, np.uint8)
    with pytest.raises(Rejection, match="8192x8192; expected 1 to 4194304 pixels"):
        decode_depth(sent)


@pytest.mark.parametrize(
    "change",
    [
        {"height": 2**32 - 1, "width": 2**32 - 1},
        {"k": np.array([NAN] * 9)},
        {"k": np.array([1e-300, 0, 1, 0, 1e-300, 1, 0, 0, 1])},
        {"d": np.array([1e300])},
        {"p": np.full(12, INF)},
        {"roi": SimpleNamespace(height=2**31, width=2**31, x_offset=0, y_offset=0)},
    ],
)
def test_a_calibration_of_no_possible_camera_is_refused_and_the_good_one_stays(change):
    made = segmenter(["rgb"])
    before = made.intake.view.camera
    sent = camera_info(48, 64, fx=60.0)
    for name, value in change.items():
        setattr(sent, name, value)
    finding = made.push_camera_info("rgb", sent)
    assert finding is not None and finding.fault is Fault.NO_CALIB
    assert made.intake.view.camera == before and made.intake.view.camera_size == (48, 64)


@pytest.mark.parametrize("name", ["header", "roi", "k", "distortion_model", "binning_x"])
def test_a_calibration_without_one_of_its_parts_is_refused(name):
    sent = camera_info()
    setattr(sent, name, None)
    with pytest.raises(Rejection):
        Camera.from_message(sent)


def test_what_is_no_rotation_is_not_taken_for_one():
    sheared = camera_info()
    sheared.r = np.array([1, 1e8, 0, 0, 1, 0, 0, 0, 1.0])  # its determinant is 1
    assert Camera.from_message(sheared, rectified=True).rotation == ()


@pytest.mark.parametrize(
    "numbers",
    [
        (1e300, 0, 0, 0, 0, 0, 1),
        (NAN, 0, 0, 0, 0, 0, 1),
        (0, 0, 0, 0, 0, 0, 1e300),
        (0, 0, 0, 0, 0, 0, 0),
        (0, 0, None, 0, 0, 0, 1),
        (0, 0, "far", 0, 0, 0, 1),
        (0, 0, [1, 2], 0, 0, 0, 1),
        (1, NAN, INF, 0, 0, 0, 1),
    ],
)
def test_numbers_that_are_no_pose_are_none(numbers):
    assert pose(*numbers) is None


@pytest.mark.parametrize("spoiled", ["transforms", "header", "child_frame_id", "transform"])
def test_a_transform_that_is_none_does_not_cost_the_others(spoiled):
    sent = transform("camera", "lidar", (1, 2, 3))
    bad = transform("camera", "other").transforms[0]
    if spoiled == "transforms":
        sent.transforms = [*sent.transforms, None]
    else:
        setattr(bad, spoiled, None)
        sent.transforms = [bad, *sent.transforms]
    tree = TransformTree()
    changed, wrong = tree.add(sent)
    assert changed and wrong is not None
    assert tree.way("camera", "lidar")[0, 3] == 1.0
    assert tree.add(SimpleNamespace(transforms=None))[1] is not None


def test_endless_new_frames_do_not_fill_the_memory():
    tree = TransformTree()
    for number in range(5000):
        wrong = tree.add(transform(f"f{number}", f"f{number + 1}"))[1]
    assert wrong is not None and "one frame too many" in str(wrong)
    assert tree.way("f0", "f4000") is not None
    assert tree.add(transform("f0", "f1", (1, 0, 0))) == (True, None)  # known ones still move
    many = SimpleNamespace(transforms=transform("f0", "f1").transforms * 5000)
    assert "5000 transforms, limit" in str(tree.add(many)[1])


def test_a_sensor_that_changes_its_name_every_time_fills_no_memory_with_tables():
    view = View((32, 64))
    for number in range(200):
        view.lookup("event", f"frame_{number}", 48, 64)
    assert len(view._kept) <= 16


def test_endless_reasons_are_counted_and_not_all_remembered():
    made = segmenter(["rgb"])
    for number in range(300):
        sent = camera_info()
        sent.k = np.full(9, -1.0 - number)
        made.push_camera_info("rgb", sent)
    refused = made.intake.calibration_rejected
    ((what, finding, count),) = refused
    assert (what, finding.fault, count) == ("CameraInfo of rgb", Fault.NO_CALIB, 300)


def test_a_stamp_beyond_32_bits_is_no_stamp():
    sent = events(np.array([0x8001], np.uint16))
    sent.header.stamp.sec = 10**30
    with pytest.raises(Rejection, match=r"header\.stamp"):
        header(sent)
    sent.header.stamp.sec, sent.header.frame_id = 5, "/velodyne"
    assert header(sent) == (5_000_000_000, "velodyne")


def test_a_name_of_a_hundred_thousand_letters_is_not_carried_around():
    sent = message("rgb", 0)
    long = image(np.zeros((4, 4), np.uint8), "x" * 100_000)
    with pytest.raises(Rejection) as caught:
        word(long, "encoding")
    assert len(str(caught.value)) < 200
    finding = segmenter(["rgb"]).push("rgb", SimpleNamespace(header=sent.header), 1)
    assert finding is not None and finding.fault is Fault.FORMAT


@pytest.mark.parametrize("payload", [np.array(2.5), np.zeros(3), 3, "text", None, [1, 2]])
def test_what_is_no_row_of_bytes_is_no_payload(payload):
    with pytest.raises(Rejection, match="expected bytes"):
        as_bytes(payload)


def test_an_endianness_that_is_neither_is_refused():
    assert byte_order(SimpleNamespace()) == "<"
    assert byte_order(SimpleNamespace(is_bigendian=np.bool_(True))) == ">"
    with pytest.raises(Rejection, match="is_bigendian"):
        byte_order(SimpleNamespace(is_bigendian=np.zeros(2)))


def test_returns_beyond_the_horizon_are_dropped():
    points = np.array([[1, 2, 3], [1.8e19, 0, 0], [0, 1e7, 0], [9e5, 0, 0]], np.float32)
    assert len(decode_points(xyz(points)).xyz) == 2
    far = image(np.array([[5.0, 1e7, 3e38]], np.float32), "32FC1")
    assert np.isnan(decode_depth(far)).tolist() == [[False, True, True]]


def test_a_cloud_with_thousands_of_fields_is_none():
    sent = xyz(np.ones((3, 3)))
    sent.fields = sent.fields * 100
    with pytest.raises(Rejection, match="400 fields"):
        decode_points(sent)


def test_a_recording_that_says_its_images_have_no_width_is_surveyed_all_the_same(tmp_path):
    with BagWriter(tmp_path / "drive") as writer:
        writer.write("/camera", "sensor_msgs/msg/Image", message("rgb", 0), 1)
    path = tmp_path / "drive" / "drive.mcap"
    content = path.read_bytes()
    assert content.count(b"uint32 width") > 0
    path.write_bytes(content.replace(b"uint32 width", b"uint32 wodth"))
    with Bag(path) as bag:
        (topic,) = survey(bag).topics
    assert "width is None" in topic.problem


def test_a_log_time_with_its_top_bit_set_is_surveyed_and_played(tmp_path):
    with BagWriter(tmp_path / "drive") as writer:
        for time_ns in (1, 2**63 + 5):
            writer.write("/camera", "sensor_msgs/msg/Image", message("rgb", 0), time_ns)
    with Bag(tmp_path / "drive") as bag:
        assert survey(bag).topics[0].count == 2


def test_a_chunk_that_shrank_unnoticed_is_noticed(tmp_path):
    """zstd takes zeros for empty blocks, and rosbags checks neither size nor checksum."""
    content = sound()["zstd"]
    found = set()
    for at in range(2000, len(content) - 9000, 4000):
        path = tmp_path / "drive.mcap"
        path.write_bytes(content[:at] + bytes(3000) + content[at + 3000 :])
        with Bag(path) as bag:
            count = sum(1 for _ in bag.messages())
            assert count == bag.message_count == whole() or bag.notices
            found.add(count)
    assert len(found) > 1


def test_a_message_that_lost_its_topic_is_not_lost_in_silence(tmp_path):
    path = tmp_path / "drive.db3"
    path.write_bytes(sound()["db3"])
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE messages SET topic_id = 99 WHERE id IN (5, 9)")
    with Bag(path) as bag:
        assert sum(1 for _ in bag.messages()) == whole() - 2
        assert bag.notices == [
            f"drive.db3 has messages of no topic, 2 of {whole()}; they are not read"
        ]
