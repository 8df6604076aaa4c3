"""What every file in `modalities/` promises: arrays from good messages, reasons for bad ones."""

from __future__ import annotations

import copy
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustseg_core import modalities
from robustseg_core.config import Strict
from robustseg_core.errors import RobustsegError
from robustseg_core.geometry.view import View
from robustseg_core.modalities import Modality
from robustseg_core.types import MS, Fault, Reading, Rejection
from support import makers, sonar
from support.planted import plant
from support.twins import both

RNG = np.random.default_rng(17)
STAMP = 1_000_000_000
SIZE = (96, 128)
SCENE = cv2.resize(RNG.integers(0, 256, (12, 16, 3), np.uint8), (160, 120))
METRES = cv2.resize(RNG.uniform(0.6, 8, (12, 16)).astype(np.float32), (160, 120))
POINTS = RNG.uniform([-3, -2, 1], [3, 2, 20], (400, 3))


def words(count: int = 300) -> np.ndarray:
    """EVT3: a clock, then rows with one event each."""
    events = [0x8005, 0x6010]
    for _ in range(count):
        events += [
            int(RNG.integers(480)),
            0x2000 | int(RNG.integers(2)) << 11 | int(RNG.integers(640)),
        ]
    return np.array(events, np.uint16)


def mm() -> np.ndarray:
    return (METRES * 1000).astype(np.uint16)


VALID: dict[str, dict[str, Any]] = {
    "rgb": {
        "raw": makers.image(SCENE, "rgb8", STAMP),
        "bayer": makers.image(SCENE[..., 0], "bayer_rggb8", STAMP),
        "jpeg": makers.compressed(SCENE, STAMP),
    },
    "depth": {
        "millimetres": makers.image(mm(), "16UC1", STAMP),
        "metres": makers.image(METRES, "32FC1", STAMP),
        "png": makers.compressed(mm(), STAMP, form="png"),
    },
    "lidar": {"xyzi": makers.xyz(POINTS, stamp_ns=STAMP)},
    "event": {"evt3": makers.events(words(), STAMP - 5 * MS)},
}
CASES = [(name, form) for name, forms in VALID.items() for form in forms]


def view() -> View:
    """A camera's, in which every sensor above is placed."""
    made = View(SIZE)
    info = makers.camera_info(height=120, width=160, fx=100)
    made.set_camera_info("rgb", info)
    frames = {m.header.frame_id for forms in VALID.values() for m in forms.values()}
    for frame in sorted(frames - {info.header.frame_id}):
        made.add_transforms(makers.transform(info.header.frame_id, frame))
    return made


def through(modality: Modality, message: Any, where: View) -> np.ndarray:
    """Decode, judge, fingerprint and encode one message, as the segmenter does."""
    data = modality.decode(message, STAMP)
    for finding in modality.check(data):
        assert 0 <= finding.score <= 1
        assert finding.text
    assert isinstance(modality.digest(message), int)
    frame_id = message.header.frame_id
    if modality.usable(frame_id, where):
        raise Rejection(Fault.NO_TF, "not placed")
    array = modality.encode([Reading(modality.name, STAMP, frame_id, data)], where, STAMP)
    assert array.shape == (modality.encoding.channels, *SIZE)
    assert array.dtype == np.float32
    assert np.isfinite(array).all()
    picture = modality.picture(array)
    assert picture.shape == (*SIZE, 3)
    assert picture.dtype == np.uint8
    return array


def test_every_modality_in_the_folder_is_tested_here() -> None:
    assert sorted(VALID) == modalities.available()


@pytest.mark.parametrize(("name", "form"), CASES)
def test_a_good_message_becomes_an_array_on_the_grid(name: str, form: str) -> None:
    message = VALID[name][form]
    assert message.__msgtype__ in modalities.load(name).messages
    arrays = [through(modalities.load(name)(), made, view()) for made in both(message)]
    assert arrays[0].any()
    for array in arrays:
        np.testing.assert_array_equal(array, arrays[0])


@pytest.mark.parametrize(("name", "form"), CASES)
def test_who_knows_distances_has_points_where_the_network_sees_something(name: str, form: str):
    modality, message, where = modalities.load(name)(), VALID[name][form], view()
    data = modality.decode(message, STAMP)
    reading = Reading(name, STAMP, message.header.frame_id, data)
    placed = modality.placed(reading, where)
    assert (placed is not None) is modality.ranges
    if placed is not None:
        points = modality.points(placed)
        assert points.dtype == np.float32 and points.shape == (len(points), 3)
        assert np.isfinite(points).all()
        landed = placed.lands(points, SIZE)
        assert len(landed.index) > 100
        seen = modality.encode([reading], where, STAMP)
        assert seen[:, landed.rows, landed.cols].any(axis=0).all()


def test_who_comes_by_image_transport_has_images() -> None:
    for name in VALID:
        kind = modalities.load(name)
        assert not set(kind.transports) - {"raw", "compressed", "compressedDepth"}
        if kind.transports:
            assert {"sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"} <= set(
                kind.messages
            )
            assert kind.transports[0] == "raw"


@pytest.mark.parametrize(("name", "form"), CASES)
def test_a_good_message_raises_no_alarm(name: str, form: str) -> None:
    modality = modalities.load(name)()
    assert list(modality.check(modality.decode(VALID[name][form], STAMP))) == []


