"""Several cameras and LiDARs: each camera's masks are those of a robot with this camera alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import groupby

import numpy as np
import pytest

from robustseg_core import config
from robustseg_core.config import PointsConfig
from robustseg_core.engines import NoMaskError, batch
from robustseg_core.engines.eager import EagerEngine, pick_device
from robustseg_core.errors import RobustsegError
from robustseg_core.intake import Observer
from robustseg_core.modalities.lidar import Lidar
from robustseg_core.models import checkpoint
from robustseg_core.output.cloud import POINT, cloud
from robustseg_core.rig import Rig
from robustseg_core.robot.config import RobotConfig
from robustseg_core.segmenter import Segmenter
from robustseg_core.types import (
    MS,
    SECOND,
    Fault,
    LabelMap,
    Reading,
    State,
    kind_of,
    name_of,
)
from support import rigs
from support.makers import transform, xyz

pytestmark = pytest.mark.slow

SIZE = (64, 96)
MODEL = checkpoint.untrained(checkpoint.default_spec(("rgb", "lidar"), size=SIZE))
SPEC = MODEL.spec


def engine() -> EagerEngine:
    return EagerEngine(MODEL, pick_device("cpu"))


def rig(streams, **words) -> Rig:
    made = Rig(rigs.robot(streams, **words), SPEC, engine())
    hang(made)
    return made


def hang(made) -> None:
    for one in rigs.transforms():
        made.push_transforms(one)
    for stream in made.streams:
        if kind_of(stream) == "rgb":
            made.push_camera_info(stream, rigs.info(name_of(stream) or "front"))


def drive(made, rows, rename=lambda stream: stream) -> list[tuple[int, LabelMap]]:
    """All masks with the time each was made."""
    maps, now = [], 0

    def step(at: int) -> None:
        found = made.step(at)
        found = [found] if isinstance(found, LabelMap) else found or []
        maps.extend((at, one) for one in found)

    for at, name, k in rows:
        while (wake := made.wake_ns(now)) is not None and wake < at:
            now = wake
            step(now)
        now = at
        if rename(name) in made.streams:
            made.push(rename(name), rigs.message(name, rigs.EPOCH + at, k), now)
            step(now)
    return maps


def alone(camera: str, lidars=("top", "rear"), **words) -> Segmenter:
    """A robot that has one camera, without a name."""
    streams = {"rgb": {"topic": rigs.topic_of(f"rgb.{camera}")}}
    streams |= {f"lidar.{name}": {"topic": f"/{name}/points"} for name in lidars}
    made = Segmenter(config.parse(RobotConfig, {"streams": streams, **words}), SPEC, engine())
    for one in rigs.transforms():
        made.push_transforms(one)
    made.push_camera_info("rgb", rigs.info(camera))
    return made


def same(one: LabelMap, other: LabelMap, camera: str) -> None:
    """Equal but for the camera's name, and for what takes time."""

    def plain(names):
        return tuple("rgb" if name == f"rgb.{camera}" else name for name in names)

    assert one.camera == camera and other.camera == ""
    assert (one.stamp_ns, one.frame_id) == (other.stamp_ns, other.frame_id)
    assert plain(one.used) == other.used
    assert dict(zip(plain(one.states), one.states.values(), strict=True)) == other.states
    assert dict(zip(plain(one.reasons), one.reasons.values(), strict=True)) == other.reasons
    for name, frame in one.bundle.frames.items():
        assert np.array_equal(frame.array, other.bundle.frames[name].array)
    # Fused beside others' images, the network's last digits may differ, and a tie with them.
    assert np.mean(one.ids != other.ids) < 1e-3
    assert np.abs(one.confidence.astype(int) - other.confidence).max() <= 1


