"""Pictures, folders of pictures and videos in the place of a bag: true times, clear sentences."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from robustseg_core.bag import Bag
from robustseg_core.bag.medium import medium_of
from robustseg_core.bag.pictures import ACROSS_DEG, EPOCH_NS
from robustseg_core.errors import RobustsegError
from robustseg_core.modalities.rgb import Rgb
from robustseg_core.output.film import VideoWriter
from robustseg_core.recording.run import run_bags
from robustseg_core.recording.scene import fingerprint
from robustseg_core.recording.survey import survey
from robustseg_core.types import MS, SECOND, Rejection
from support.makers import scenes
from support.programs import run_program

SIZE = (96, 128)
SCENES = scenes(12, seed=3, size=SIZE)


def a_video(path, times_s, scenes=SCENES):
    with VideoWriter(path, rate_hz=1000) as film:
        for t, scene in zip(times_s, scenes, strict=False):
            film.add(scene, t)
    return path


def a_folder(path, names, scenes=SCENES):
    path.mkdir()
    for name, scene in zip(names, scenes, strict=False):
        Image.fromarray(scene).save(path / name)
    return path


def images(path):
    """(time, decoded picture) of a recording's camera, and its CameraInfos."""
    with Bag([path]) as bag:
        said = [(row.time_ns, row.type, row.message()) for row in bag.messages()]
    rgb = Rgb()
    pictures = [(t, rgb.decode(m, t)) for t, kind, m in said if "Image" in kind]
    return pictures, [m for _, kind, m in said if "CameraInfo" in kind]


def test_a_video_s_frames_have_the_times_of_the_file(tmp_path):
    """A film of ours is one whose frames come at any time: 0, 40, 173, ... ms."""
    times_s = [0.0, 0.04, 0.173, 0.2, 0.9, 1.0]
    film = a_video(tmp_path / "street.webm", times_s)
    pictures, infos = images(film)
    known = dict(pictures)
    for t, scene in zip(times_s, SCENES, strict=False):
        picture = known[EPOCH_NS + round(t * 1000) * MS]
        assert np.abs(picture.astype(int) - scene).mean() < 12, "VP8, and no other frame"
    assert len(infos) == len(pictures) and infos[0].header.stamp.sec == EPOCH_NS // SECOND
    with Bag([film]) as bag:
        assert bag.spans == [(EPOCH_NS, EPOCH_NS + SECOND)] and bag.duration_ns == SECOND
        list(bag.messages())
        assert not any("breaks off" in notice for notice in bag.notices)