@pytest.mark.parametrize(("name", "form"), CASES)
def test_a_fingerprint_changes_with_the_content_and_only_with_it(name: str, form: str) -> None:
    modality = modalities.load(name)()
    message = VALID[name][form]
    same = copy.deepcopy(message)
    same.header.stamp.nanosec += 1
    assert modality.digest(same) == modality.digest(message)
    assert {modality.digest(made) for made in both(message)} == {modality.digest(message)}
    payload = modality.payload
    other = getattr(same, payload).copy()
    other[len(other) // 2 :: 7] ^= 1  # the least noise a sensor has
    setattr(same, payload, other)
    assert modality.digest(same) != modality.digest(message)


@pytest.mark.parametrize("name", VALID)
def test_a_message_of_another_type_is_rejected_not_crashed_on(name: str) -> None:
    modality = modalities.load(name)()
    strangers = [m for other, forms in VALID.items() if other != name for m in forms.values()]
    strangers += [makers.header(), SimpleNamespace(), None]
    for stranger in strangers:
        if getattr(stranger, "__msgtype__", None) in modality.messages:
            continue  # rgb and depth share their types; the encoding decides, see below
        with pytest.raises(Rejection):
            modality.decode(stranger, STAMP)


@pytest.mark.parametrize(("name", "form"), CASES)
def test_a_field_that_is_nonsense_is_rejected_not_crashed_on(name: str, form: str) -> None:
    for field in fields(VALID[name][form]):
        if field.name in ("header", "__msgtype__", "is_bigendian", "is_dense", "time_base"):
            continue
        for nonsense in (None, -1, "nonsense", 2.5, [], object()):
            if field.name == "format" and isinstance(nonsense, str):
                continue  # free text; the bytes tell what they are
            message = copy.copy(VALID[name][form])
            setattr(message, field.name, nonsense)
            with pytest.raises(Rejection):
                through(modalities.load(name)(), message, view())


@pytest.mark.parametrize(("name", "form"), CASES)
def test_mutated_messages_are_used_or_rejected_and_never_worse(name: str, form: str) -> None:
    where = view()
    valid = VALID[name][form]
    payload = modalities.load(name).payload
    integers = [
        f for f in ("height", "width", "step", "point_step", "row_step", "seq") if hasattr(valid, f)
    ]
    number = st.one_of(st.integers(0, 300), st.integers(0, 2**32 - 1))

    @settings(max_examples=60, database=None)
    @given(
        changes=st.dictionaries(st.sampled_from(integers), number, max_size=2)
        if integers
        else st.just({}),
        flips=st.lists(st.tuples(st.integers(0, 2**20), st.integers(1, 255)), max_size=8),
        cut=st.one_of(st.just(1.0), st.floats(0, 1)),
        big=st.booleans(),
    )
    def mutate(
        changes: dict[str, int], flips: list[tuple[int, int]], cut: float, big: bool
    ) -> None:
        message = copy.copy(valid)
        for field, value in changes.items():
            setattr(message, field, value)
        data = getattr(valid, payload).copy()
        for place, bits in flips:
            data[place % len(data)] ^= bits
        setattr(message, payload, data[: int(len(data) * cut)])
        if hasattr(message, "is_bigendian"):
            message.is_bigendian = big
        try:
            through(modalities.load(name)(), message, where)
        except Rejection as rejection:
            assert rejection.finding.fatal
            assert rejection.finding.text

    mutate()


@pytest.mark.parametrize("name", VALID)
def test_every_option_explains_itself(name: str) -> None:
    kind = modalities.load(name)
    for group in (kind.Encoding, kind.Limits):
        assert issubclass(group, Strict)
        assert group.__doc__
        for key, option in group.model_fields.items():
            assert option.description, f"{name}.{group.__name__}.{key} has no description"


@pytest.mark.parametrize("name", VALID)
def test_a_modality_that_was_reset_behaves_like_a_new_one(name: str) -> None:
    message = next(iter(VALID[name].values()))
    modality = modalities.load(name)()
    first = through(modality, message, view())
    through(modality, message, view())
    modality.reset()
    np.testing.assert_array_equal(through(modality, message, view()), first)


@pytest.mark.parametrize("name", VALID)
def test_limits_that_are_no_limits_are_refused_by_name(name: str) -> None:
    with pytest.raises(RobustsegError, match=rf"streams\.{name}\.limits\.magic"):
        modalities.load(name)(limits={"magic": 1})


@pytest.mark.parametrize("channels", [1, 4, 5])
def test_a_new_modality_keeps_the_contract_whatever_its_channels(
    channels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One file and one valid message, as CONTRIBUTING.md says; its frame is one of its own."""
    plant(monkeypatch, tmp_path, modalities, "sonar", sonar.file(channels))
    monkeypatch.setitem(VALID, "sonar", {"targets": sonar.message(STAMP)})
    test_every_modality_in_the_folder_is_tested_here()
    for check in (
        test_a_good_message_becomes_an_array_on_the_grid,
        test_a_good_message_raises_no_alarm,
        test_a_fingerprint_changes_with_the_content_and_only_with_it,
        test_a_field_that_is_nonsense_is_rejected_not_crashed_on,
        test_mutated_messages_are_used_or_rejected_and_never_worse,
    ):
        check("sonar", "targets")
    for check_all in (
        test_a_message_of_another_type_is_rejected_not_crashed_on,
        test_every_option_explains_itself,
        test_a_modality_that_was_reset_behaves_like_a_new_one,
        test_limits_that_are_no_limits_are_refused_by_name,
    ):
        check_all("sonar")