@pytest.mark.parametrize(
    ("cameras", "seconds", "apart_ns"),
    [(rigs.CAMERAS[:2], 1.6, 7 * MS), (rigs.CAMERAS, 0.9, 0)],
    ids=["two", "six"],
)
def test_each_cameras_masks_are_those_of_a_robot_with_it_alone(cameras, seconds, apart_ns) -> None:
    streams = rigs.streams_of(cameras)
    rows = [  # the front camera dies, and a LiDAR does
        row
        for row in rigs.schedule(seconds, streams, apart_ns=apart_ns)
        if not (row[1] == "rgb.front" and row[0] > 0.6 * SECOND)
        and not (row[1] == "lidar.rear" and row[0] > 1.2 * SECOND)
    ]
    together = drive(rig(streams), rows)
    for camera in cameras:
        mine = [(at, one) for at, one in together if one.camera == camera]
        own = [row for row in rows if kind_of(row[1]) == "lidar" or row[1] == f"rgb.{camera}"]
        named = {f"rgb.{camera}": "rgb"}
        single = drive(alone(camera), own, lambda name, named=named: named.get(name, name))
        # It is stepped when a message of another camera comes, too: a mask leaves no later.
        assert len(mine) == len(single) > 10
        for (at, one), (single_at, other) in zip(mine, single, strict=True):
            assert at == single_at
            same(one, other, camera)


def test_a_dead_camera_stops_no_other_and_its_own_view_goes_on_by_lidar() -> None:
    streams = rigs.streams_of(rigs.CAMERAS[:2])
    made = rig(streams)
    rows = [r for r in rigs.schedule(3, streams) if not (r[1] == "rgb.left" and r[0] > SECOND)]
    late = [m for at, m in drive(made, rows) if at > 1.6 * SECOND]
    front = [m for m in late if m.camera == "front"]
    assert len(front) >= 25 and all(m.used == ("rgb.front", *streams[2:]) for m in front)
    left = [m for m in late if m.camera == "left"]
    assert len(left) >= 10 and all(m.used == ("lidar.top", "lidar.rear") for m in left)
    assert all(m.reasons["rgb.left"][0].fault is Fault.SILENT for m in left)
    healths = made.health(3 * SECOND)
    assert list(healths) == ["rgb.front", "lidar.top", "lidar.rear", "rgb.left"]
    assert healths["rgb.left"].state is State.DEAD and healths["lidar.top"].state is State.LIVE


def test_all_that_are_due_together_come_of_one_step_in_the_order_of_the_robot() -> None:
    streams = rigs.streams_of(rigs.CAMERAS[2:5])
    calls = Counter()

    class Counting(EagerEngine):
        def batch(self, bundles):
            calls[len(bundles)] += 1
            return super().batch(bundles)

    made = Rig(rigs.robot(streams), SPEC, Counting(MODEL, pick_device("cpu")))
    hang(made)
    rows = rigs.schedule(1, streams, apart_ns=0)
    steps = []
    for now, some in groupby(rows, lambda row: row[0]):
        for _, name, k in some:
            made.push(name, rigs.message(name, rigs.EPOCH + now, k), now)
        steps.append([m.camera for m in made.step(now)])
    assert steps.count(["rear", "right", "front_left"]) == calls[3] >= 8
    assert sum(map(len, steps)) == sum(size * count for size, count in calls.items())


def test_a_robot_of_one_camera_is_a_rig_of_one() -> None:
    rows = rigs.schedule(1, ["rgb.front", "lidar.top"])
    robot = {"streams": {"rgb": {"topic": "/a"}, "lidar": {"topic": "/b"}}}
    both = []
    for kind in (Segmenter, Rig):
        made = kind(config.parse(RobotConfig, robot), SPEC, engine())
        hang(made)
        both.append(drive(made, rows, kind_of))
    assert len(both[0]) == len(both[1]) > 15
    for (at, one), (other_at, other) in zip(*both, strict=True):
        assert at == other_at and one.camera == other.camera == "" and one.used == other.used
        assert np.array_equal(one.ids, other.ids)
        assert np.array_equal(one.confidence, other.confidence)