def test_a_video_of_another_make(tmp_path):
    film = tmp_path / "STREET.MP4"
    writer = cv2.VideoWriter(
        str(tmp_path / "a.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 12.5, SIZE[::-1]
    )
    for scene in SCENES:
        writer.write(np.ascontiguousarray(scene[..., ::-1]))
    writer.release()
    (tmp_path / "a.mp4").rename(film)
    pictures, _ = images(film)
    assert [t - EPOCH_NS for t, _ in pictures] == [80 * MS * k for k in range(12)]
    for (_, picture), scene in zip(pictures, SCENES, strict=True):
        assert np.abs(picture.astype(int) - scene).mean() < 12
    with Bag([film, film]) as bag:
        assert len(bag.spans) == 2 and bag.message_count == 48


def test_names_are_counted_as_people_do_and_the_rate_is_said(tmp_path):
    folder = a_folder(tmp_path / "photos", [f"img{k}.png" for k in (0, 2, 10, 1)])
    pictures, _ = images(folder)
    assert [t - EPOCH_NS for t, _ in pictures] == [100 * MS * k for k in range(4)]
    for (_, picture), scene in zip(
        pictures, (SCENES[0], SCENES[3], SCENES[1], SCENES[2]), strict=True
    ):
        np.testing.assert_array_equal(picture, scene)
    with Bag([folder]) as bag:
        told = bag.notices
    assert "10 a second are assumed" in told[0] and "pinhole of 60 degrees" in told[1]


@pytest.mark.parametrize(
    "names, times_ns",
    [
        (["1_1700000000466666667.png", "2_1700000000400000000.png"], (4, 466666667, 400000000)),
        (["1305031102.25.png", "1305031102.175304.png"], (None, 250000000, 175304000)),
    ],
)
def test_names_may_hold_the_times(tmp_path, names, times_ns):
    folder = a_folder(tmp_path / "photos", names)
    pictures, _ = images(folder)
    assert [t % SECOND for t, _ in pictures] == sorted(times_ns[1:])
    np.testing.assert_array_equal(pictures[1][1], SCENES[0])
    with Bag([folder]) as bag:
        assert not any("assumed (names" in notice for notice in bag.notices)


def test_a_photo_that_lies_on_its_side_is_put_upright_and_tells_its_lens(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the top of the scene is on the right
    exif.get_ifd(0x8769)[0xA405] = 27
    photo = tmp_path / "photo.jpg"
    Image.fromarray(SCENES[0]).save(photo, quality=95, exif=exif)
    ((_, picture),), (info,) = images(photo)
    assert picture.shape == (128, 96, 3)
    assert np.abs(picture.astype(int) - np.rot90(SCENES[0], -1)).mean() < 8
    assert (info.height, info.width) == (128, 96)
    np.testing.assert_allclose(info.k, [96, 0, 48, 0, 96, 64, 0, 0, 1])  # 27 / 36 of 128 pixels
    with Bag([photo]) as bag:
        assert bag.notices == []


def test_without_one_the_lens_has_the_angle_that_is_said(tmp_path):
    _, (info, *_) = images(a_folder(tmp_path / "photos", ["a.jpg", "b.webp", "c.bmp", "d.tif"]))
    across = 2 * np.degrees(np.arctan(info.width / 2 / info.k[0]))
    assert across == pytest.approx(ACROSS_DEG)


def test_what_is_not_a_format_of_messages_becomes_one_without_loss(tmp_path):
    pictures, _ = images(a_folder(tmp_path / "photos", ["c.bmp", "d.tif"]))
    for (_, picture), scene in zip(pictures, SCENES, strict=False):
        np.testing.assert_array_equal(picture, scene)


def test_a_broken_picture_is_a_message_that_will_be_rejected(tmp_path):
    folder = a_folder(tmp_path / "photos", ["1.png", "2.jpg", "3.png"])
    (folder / "2.jpg").write_bytes((folder / "2.jpg").read_bytes()[:60])
    with Bag([folder]) as bag:
        rows = [row.message() for row in bag.messages({"/camera/image_raw/compressed"})]
    assert len(rows) == 3
    with pytest.raises(Rejection):
        Rgb().decode(rows[1], 0)


def _chunk(kind, content):
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def _lying_bmp():
    head = struct.pack("<IiiHHIIiiII", 40, 9000, 9000, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 9000, 0, 0, 54) + head + bytes(9000)


def _lying_png_on_its_side():
    exif = Image.Exif()
    exif[0x0112] = 6
    head = struct.pack(">IIBBBBB", 9000, 9000, 8, 2, 0, 0, 0)
    chunks = (b"IHDR", head), (b"eXIf", exif.tobytes()[6:]), (b"IDAT", zlib.compress(bytes(999)))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*c) for c in (*chunks, (b"IEND", b"")))


@pytest.mark.parametrize("make", [_lying_bmp, _lying_png_on_its_side])
def test_a_picture_that_claims_more_than_its_bytes_can_hold_is_not_unpacked(
    tmp_path, make, monkeypatch
):
    folder = a_folder(tmp_path / "shots", ["0.png"])
    (folder / "1.png").write_bytes(make())
    unpacked = []
    real = cv2.imdecode

    def imdecode(raw, how):
        unpacked.append(len(raw))
        return real(raw, how)

    monkeypatch.setattr(cv2, "imdecode", imdecode)
    with Bag([folder]) as bag:
        rows = [row.message() for row in bag.messages() if "Image" in row.type]
    assert not unpacked
    with pytest.raises(Rejection, match="9000"):
        Rgb().decode(rows[1], 0)


def test_a_picture_file_of_any_size_is_not_read_into_memory(tmp_path):
    folder = a_folder(tmp_path / "shots", ["0.png", "1.png"])
    with (folder / "1.png").open("r+b") as file:
        file.truncate(1 << 40)  # a hole: it takes no room on the disk
    said = r"1\.png has 1 TiB .* the limit"
    with Bag([folder]) as bag, pytest.raises(RobustsegError, match=said):
        list(bag.messages())


def test_a_jpeg_without_an_end_is_not_looked_through(tmp_path):
    folder = tmp_path / "shots"
    folder.mkdir()
    with (folder / "a.jpg").open("wb") as file:
        file.write(b"\xff\xd8\xff\xe0")
        file.truncate(4 << 30)  # minutes, byte by byte
    with pytest.raises(RobustsegError, match="no readable picture"), Bag([folder]):
        pass


def test_the_camera_is_guessed(tmp_path):
    with Bag([a_folder(tmp_path / "photos", ["1.png", "2.png"])]) as bag:
        robot = survey(bag).robot()
    assert robot.topics == {"rgb": "/camera/image_raw/compressed"}


