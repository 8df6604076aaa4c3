"""Arrays in, classes out: the same as the product on the same messages, or one sentence why not."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from numpy.typing import NDArray

import robustseg_core
from robustseg_core import modalities
from robustseg_core.codecs.compressed_depth import decode_depth
from robustseg_core.codecs.image import decode_image
from robustseg_core.codecs.points import decode_points
from robustseg_core.errors import RobustsegError
from robustseg_core.geometry.camera import Camera
from robustseg_core.geometry.transforms import pose
from robustseg_core.models import checkpoint
from robustseg_core.predictor import Predictor, Result
from robustseg_core.types import Fault, LabelMap
from support import drives

pytestmark = pytest.mark.slow

SUBSETS = [s for k in range(1, 5) for s in combinations(drives.ALL, k)]
K = np.array([[60.0, 0, 31.5], [0, 60.0, 23.5], [0, 0, 1]])
AHEAD = np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])
"""x forward of the LiDAR is z of the camera."""
OF_DRIVES = pose(0, 0, 0, *drives.OPTICAL)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(drives.engine().spec, drives.engine())


def inputs(names: tuple[str, ...] = drives.ALL) -> dict[str, Any]:
    """One moment of a healthy drive, as plain arrays."""
    rng = np.random.default_rng(3)
    cloud = decode_points(drives.message("lidar", 3))
    arrays = {
        "rgb": decode_image(drives.message("rgb", 3)),
        "depth": np.nan_to_num(decode_depth(drives.message("depth", 3))).astype(np.float64),
        "event": {
            "x": rng.integers(0, 64, 300),
            "y": rng.integers(0, 48, 300),
            "t_us": rng.integers(0, 40_000, 300),
            "polarity": rng.integers(0, 2, 300),
        },
        "lidar": np.column_stack([cloud.xyz, cloud.intensity]),
    }
    return {name: arrays[name] for name in names}


RIG: dict[str, Any] = {
    "camera": {"K": K, "size": (48, 64)},
    "extrinsics": {"lidar": AHEAD},
}


# The same as the product.


def masks_of(names: tuple[str, ...]) -> Iterator[tuple[LabelMap, dict[str, Any]]]:
    """Masks of a drive of these sensors, each with what had come until then, as arrays."""
    made = drives.segmenter()
    come: list[tuple[int, str, Any]] = []

    def noted() -> Iterator[tuple[int, str, Any]]:
        for row in drives.rows(1.2, names):
            come.append(row)
            yield row

    for now, label_map in drives.drive(made, noted()):
        rows = [row for row in come if row[0] <= now]
        yield label_map, {name: arrays_of(name, rows, label_map) for name in label_map.used}


def arrays_of(name: str, rows: list[tuple[int, str, Any]], label_map: LabelMap) -> Any:
    sent = [message for _, n, message in rows if n == name]
    if name == "event":
        return events_of(sent, label_map.stamp_ns)
    stamp_ns = label_map.bundle.frames[name].stamp_ns
    message = next(m for m in sent if stamp(m) == stamp_ns)
    if name == "rgb":
        return decode_image(message)
    if name == "depth":
        return decode_depth(message)
    cloud = decode_points(message)
    return np.column_stack([cloud.xyz, cloud.intensity])


def stamp(message: Any) -> int:
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


def events_of(sent: list[Any], until_ns: int) -> dict[str, Any]:
    decoder = modalities.load("event")()
    packets = [decoder.decode(message, stamp(message)) for message in sent]
    return {
        "x": np.concatenate([p.events.x for p in packets]),
        "y": np.concatenate([p.events.y for p in packets]),
        "p": np.concatenate([p.events.p for p in packets]),
        "t": np.concatenate([p.zero_ns // 1000 + p.events.t for p in packets]),
        "until_us": until_ns // 1000,
        "size": (48, 64),
    }


@pytest.mark.parametrize("names", SUBSETS, ids="+".join)
def test_a_mask_is_the_product_s_of_the_same_messages(names, predictor) -> None:
    masks = [(m, arrays) for m, arrays in masks_of(names) if m.used == names]
    assert len(masks) >= 5
    for label_map, arrays in masks[-5:]:
        result = predictor.predict(arrays, camera=RIG["camera"], extrinsics={"lidar": OF_DRIVES})
        assert result.used == names
        np.testing.assert_array_equal(result.ids, label_map.ids)
        np.testing.assert_array_equal(result.confidence, label_map.confidence)
        for name in names:
            np.testing.assert_array_equal(
                result.bundle.frames[name].array, label_map.bundle.frames[name].array
            )


@pytest.mark.parametrize("names", SUBSETS, ids="+".join)
def test_every_subset_makes_a_mask_of_the_camera_s_size(names, predictor) -> None:
    result = predictor.predict(inputs(names), **RIG)
    assert result.used == names and not result.findings
    assert result.ids.shape == result.confidence.shape == (48, 64)
    assert result.ids.dtype == result.confidence.dtype == np.uint8
    assert result.ids.max() < len(result.classes)


def test_calls_do_not_know_of_each_other(predictor) -> None:
    first = predictor.predict(inputs(), **RIG)
    predictor.predict({"depth": np.full((48, 64), 2.0)})
    larger = {"K": np.diag([2, 2, 1]) @ K, "size": (96, 128)}
    predictor.predict(inputs(("lidar",)), camera=larger, extrinsics={"lidar": AHEAD})
    again = predictor.predict(inputs(), **RIG)
    np.testing.assert_array_equal(again.ids, first.ids)
    assert not again.findings


# What may be given.


def test_without_a_camera_pictures_show_the_same_view_and_the_first_has_the_size(predictor) -> None:
    result = predictor.predict(
        {
            "rgb": np.zeros((36, 48, 3), np.uint8) + inputs()["rgb"][:36, :48],
            "depth": inputs()["depth"],
        }
    )
    assert result.ids.shape == (36, 48)
    events = inputs()["event"] | {"size": (48, 64)}
    assert predictor.predict({"event": events}).ids.shape == (48, 64)


@pytest.mark.parametrize(
    "camera",
    [
        K,
        K.tolist(),
        {"K": K},
        {"K": K, "size": (48, 64)},
        {"rgb": K},
        {"rgb": {"K": K, "distortion": np.zeros(5)}},
        Camera(48, 64, 60.0, 60.0, 31.5, 23.5),
    ],
    ids=["K", "rows", "mapping", "size", "by sensor", "lens", "Camera"],
)
def test_a_camera_may_be_said_in_several_ways(camera, predictor) -> None:
    wanted = predictor.predict(inputs(), **RIG)
    result = predictor.predict(inputs(), camera=camera, extrinsics={"lidar": AHEAD})
    np.testing.assert_array_equal(result.ids, wanted.ids)


def test_a_lens_of_its_own_is_registered(predictor) -> None:
    aside = np.eye(4)
    aside[0, 3] = 0.3
    other = {"K": K @ np.diag([0.8, 0.8, 1]), "size": (48, 64)}
    rig = {
        "camera": {"rgb": K, "depth": other, "event": other},
        "extrinsics": {"lidar": AHEAD, "depth": aside, "event": aside},
    }
    moved = predictor.predict(inputs(), **rig).bundle.frames
    still = predictor.predict(inputs(), **RIG).bundle.frames
    for name in ("depth", "event"):
        assert not np.array_equal(moved[name].array, still[name].array)
    for name in ("rgb", "lidar"):
        np.testing.assert_array_equal(moved[name].array, still[name].array)


def test_events_may_be_a_structured_array_in_any_order(predictor) -> None:
    columns = inputs()["event"]
    table = np.zeros(300, [("x", "u2"), ("y", "u2"), ("t", "i8"), ("p", "i1")])
    for theirs, ours in (("x", "x"), ("y", "y"), ("t", "t_us"), ("p", "polarity")):
        table[theirs] = columns[ours]
    table["p"] = 2 * table["p"] - 1
    wanted = predictor.predict({"event": columns}, camera=RIG["camera"])
    for rows in (table, table[::-1], table[np.argsort(table["t"])]):
        result = predictor.predict({"event": rows}, camera=RIG["camera"])
        np.testing.assert_array_equal(
            result.bundle.frames["event"].array, wanted.bundle.frames["event"].array
        )


def test_unknown_depth_is_0_or_nan_or_infinite_alike(predictor) -> None:
    depth = inputs()["depth"]
    arrays = []
    for unknown in (0, np.nan, np.inf, -1):
        depth[:5] = unknown
        arrays.append(predictor.predict({"depth": depth}).bundle.frames["depth"].array)
    for array in arrays:
        np.testing.assert_array_equal(array, arrays[0])
    assert not arrays[0][:, :3].any()


def test_what_the_product_would_reject_is_used_and_named_or_left_out_on_request(
    predictor, caplog
) -> None:
    black = inputs() | {"rgb": np.zeros((48, 64, 3), np.uint8)}
    result = predictor.predict(black, **RIG)
    assert result.used == drives.ALL
    assert [finding.fault for finding in result.findings["rgb"]] == [Fault.BLACK]
    assert "rgb: black" in caplog.text
    result = predictor.predict(black, **RIG, reject=True)
    assert result.used == drives.ALL[1:] and result.findings["rgb"]
    with pytest.raises(RobustsegError, match=r"nothing is left .*rgb: black.*; give other data"):
        predictor.predict({"rgb": black["rgb"]}, reject=True)


# What says nothing.

BEHIND = AHEAD @ np.diag([-1.0, -1, 1, 1])
"""x forward of the LiDAR is what lies behind the camera."""
BENT = {"rgb": {"K": K, "size": (48, 64), "distortion": [1e9, 0, 0, 0]}}
CROOKED = {"camera": RIG["camera"], "extrinsics": {"lidar": AHEAD.T}}
NOTHING: list[tuple[str, str, Any, dict[str, Any], Fault, str]] = [
    (
        "behind",
        "lidar",
        np.column_stack([np.full(9, 5.0), np.zeros((9, 2))]),
        RIG | {"extrinsics": {"lidar": BEHIND}},
        Fault.OUTSIDE,
        "^no point of lidar lands in the image; is T camera-from-lidar",
    ),
    (
        "inverse",
        "lidar",
        np.column_stack([np.full(9, 5.0), np.zeros((9, 2))]),
        CROOKED,
        Fault.OUTSIDE,
        "^no point of lidar lands in the image",
    ),
    (
        "bent",
        "lidar",
        np.column_stack([np.full(9, 5.0), np.ones((9, 2))]),
        RIG | {"camera": BENT},
        Fault.OUTSIDE,
        "^no point of lidar lands in the image",
    ),
    (
        "depth aside",
        "depth",
        np.full((48, 64), 5.0) + np.arange(64) / 100,
        {
            "camera": {"rgb": RIG["camera"], "depth": RIG["camera"]},
            "extrinsics": {"depth": np.diag([-1.0, 1, -1, 1])},
        },
        Fault.OUTSIDE,
        "^no pixel of depth lands in the image; is T camera-from-depth",
    ),
    ("empty", "lidar", np.zeros((0, 3)), RIG, Fault.EMPTY_CLOUD, "lidar: empty_cloud"),
    ("origins", "lidar", np.zeros((9, 4)), RIG, Fault.EMPTY_CLOUD, "lidar: empty_cloud"),
    ("NaN", "depth", np.full((48, 64), np.nan), RIG, Fault.INVALID_DEPTH, "depth: invalid_depth"),
    ("negative", "depth", np.full((48, 64), -1.0), RIG, Fault.INVALID_DEPTH, "invalid_depth"),
    ("infinite", "depth", np.full((48, 64), np.inf), RIG, Fault.INVALID_DEPTH, "invalid_depth"),
    (
        "no events",
        "event",
        {key: np.zeros(0, np.int64) for key in ("x", "y", "t_us", "polarity")},
        RIG,
        Fault.NO_EVENTS,
        "event: no_events",
    ),
    *(
        (
            f"until {until_us}",
            "event",
            {"until_us": until_us},
            RIG,
            Fault.OUTSIDE,
            rf"^all 300 events of event lie outside the 50 ms before {until_us} us, they happened "
            r"from \d+ to \d+ us; give until_us and t_us on one clock, in microseconds",
        )
        for until_us in (-1, 10**12)
    ),
]


@pytest.mark.parametrize(
    ("name", "data", "rig", "fault", "told"),
    [row[1:] for row in NOTHING],
    ids=[r[0] for r in NOTHING],
)
def test_a_sensor_that_says_nothing_is_not_used_and_makes_no_mask(
    name, data, rig, fault, told, predictor
) -> None:
    if name == "event":
        data = inputs()["event"] | {"size": (48, 64)} | data
    with pytest.raises(RobustsegError, match=told):
        predictor.predict({name: data}, **rig)
    result = predictor.predict(inputs(("rgb",)) | {name: data}, **rig)
    assert result.used == ("rgb",)
    assert fault in [finding.fault for finding in result.findings[name]]
    alone = predictor.predict(inputs(("rgb",)), camera=rig["camera"])
    np.testing.assert_array_equal(result.ids, alone.ids)


def test_nanoseconds_beside_a_moment_in_microseconds_are_outside_the_window(predictor) -> None:
    events = inputs()["event"] | {"until_us": 40_000}
    events["t_us"] = (events["t_us"] + 1000) * 1000
    with pytest.raises(RobustsegError, match="lie outside the 50 ms before 40000 us"):
        predictor.predict({"event": events}, camera=RIG["camera"])


def test_a_mask_of_an_array_that_hides_nothing_is_no_obstacle(predictor) -> None:
    image = np.ma.masked_array(inputs()["rgb"], mask=False)
    assert predictor.predict({"rgb": image}).used == ("rgb",)


# What comes out.


def test_a_result_knows_its_classes_and_draws_itself(predictor) -> None:
    result = predictor.predict(inputs(), **RIG)
    assert result.classes == predictor.classes == predictor.spec.classes
    assert result.palette == predictor.palette and len(result.palette) == len(result.classes)
    assert predictor.modalities == drives.ALL
    shares = result.shares()
    assert sum(shares.values()) == pytest.approx(1) and set(shares) <= set(result.classes)
    assert list(shares.values()) == sorted(shares.values(), reverse=True)
    overlay = result.overlay()
    assert overlay.shape == (48, 64, 3) and overlay.dtype == np.uint8
    assert "used=('rgb', 'depth', 'event', 'lidar')" in repr(result)


@pytest.mark.parametrize("names", [("rgb",), ("lidar",), drives.ALL], ids="+".join)
def test_a_plot_shows_every_sensor_that_was_used(names, predictor, tmp_path) -> None:
    figure = predictor.predict(inputs(names), **RIG).plot()
    titles = [axes.get_title() for axes in figure.axes]
    assert [title for title in titles if title in drives.ALL] == list(names)
    assert {"classes", "confidence"} <= set(titles)
    figure.savefig(tmp_path / "plot.png", dpi=30)
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_the_overlay_of_points_alone_is_drawn_over_points(predictor) -> None:
    result: Result = predictor.predict(inputs(("lidar",)), **RIG)
    assert result.picture is None
    assert result.overlay().shape == (48, 64, 3)


# Which weights.


def test_the_shipped_student_is_loaded_by_its_name_and_any_by_its_path(tmp_path) -> None:
    shipped = robustseg_core.load("street", device="cpu")
    assert shipped.classes[:2] == ("road", "sidewalk")
    model = checkpoint.untrained(checkpoint.default_spec(("rgb",), size=(32, 64)))
    checkpoint.save(tmp_path / "own.safetensors", model)
    for path in (tmp_path / "own.safetensors", str(tmp_path / "own.safetensors")):
        assert robustseg_core.load(path, device="cpu").modalities == ("rgb",)


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        ("stret", "no weights and no checkpoint file called 'stret'; did you mean 'street'.$"),
        ("nowhere/best.safetensors", "does not exist"),
        ("best.pt", "does not exist"),
    ],
)
def test_weights_that_are_not_there_are_named(weights, told) -> None:
    with pytest.raises(RobustsegError, match=told):
        robustseg_core.load(weights)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"weights": None}, "weights is None; give the name"),
        ({"weights": 123}, "weights is 123; give the name"),
        ({"weights": ""}, "weights is ''; give the name"),
        ({"weights": "x" * 9999}, "no weights and no checkpoint file called 'xxx"),
        ({"device": None}, "device is None; expected auto, cpu"),
        ({"device": 7}, "device is 7; expected auto, cpu"),
        ({"cpu_threads": -1}, "cpu_threads is -1: .*greater than or equal to 0"),
        ({"cpu_threads": "4"}, "cpu_threads is '4': .*valid integer"),
        ({"cpu_threads": 1.5}, "cpu_threads is 1.5: .*valid integer"),
        ({"cpu_threads": 10**9}, "cpu_threads is 1000000000: .*less than or equal to 1024"),
        ({"cpu_threads": None}, "cpu_threads is None"),
    ],
    ids=str,
)
def test_an_option_that_cannot_be_is_said_in_a_sentence(options, told) -> None:
    with pytest.raises(RobustsegError, match=told):
        robustseg_core.load(**options)


# What cannot be used.

IMAGE = np.zeros((48, 64, 3), np.uint8)
DEPTH = np.ones((48, 64))
POINTS = np.ones((9, 3))
EVENTS = {"x": [1], "y": [2], "t_us": [3], "polarity": [1], "size": (48, 64)}
LIDAR = {"lidar": POINTS}
WRONG: list[tuple[str, Any, dict[str, Any], str]] = [
    ("nothing", {}, {}, "inputs is empty; give one of rgb, depth, event, lidar"),
    ("an array alone", IMAGE, {}, r"inputs is a ndarray; give a mapping, as \{'rgb': image\}"),
    ("unknown sensor", {"lidr": POINTS}, {}, "knows no 'lidr'; did you mean 'lidar'"),
    ("None", {"rgb": None}, {}, "rgb is None; leave a sensor out"),
    ("0 to 1", {"rgb": IMAGE / 255}, {}, r"rgb is float64 from 0 to 0; .*\(rgb \* 255\).round\(\)"),
    ("0 to 255 floats", {"rgb": IMAGE + 2.5}, {}, r"rgb is float64 .*rgb.round\(\)"),
    ("normalized", {"rgb": IMAGE - 2.5}, {}, "before any normalization"),
    ("NaN", {"rgb": IMAGE * np.nan}, {}, "rgb is float64 from nan to nan; give uint8"),
    ("16 bits", {"rgb": IMAGE.astype(np.uint16)}, {}, r"rgb is uint16 .*\(rgb >> 8\)"),
    ("batch", {"rgb": IMAGE[None]}, {}, r"rgb has shape \(1, 48, 64, 3\), a batch; .* rgb\[0\]"),
    ("channels first", {"rgb": IMAGE.transpose(2, 0, 1)}, {}, r"rgb.transpose\(1, 2, 0\)"),
    ("alpha", {"rgb": np.dstack([IMAGE, IMAGE[..., :1]])}, {}, r"rgb\[\.\.\., :3\]"),
    ("gray", {"rgb": IMAGE[..., 0]}, {}, r"gray; give np.stack\(\[rgb\] \* 3, axis=-1\)"),
    ("no pixel", {"rgb": IMAGE[:0]}, {}, "at least one pixel"),
    ("words", {"rgb": "street.png"}, {}, r"rgb is a str; give an \(H, W, 3\) uint8 array"),
    ("ragged", {"rgb": [[1], [1, 2]]}, {}, "rgb is no array"),
    ("millimetres", {"depth": DEPTH.astype(np.uint16)}, {}, "millimetres are depth / 1000"),
    ("depth channels", {"depth": DEPTH[..., None]}, {}, r"expected \(H, W\); give depth.squeeze"),
    ("depth batch", {"depth": np.ones((2, 48, 64))}, {}, r"has shape \(2, 48, 64\); expected"),
    ("points with 2", {"lidar": POINTS[:, :2]}, RIG, r"\(9, 2\); expected \(N, 3\) or \(N, 4\)"),
    ("points aside", {"lidar": np.ones((4, 99))}, RIG, r"a point a column; give lidar.T"),
    (
        "points without end",
        {"lidar": np.broadcast_to(np.float32(3), (2**40, 3))},
        RIG,
        "lidar has 1099511627776 points; give at most",
    ),
    ("points of 3 by 2", {"lidar": np.ones((3, 2))}, RIG, r"give lidar.T"),
    ("points, no camera", LIDAR, {}, r"lidar cannot be placed without a camera; give camera=K"),
    (
        "points, no place",
        LIDAR,
        {"camera": RIG["camera"]},
        r"lidar cannot be placed without extrinsics; give extrinsics=\{'lidar': T\}",
    ),
    (
        "points, no size",
        LIDAR,
        {"camera": K, "extrinsics": {"lidar": AHEAD}},
        r"camera of rgb does not say how many pixels it has; give \{'K': K, 'size': \(H, W\)\}",
    ),
    ("event list", {"event": [1, 2]}, {}, "event is a list; give a mapping or a structured"),
    (
        "event size",
        {"event": {k: v for k, v in EVENTS.items() if k != "size"}},
        {},
        r"does not say how many pixels its sensor has; "
        r"give event\['size'\] = \(H, W\), or a camera",
    ),
    ("event lacks", {"event": {"x": [1], "y": [1]}}, {}, "event lacks 't_us'; it has"),
    ("event typo", {"event": EVENTS | {"polarty": [1]}}, {}, "no 'polarty'; did you mean 'polari"),
    ("event twice", {"event": EVENTS | {"t": [1]}}, {}, "event has 't_us' twice"),
    ("event lengths", {"event": EVENTS | {"y": [1, 2]}}, {}, r"expected \(1,\), one for each x"),
    ("event off", {"event": EVENTS | {"x": [64]}}, {}, "is 64 to 64 on a sensor of 48x64"),
    ("event half", {"event": EVENTS | {"x": [0.5]}}, {}, "is float64 .* whole numbers"),
    ("event seconds", {"event": EVENTS | {"t_us": [0.1]}}, {}, r"\['t_us'\] is float64"),
    ("event ns", {"event": EVENTS | {"t_us": [2**60]}}, {}, r"microseconds below 2 \*\* 53"),
    ("event polarity", {"event": EVENTS | {"polarity": [7]}}, {}, "1 for brighter"),
    ("event sensor", {"event": EVENTS | {"size": 48}}, {}, r"give \(height, width\) of the sensor"),
    ("event moments", {"event": EVENTS | {"until_us": [1, 2]}}, {}, "give one number"),
    ("event until", {"event": EVENTS | {"until_us": "now"}}, {}, "until_us"),
    (
        "event until 2 ** 70",
        {"event": EVENTS | {"until_us": 2**70}},
        {},
        r"\['until_us'\] is 1180591620717411303424; give whole microseconds below 2 \*\* 53",
    ),
    (
        "event beyond rgb",
        {"rgb": IMAGE, "event": {k: v for k, v in EVENTS.items() if k != "size"} | {"x": [64]}},
        {},
        "is 64 to 64 on a sensor of 48x64",
    ),
    ("wide", {"rgb": IMAGE, "depth": np.ones((48, 80))}, {}, r"depth has 48x80 .* rgb 48x64, anot"),
    ("high", {"rgb": IMAGE, "event": EVENTS | {"size": (64, 64)}}, {}, r"event has 64x64 .*aspect"),
    ("narrow", {"depth": np.ones((48, 32))}, RIG, r"depth has 48x32 .* rgb 48x64, .*aspect"),
    (
        "masked depth",
        {"depth": np.ma.masked_less(np.eye(48), 1)},
        {},
        r"masked array, 2256 of its 2304 values masked; give plain values: depth.filled\(",
    ),
    ("masked rgb", {"rgb": np.ma.masked_equal(IMAGE, 0)}, {}, "rgb is a masked array"),
    (
        "masked event",
        {"event": EVENTS | {"x": np.ma.masked_equal([1], 1)}},
        {},
        r"event\['x'\] is a masked array",
    ),
    ("fisheye", {"rgb": IMAGE}, {"camera": {"K": K, "fisheye": "no"}}, "'no'; give True or False"),
    ("K of 4", {"rgb": IMAGE}, {"camera": np.eye(4)}, "give a 3x3 matrix"),
    ("K aside", {"rgb": IMAGE}, {"camera": K.T}, r"expected \[\[fx, 0, cx\]"),
    ("K of 0", {"rgb": IMAGE}, {"camera": np.diag([0, 0, 1])}, "focal lengths 0 and 0"),
    ("K NaN", {"rgb": IMAGE}, {"camera": K * np.nan}, "not finite"),
    ("K of others", {"rgb": IMAGE}, {"camera": 20 * K}, "K"),
    ("K of none", {"rgb": IMAGE}, {"camera": {"size": (3, 4)}}, "knows no 'size'"),
    ("camera typo", {"rgb": IMAGE}, {"camera": {"K": K, "siz": 3}}, "did you mean 'size'"),
    ("camera size", {"rgb": IMAGE}, {"camera": {"K": K, "size": (64.5, 3)}}, "camera's size is"),
    (
        "camera of others",
        {"rgb": IMAGE},
        {"camera": {"K": K, "size": (48, 90)}},
        r"for 48x90 pixels \(H, W\), but the data have 48x64",
    ),
    ("lens", {"rgb": IMAGE}, {"camera": {"K": K, "distortion": [1, 2]}}, r"\[1, 2\]; give 4 or 5"),
    ("lens of words", {"rgb": IMAGE}, {"camera": {"K": K, "distortion": "none"}}, "distortion"),
    ("camera of nobody", {"rgb": IMAGE}, {"camera": {"rbg": K}}, "did you mean 'rgb'"),
    ("extrinsics of nobody", {"rgb": IMAGE}, {"extrinsics": {"lidr": AHEAD}}, "mean 'lidar'"),
    ("extrinsics alone", {"rgb": IMAGE}, {"extrinsics": AHEAD}, "give a mapping"),
    ("extrinsics of 3", {"rgb": IMAGE}, {"extrinsics": {"lidar": np.eye(3)}}, "give a 4x4 matrix"),
    ("extrinsics aside", LIDAR, RIG | {"extrinsics": {"lidar": AHEAD + np.eye(4)[3]}}, "last row"),
    ("extrinsics grow", LIDAR, RIG | {"extrinsics": {"lidar": np.diag([2, 2, 2, 1])}}, "rotation"),
    ("mirror", LIDAR, RIG | {"extrinsics": {"lidar": np.diag([-1, 1, 1, 1])}}, "rotation"),
    (
        "extrinsics of mm",
        LIDAR,
        RIG | {"extrinsics": {"lidar": np.block([[np.eye(3), np.full((3, 1), 900)], [AHEAD[3:]]])}},
        "1558.8 m from the camera, limit 100 m; give metres",
    ),
    ("rgb moved", {"rgb": IMAGE}, {"camera": K, "extrinsics": {"rgb": AHEAD}}, "not the identity"),
    (
        "depth moved",
        {"depth": DEPTH},
        RIG | {"extrinsics": {"depth": np.eye(4)}},
        "needs the camera of depth, too",
    ),
    (
        "depth lens",
        {"depth": DEPTH},
        {"camera": {"rgb": RIG["camera"], "depth": K}},
        "depth cannot be placed without extrinsics",
    ),
]


@pytest.mark.parametrize(
    ("arrays", "rig", "told"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG]
)
def test_what_cannot_be_used_is_said_in_a_sentence(arrays, rig, told, predictor) -> None:
    with pytest.raises(RobustsegError, match=told) as caught:
        predictor.predict(arrays, **rig)
    assert "\n" not in str(caught.value)


_SHAPES = st_numpy.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=8)
_ARRAYS = st_numpy.arrays(
    st.one_of(
        st_numpy.floating_dtypes(sizes=(32, 64)),
        st_numpy.integer_dtypes(),
        st_numpy.unsigned_integer_dtypes(),
        st_numpy.boolean_dtypes(),
    ),
    _SHAPES,
)


def _rows(count: int) -> st.SearchStrategy[NDArray[Any]]:
    return st_numpy.arrays(np.int64, count, elements=st.integers(-2, 70))


@settings(max_examples=150, database=None)
@given(
    name=st.sampled_from(drives.ALL),
    array=_ARRAYS,
    event=st.fixed_dictionaries(
        {"x": _rows(5), "y": _rows(5), "t_us": _rows(5), "p": _rows(5)},
        optional={"size": st.tuples(st.integers(-1, 80), st.integers(-1, 80)), "until_us": _ARRAYS},
    ),
    as_event=st.booleans(),
)
def test_any_array_makes_a_mask_or_a_sentence(name, array, event, as_event) -> None:
    given_ = event if name == "event" and as_event else array
    predictor = Predictor(drives.engine().spec, drives.engine())
    try:
        result = predictor.predict({name: given_}, **RIG)
    except RobustsegError as error:
        assert "\n" not in str(error)
        return
    assert result.used == (name,)
    assert np.isfinite(result.bundle.frames[name].array).all()
    assert result.ids.shape == (48, 64)


def test_a_sensor_that_the_network_cannot_be_fed_is_refused_and_the_others_serve() -> None:
    hha = {"depth": {"representation": "hha"}}
    spec = drives.engine().spec.model_copy(update={"encodings": hha})
    made = Predictor(spec, drives.engine())
    assert made.predict(inputs(("rgb",))).used == ("rgb",)
    with pytest.raises(RobustsegError, match=r"inputs: depth cannot be fed, .*\(hha\).*leave it"):
        made.predict(inputs(("rgb", "depth")))