def test_one_named_camera_is_a_robot_with_one() -> None:
    made = rig(rigs.streams_of(rigs.CAMERAS[:3]), cameras=["left"])
    assert made.cameras == () and made.streams == ("rgb.left", "lidar.top", "lidar.rear")
    maps = drive(made, rigs.schedule(0.5, rigs.streams_of(rigs.CAMERAS[:3])))
    assert maps[-1][1].camera == "" and maps[-1][1].used == made.streams


def test_a_segmenter_takes_one_camera_and_says_which_way_out() -> None:
    robot = rigs.robot(rigs.streams_of(rigs.CAMERAS[:2]))
    with pytest.raises(RobustsegError, match=r"2 cameras \(front, left\).*--set cameras=\[front\]"):
        Segmenter(robot, SPEC, engine())


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("architecture", ["m_segformer", "swift"])
def test_a_batch_says_what_single_calls_say(architecture, at_once) -> None:
    spec = checkpoint.default_spec(("rgb", "lidar"), size=SIZE)
    model = checkpoint.untrained(spec.model_copy(update={"architecture": architecture}))
    runs = EagerEngine(model, pick_device("cpu"))
    runs._at_once = at_once  # as on a GPU
    maps = drive(
        rig(rigs.streams_of(rigs.CAMERAS[:3])),
        rigs.schedule(0.6, rigs.streams_of(rigs.CAMERAS[:3])),
    )
    bundles = {m.camera: m.bundle for _, m in maps}
    bundles["left"] = replace(bundles["left"], frames={"rgb": bundles["left"].frames["rgb"]})
    for _ in range(2):  # the second time, all frames are known
        said = batch(runs, bundles)
        assert list(said) == list(bundles)
        for name, bundle in bundles.items():
            labels = said[name]
            assert not isinstance(labels, NoMaskError)
            ids, confidence = EagerEngine(model, pick_device("cpu"))(bundle)
            assert np.mean(labels[0] != ids) < 1e-3
            assert np.abs(labels[1].astype(int) - confidence).max() <= 1


def test_a_shared_lidars_message_is_decoded_once(monkeypatch) -> None:
    streams = rigs.streams_of(rigs.CAMERAS[:3], ("top",))
    seen = Counter()
    decode = Lidar.decode

    def counted(self, message, stamp_ns):
        seen[stamp_ns] += 1
        return decode(self, message, stamp_ns)

    monkeypatch.setattr(Lidar, "decode", counted)
    drive(rig(streams), rigs.schedule(1, streams))
    assert len(seen) == 10 and set(seen.values()) == {1}


def merged_and_whole(made: Segmenter, whole: Segmenter, clouds) -> tuple[np.ndarray, np.ndarray]:
    """What the network sees of several LiDARs, and of one that has all their points."""
    arrays = []
    for one, sent in ((made, clouds), (whole, {"lidar": clouds["whole"]})):
        now, found = 0, None
        for k in range(8):
            now = k * 100 * MS
            for name in one.streams:
                if name == "rgb":
                    message = rigs.message("rgb.front", rigs.EPOCH + now, k)
                else:
                    message = sent[name](rigs.EPOCH + now, k)
                one.push(name, message, now)
                found = one.step(now) or found
            while (wake := one.wake_ns(now)) is not None and wake < now + 100 * MS:
                now = wake
                found = one.step(now) or found
        assert found is not None and "lidar" in found.bundle.frames
        assert {kind_of(name) for name in found.used} == {"rgb", "lidar"}
        arrays.append(found.bundle.frames["lidar"].array)
    return arrays[0], arrays[1]