def mixed(folder):
    a_folder(folder / "mixed", ["1.png"])
    a_video(folder / "mixed" / "a.mp4", [0.0, 0.1])
    return folder / "mixed"


def nested(folder):
    (folder / "top").mkdir()
    a_folder(folder / "top" / "left", ["1.png"])
    return folder / "top"


def written(name, data):
    def make(folder):
        (folder / name).write_bytes(data)
        return folder / name

    return make


def hollow(folder):
    (folder / "hollow").mkdir()
    (folder / "hollow" / "1.png").write_bytes(b"")
    (folder / "hollow" / "2.png").write_bytes(b"text")
    return folder / "hollow"


@pytest.mark.parametrize(
    "make, said",
    [
        (mixed, "holds 1 videos and 1 pictures; a folder is one camera's pictures"),
        (nested, r"holds no recording .*give one of the folders of pictures in it: \['left'\]"),
        (hollow, "is no readable picture, nor is any of the 2; copy it again"),
        (written("a.jpg", b"\xff\xd8\xff" + 40 * b"x"), "is no readable picture; copy it again"),
        (written("a.mp4", b"\0\0\0\x20ftypisom" + 500 * b"\0"), "is no video that can be played"),
        (written("a.mp4", b"#EXTM3U\nhttp://nobody\n"), "is no recording: it begins with"),
        (written("a.mp4", b""), "is empty"),
        (written("a.txt", b"hello, world, this is no picture"), "a video or a picture"),
    ],
    ids=["mixed", "nested", "hollow", "photo", "video", "playlist", "empty", "text"],
)
def test_what_cannot_be_used_is_one_sentence(tmp_path, make, said):
    path = make(tmp_path)
    with pytest.raises(RobustsegError, match=said) as error, Bag([path]):
        pass
    assert "\n" not in str(error.value) and str(path) in str(error.value)


@pytest.mark.slow
def test_ffmpeg_says_nothing_by_itself(tmp_path):
    """In a process of its own: FFmpeg asks only once how much it is to say."""
    program = """
        import sys
        from pathlib import Path
        from robustseg_core.bag import Bag
        from robustseg_core.errors import RobustsegError
        try:
            with Bag([Path(sys.argv[1])]):
                pass
        except RobustsegError as error:
            print(error)
    """
    path = written("a.mp4", b"\0\0\0\x20ftypisom" + 500 * b"\0")(tmp_path)
    done = run_program(program, str(path))
    assert "is no video that can be played" in done.stdout
    assert done.stderr == ""


def test_a_video_that_breaks_off_is_played_as_far_as_it_goes(tmp_path):
    film = tmp_path / "a.avi"
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter_fourcc(*"MJPG"), 10, SIZE[::-1])
    for k in range(60):
        writer.write(np.ascontiguousarray(SCENES[k % 12][..., ::-1]))
    writer.release()
    film.write_bytes(film.read_bytes()[: film.stat().st_size // 2])
    with Bag([film]) as bag:
        seen = sum(1 for _ in bag.messages({"/camera/image_raw"}))
        told = bag.notices
    assert 10 < seen < 59
    assert any("breaks off after" in notice and " of 5.90 s" in notice for notice in told)


def test_a_bag_with_pictures_beside_it_is_a_bag(tmp_path):
    a_folder(tmp_path / "drive", ["1.png"])
    (tmp_path / "drive" / "a.mcap").write_bytes(b"")
    with pytest.raises(RobustsegError, match=r"a\.mcap is empty"), Bag([tmp_path / "drive"]):
        pass


def test_other_pictures_are_another_recording(tmp_path):
    folder = a_folder(tmp_path / "photos", ["1.png", "2.png"])
    before = fingerprint(folder)
    (folder / "3.png").write_bytes((folder / "2.png").read_bytes())
    assert fingerprint(folder) != before and medium_of(folder) == "pictures"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["photo", "photos", "video"])
def test_a_run_makes_a_mask_of_each_picture(tmp_path, kind):
    path = {
        "photo": lambda: a_folder(tmp_path / "photos", ["1.png"]) / "1.png",
        "photos": lambda: a_folder(tmp_path / "photos", [f"{k}.png" for k in range(8)]),
        "video": lambda: a_video(tmp_path / "a.webm", [k / 10 for k in range(8)]),
    }[kind]()
    result = run_bags([path], out=tmp_path / "out", overrides=["device=cpu"])
    expected = 1 if kind == "photo" else 8
    assert len(result["masks"]) == expected
    assert all(row["used"] == ["rgb"] for row in result["masks"])
    assert any("pinhole of 60 degrees" in notice for notice in result["notices"])