def test_lidars_are_merged_as_their_points_are_put_together_after_their_transforms() -> None:
    top, rear = rigs.points("top"), rigs.points("rear")
    turned = np.array([[-1.0, 0, 0], [0, -1.0, 0], [0, 0, 1.0]])
    hung, behind = np.array([0, 0, 1.0]), np.array([-1.0, 0, 0.2])
    clouds = {
        "lidar.top": lambda stamp, k: xyz(top + 0.001 * k, stamp_ns=stamp, frame_id="top"),
        "lidar.rear": lambda stamp, k: xyz(rear + 0.001 * k, stamp_ns=stamp, frame_id="rear"),
        "whole": lambda stamp, k: xyz(
            np.concatenate(
                [
                    top + 0.001 * k + hung,
                    (rear + 0.001 * k) @ turned.T + behind,
                ]
            ),
            stamp_ns=stamp,
            frame_id="base",
        ),
    }
    robot = config.parse(
        RobotConfig, {"streams": {"rgb": {"topic": "/a"}, "lidar": {"topic": "/b"}}}
    )
    whole = Segmenter(robot, SPEC, engine())
    for one in rigs.transforms():
        whole.push_transforms(one)
    whole.push_camera_info("rgb", rigs.info("front"))
    merged, expected = merged_and_whole(alone("front"), whole, clouds)
    assert (merged[0] > 0).sum() > 500
    # Points are rounded to 32 bits once more on the way: a few land in the pixel beside.
    assert np.mean(np.abs(merged - expected).max(axis=0) > 1e-4) < 0.005


def test_each_lidar_is_placed_at_its_own_time_where_its_mount_moves() -> None:
    fresh = alone("front")
    fresh.push_transforms(transform("cart", "rear"))
    for k in range(12):
        moved = transform("base", "cart", (0.1 * k, 0.0, 0.0))
        stamp = moved.transforms[0].header.stamp
        stamp.sec, stamp.nanosec = divmod(rigs.EPOCH + k * 100 * MS, SECOND)
        fresh.push_transforms(moved, moving=True)
        assert fresh.intake.view.joined("lidar.rear", "rear")  # whose past is kept from now on
    view, decoder = fresh.intake.view, fresh._encoders["lidar"]
    readings = []
    for name, late in (("top", 0), ("rear", 250 * MS)):
        at = rigs.EPOCH + 500 * MS - late
        message = rigs.message(f"lidar.{name}", at, 0)
        own = fresh.intake.modalities[f"lidar.{name}"]
        data = own.decode(message, at)
        readings.append(Reading(own.name, at, name, data))
    found = decoder.merge(sorted(readings, key=lambda r: r.stamp_ns), view, rigs.EPOCH + 500 * MS)
    rear = rigs.points("rear") + np.array([0.25, 0, 0])  # where the cart stood when it saw
    eye = view.view_from("lidar.x", "base")
    expected = rear @ eye[:3, :3].T + eye[:3, 3]
    assert found.frame_id == "cam_front"
    assert np.allclose(found.data.xyz[: len(rear)], expected, atol=1e-4)


def test_a_dead_lidar_is_left_out_of_the_cloud_and_named() -> None:
    made = alone("front")
    rows = [
        row
        for row in rigs.schedule(2, rigs.streams_of(("front",)))
        if not (row[1] == "lidar.rear" and row[0] > 0.8 * SECOND)
    ]
    maps = drive(made, rows, lambda name: {"rgb.front": "rgb"}.get(name, name))
    late = [m for at, m in maps if at > 1.85 * SECOND]
    assert late and all(m.used == ("rgb", "lidar.top") for m in late)
    assert all(m.reasons["lidar.rear"][0].fault is Fault.SILENT for m in late)


def test_the_labelled_cloud_of_several_lidars_is_in_the_cameras_frame() -> None:
    rows = rigs.schedule(0.6, rigs.streams_of(("front",)))
    maps = drive(alone("front"), rows, lambda name: {"rgb.front": "rgb"}.get(name, name))
    label_map = maps[-1][1]
    assert label_map.used == ("rgb", "lidar.top", "lidar.rear")
    fields = cloud(label_map, SPEC, PointsConfig(source="lidar"))
    assert fields is not None and fields["header"]["frame_id"] == "cam_front"
    table = fields["data"].view(POINT)
    assert len(table) > 500 and (table["z"] > 0).all()


def test_an_exception_of_ours_in_one_view_stops_no_other(monkeypatch) -> None:
    streams = rigs.streams_of(rigs.CAMERAS[:2])
    made = rig(streams)

    def broken(now_ns: int) -> None:
        raise ZeroDivisionError("of ours")

    monkeypatch.setattr(made.segmenters["left"], "begin", broken)
    maps = []
    for now, name, k in rigs.schedule(1, streams):
        made.push(name, rigs.message(name, rigs.EPOCH + now, k), now)
        try:
            maps += made.step(now)
        except ZeroDivisionError:
            continue  # the node counts it, logs it and goes on
    assert len(maps) > 10 and {m.camera for m in maps} == {"front"}
    assert any(text.startswith("left: ZeroDivisionError: of ours (") for text in made.remarks())


def test_a_configuration_that_lacks_a_camera_is_refused_and_changes_nothing() -> None:
    made = rig(rigs.streams_of(rigs.CAMERAS[:2]))
    before = made.config
    with pytest.raises(RobustsegError, match=r"no stream rgb.left, .*; switch it off by streams.r"):
        made.configure(rigs.robot(rigs.streams_of(rigs.CAMERAS[:1])))
    with pytest.raises(RobustsegError, match=r"no stream lidar.rear"):
        made.configure(rigs.robot(rigs.streams_of(rigs.CAMERAS[:2], ["top"])))
    made.configure(rigs.robot(rigs.streams_of(rigs.CAMERAS[:3])))  # it has one more: ignored
    made.step(0)
    assert before.camera_names == ("front", "left") == tuple(made.segmenters)


def test_cameras_that_share_a_frame_are_named() -> None:
    made = rig(rigs.streams_of(rigs.CAMERAS[:3]))
    assert not made.remarks()
    made.push_camera_info("rgb.left", rigs.info("front"))
    (told,) = [text for text in made.remarks() if "frame" in text and "cameras" in text]
    assert told.startswith("cameras front and left are all in the frame 'cam_front'; let each")


def test_a_camera_without_calibration_makes_masks_and_says_why_it_has_no_lidar() -> None:
    streams = rigs.streams_of(rigs.CAMERAS[:2])
    made = Rig(rigs.robot(streams), SPEC, engine())
    for one in rigs.transforms():
        made.push_transforms(one)
    made.push_camera_info("rgb.front", rigs.info("front"))
    maps = [m for at, m in drive(made, rigs.schedule(2, streams)) if at > SECOND]
    left = [m for m in maps if m.camera == "left"]
    assert left and all(m.used == ("rgb.left",) for m in left)
    assert left[-1].reasons["lidar.top"][0].fault is Fault.NO_CALIB
    front = [m for m in maps if m.camera == "front"]
    assert all(m.used == ("rgb.front", "lidar.top", "lidar.rear") for m in front)
    assert made.health(2 * SECOND)["lidar.top"].state is State.LIVE  # where it is best off


def test_a_view_of_its_own_is_laid_over_the_common_one() -> None:
    made = rig(
        rigs.streams_of(rigs.CAMERAS[:2]),
        view={"max_distance_m": 50.0},
        views={"left": {"width": 32, "height": 24}},
    )
    sizes = {n: s.intake.view.camera_size for n, s in made.segmenters.items()}
    assert sizes == {"front": (48, 64), "left": (24, 32)}
    assert all(s.config.view.max_distance_m == 50 for s in made.segmenters.values())


def test_every_view_has_its_observer() -> None:
    heard: dict[str, Counter] = {}

    class Ear(Observer):
        def __init__(self, camera: str) -> None:
            self.counts = heard[camera] = Counter()

        def pushed(self, modality, message, now_ns, finding) -> None:
            self.counts[modality] += 1

        def stepped(self, now_ns, label_map) -> None:
            self.counts["masks"] += label_map is not None

    streams = rigs.streams_of(rigs.CAMERAS[:2], ("top",))
    made = Rig(rigs.robot(streams), SPEC, engine(), observe=Ear)
    hang(made)
    maps = drive(made, rigs.schedule(1, streams))
    for camera in ("front", "left"):
        counts = heard[camera]
        assert counts == {
            f"rgb.{camera}": 20,
            "lidar.top": 10,
            "masks": sum(m.camera == camera for _, m in maps),
        }
