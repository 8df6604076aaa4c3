"""The TF tree in motion: poses between poses as SciPy has them, and what is refused."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation, Slerp

from robustseg_core.geometry.motion import LATE_NS, MOST_POSES, Motion, alike
from robustseg_core.geometry.transforms import Moment, TransformTree
from robustseg_core.types import MS, SECOND, Fault, Rejection
from support.makers import transform

KEPT = 10 * SECOND
START = 1_700_000_000 * SECOND


def at(stamp_ns: int) -> Moment:
    return Moment(stamp_ns, stamp_ns)


def stamped(parent: str, child: str, stamp_ns: int, *pose: Any) -> Any:
    """A TFMessage of one transform, with a stamp."""
    message = transform(parent, child, *pose)
    stamp = message.transforms[0].header.stamp
    message.transforms[0].header.stamp = type(stamp)(stamp_ns // SECOND, stamp_ns % SECOND)
    return message


def together(*several: Any) -> Any:
    """All of them in one message."""
    several[0].transforms = [row for message in several for row in message.transforms]
    return several[0]


def matrix(translation: Any, rotation: Rotation) -> np.ndarray:
    made = np.eye(4)
    made[:3, :3], made[:3, 3] = rotation.as_matrix(), translation
    return made


def yaw(degrees: float) -> tuple[float, float, float, float]:
    half = math.radians(degrees) / 2
    return 0.0, 0.0, math.sin(half), math.cos(half)


turns = st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: math.hypot(*q) > 0.1)
places = st.tuples(*[st.floats(-50, 50)] * 3)
poses = st.tuples(places, turns)
rows = st.lists(
    st.tuples(st.integers(0, 9 * SECOND), poses), min_size=2, max_size=12, unique_by=lambda r: r[0]
)


def unit(q: Any) -> tuple[float, ...]:
    return tuple(np.array(q) / np.linalg.norm(q))


def seven(pose: Any) -> Any:
    return *pose[0], *unit(pose[1])


# -- one frame ----------------------------------------------------------------------------------


@given(rows, st.floats(0, 1), st.randoms(use_true_random=False))
def test_between_two_poses_lies_what_scipy_puts_there(made, share, rng):
    ordered = sorted(made)
    rng.shuffle(made)
    motion = Motion("base", KEPT)
    for stamp_ns, pose in made:  # in any order, as several publishers deliver
        motion.add(START + stamp_ns, seven(pose))
    stamps = [stamp_ns for stamp_ns, _ in ordered]
    if len(motion) < len(ordered):  # one went back by more than a second: set aside, or refused
        return
    asked = stamps[0] + round(share * (stamps[-1] - stamps[0]))
    found = motion.between(START + asked)
    times = [float(stamp) for stamp in stamps]  # exact; seconds a nanosecond apart are not
    turn = Slerp(times, Rotation.from_quat([unit(pose[1]) for _, pose in ordered]))
    expected = turn(asked)
    place = [np.interp(asked, times, [p[0][axis] for _, p in ordered]) for axis in range(3)]
    np.testing.assert_allclose(found[:3], place, atol=1e-6)
    gap = (Rotation.from_quat(found[3:]) * expected.inv()).magnitude()
    widest = max((a * b.inv()).magnitude() for a, b in _neighbours(ordered))
    if widest < math.pi - 1e-3:  # at half a turn both arcs are shortest
        assert gap < 1e-5
    assert math.hypot(*found[3:]) == pytest.approx(1)


def _neighbours(ordered: Any) -> list[Any]:
    turned = [Rotation.from_quat(unit(pose[1])) for _, pose in ordered]
    return list(pairwise(turned))


def test_a_quarter_of_the_way_of_a_turn_by_80_degrees_is_20():
    motion = Motion("base", KEPT)
    motion.add(0, (0, 0, 0, *yaw(0)))
    motion.add(100 * MS, (4, 0, 0, *[-n for n in yaw(80)]))  # -q is the same rotation
    assert motion.between(25 * MS) == pytest.approx((1, 0, 0, *yaw(20)))


def test_nothing_is_extrapolated():
    motion = Motion("base", KEPT)
    motion.add(0, (0, 0, 0, *yaw(0)))
    motion.add(100 * MS, (4, 0, 0, *yaw(80)))
    assert motion.between(150 * MS) == (4, 0, 0, *yaw(80)) and motion.beyond_ns(150 * MS) == 50 * MS
    assert motion.between(-10) == (0, 0, 0, *yaw(0)) and motion.beyond_ns(-10) == -10
    assert motion.beyond_ns(60 * MS) == 0


def test_the_past_is_bounded_in_time_and_in_number():
    motion = Motion("base", KEPT)
    for k in range(3000):
        assert motion.add(k * 10 * MS, (k, 0, 0, 0, 0, 0, 1)) == ""
    assert len(motion) == 1001 and motion.beyond_ns(19_980 * MS) == -10 * MS
    fast = Motion("base", KEPT)
    for k in range(MOST_POSES + 100):
        fast.add(k, (0, 0, 0, 0, 0, 0, 1))
    assert len(fast) == MOST_POSES


def test_the_same_stamp_again_is_no_news_and_another_pose_for_it_is_refused():
    motion = Motion("base", KEPT)
    motion.add(7, (1, 0, 0, *yaw(10)))
    assert motion.add(7, (1, 0, 0, *[-n for n in yaw(10)])) == ""
    assert "two different poses" in motion.add(7, (2, 0, 0, *yaw(10)))
    assert motion.between(7)[0] == 1 and len(motion) == 1


@pytest.mark.parametrize("wild_ns", [-2 * LATE_NS, -(10**6) * SECOND, KEPT + 1, 10**6 * SECOND])
def test_one_wild_stamp_is_refused_and_a_clock_that_jumps_is_followed(wild_ns):
    motion = Motion("base", KEPT)
    for k in range(20):
        motion.add(START + k * 10 * MS, (k, 0, 0, 0, 0, 0, 1))
    here = START + 200 * MS
    assert motion.add(here + wild_ns, (99, 0, 0, 0, 0, 0, 1)) == ""  # it may be a jump
    assert motion.newest()[0] == 19
    assert "s from the others'" in motion.add(here, (20, 0, 0, 0, 0, 0, 1))
    assert motion.newest()[0] == 20 and len(motion) == 21
    for k in range(3):
        assert motion.add(here + wild_ns + k * 10 * MS, (k, 0, 0, 0, 0, 0, 1)) == ""
    assert len(motion) == 3 and motion.newest() == (2, 0, 0, 0, 0, 0, 1)


@given(st.tuples(places, turns), st.sampled_from([1, -1]))
def test_a_rotation_and_its_twin_are_alike(pose, sign):
    one = seven(pose)
    assert alike(one, (*one[:3], *(sign * each for each in one[3:])))
    assert not alike(one, (one[0] + 0.1, *one[1:]))


# -- the tree -----------------------------------------------------------------------------------


@given(
    st.lists(
        st.tuples(poses, poses, st.sampled_from(["up", "down", "still"])), min_size=1, max_size=5
    ),
    st.integers(0, 100),
    st.integers(0, 100),
    st.integers(0, 5),
)
def test_a_chain_is_the_product_of_its_links_each_at_its_time(chain, sensor, view, top):
    """Against SciPy: links up to the frame where the sides meet at the view's time, the rest at
    the sensor's; tf2's lookupTransform with two times and that frame fixed."""
    tree = TransformTree()
    top = min(top, len(chain))
    expected = np.eye(4)
    asked = Moment(sensor * MS, view * MS)
    for k, (first, last, kind) in enumerate(chain):
        upward = k < top  # f0 is the target; f0 .. f(top) climb, the rest go down
        parent, child = (f"f{k + 1}", f"f{k}") if upward else (f"f{k}", f"f{k + 1}")
        if kind == "still":
            tree.add(transform(parent, child, first[0], unit(first[1])))
        tree.move(stamped(parent, child, 0, first[0], unit(first[1])))
        share = 0.0 if kind == "still" else (view if upward else sensor) / 100
        one, two = (Rotation.from_quat(unit(p[1])) for p in (first, last))
        turn = Slerp([0, 1], Rotation.concatenate([one, two]))(share)
        here = matrix((1 - share) * np.array(first[0]) + share * np.array(last[0]), turn)
        expected = expected @ (np.linalg.inv(here) if upward else here)
        if abs((one * two.inv()).magnitude() - math.pi) < 1e-3:
            return  # both arcs are shortest
    source = f"f{len(chain)}"
    route = tree.route("f0", source)  # asked for: from now on its motion is kept
    assert route is not None
    for k, (_, last, kind) in enumerate(chain):
        upward = k < top
        parent, child = (f"f{k + 1}", f"f{k}") if upward else (f"f{k}", f"f{k + 1}")
        if kind != "still":
            tree.move(stamped(parent, child, 100 * MS, last[0], unit(last[1])))
    assert set(route.moving) == {link.child for link in route.links if link.fixed is None}
    np.testing.assert_allclose(tree.follow(route, asked), expected, atol=1e-5)


def moving(**options: Any) -> TransformTree:
    """camera - base (static), base - pan (moves), pan - lidar (static); somebody has asked."""
    tree = TransformTree(**options)
    tree.add(transform("base", "camera", (0.5, 0, 0)))
    tree.add(transform("pan", "lidar", (0, 0, 0.25)))
    tree.move(stamped("base", "pan", START, (0, 0, 1), yaw(0)))
    assert tree.way("camera", "lidar", at(START)) is not None
    return tree


def test_a_mount_that_moves_is_where_it_was_at_the_time():
    tree = moving()
    assert tree.move(stamped("base", "pan", START + 100 * MS, (0, 0, 1), yaw(60))) == (False, None)
    way = tree.way("camera", "lidar", at(START + 50 * MS))
    expected = matrix((-0.5, 0, 1.25), Rotation.from_euler("z", 30, degrees=True))
    np.testing.assert_allclose(way, expected, atol=1e-9)


@pytest.mark.parametrize("off_ms, words", [(201, "newest.*older"), (-201, "oldest.*newer")])
def test_beyond_the_grace_the_way_is_refused_by_name_and_within_it_the_nearest_pose_is_used(
    off_ms, words
):
    tree = moving()
    stamp_ns = START + off_ms * MS
    with pytest.raises(Rejection, match=rf"{words} than the data, limit 0.2 s") as caught:
        tree.way("camera", "lidar", at(stamp_ns))
    assert "'base' to 'pan'" in str(caught.value) and "0.20 s" in str(caught.value)
    assert "view.tf_grace_s" in str(caught.value)
    assert caught.value.finding.fault is Fault.NO_TF
    near = tree.way("camera", "lidar", at(START + int(math.copysign(200, off_ms)) * MS))
    np.testing.assert_array_equal(near, tree.way("camera", "lidar"))
    assert moving(grace_s=0.3).way("camera", "lidar", at(stamp_ns)) is not None


def test_only_what_somebody_asked_for_is_kept():
    tree = moving()
    wheels = [stamped("base", f"wheel{k}", START, (k, 0, 0)) for k in range(40)]
    for k in range(100):
        tree.move(together(stamped("base", "pan", START + k * 10 * MS, (0, 0, 1)), *wheels))
    assert {child: len(motion) for child, motion in tree._moving.items()} == {"pan": 100}
    assert len(tree._idle) == 40
    assert tree.links("camera", "wheel3") == {"camera", "wheel3"}
    assert set(tree._moving) == {"pan", "wheel3"}


def test_a_base_that_moves_in_odom_is_on_nobodys_way():
    tree = moving()
    for k in range(100):
        assert tree.move(stamped("odom", "base", START + k * 10 * MS, (k, 0, 0))) == (False, None)
    assert set(tree._moving) == {"pan"}
    # A cloud in the world's frame: its way leads through the base.
    assert tree.way("camera", "odom")[0, 3] == pytest.approx(-99.5)


def test_a_new_frame_changes_something_only_if_somebody_waits_for_it():
    tree = moving()
    assert tree.route("camera", "boom") is None
    assert tree.move(stamped("base", "person_123", START)) == (False, None)
    assert tree.move(stamped("arm", "boom", START)) == (False, None)
    assert tree.move(stamped("base", "arm", START)) == (True, None)
    assert tree.route("camera", "boom") is not None
    assert tree.move(stamped("base", "person_124", START)) == (False, None)


def refused(tree: TransformTree, *messages: Any) -> str:
    for message in messages[:-1]:
        assert tree.move(message)[1] is None
    _, wrong = tree.move(messages[-1])
    assert wrong is not None and wrong.finding.fault is Fault.NO_TF
    return str(wrong)


def test_a_frame_that_is_static_too_stays_so():
    tree = moving()
    text = refused(tree, stamped("arm", "lidar", START))
    assert text == (
        "'lidar' is on /tf_static below 'pan', and on /tf below 'arm'; the static one is used; "
        "publish it on one of them"
    )
    assert tree.add(transform("base", "pan", (0, 0, 2)))[0]  # said later: it wins as well
    assert "'pan' is on /tf_static below 'base'" in refused(tree, stamped("base", "pan", START))
    assert tree.way("camera", "lidar", at(0))[2, 3] == 2.25


def test_the_second_of_two_parents_is_refused_until_the_first_is_silent():
    tree = moving()
    text = refused(tree, stamped("odom", "pan", START + 10 * MS))
    assert text.startswith("'pan' has two parents on /tf, 'base' and 'odom'; the first is used")
    assert tree.links("camera", "lidar") == {"camera", "pan", "lidar"}
    tree.add(transform("base", "rail"))
    assert tree.move(stamped("rail", "pan", START + SECOND)) == (True, None)
    assert tree.links("camera", "lidar") == {"camera", "rail", "pan", "lidar"}


def test_a_circle_is_refused_by_name():
    tree = moving()
    assert "'odom' below 'odom' on /tf closes a circle (odom)" in refused(
        tree, stamped("odom", "odom", START)
    )
    text = refused(tree, stamped("lidar", "base", START))
    assert text.startswith("'base' below 'lidar' on /tf closes a circle (base, lidar, pan)")
    assert tree.way("camera", "lidar", at(START)) is not None


@pytest.mark.parametrize(
    "place, turn",
    [
        ((math.nan, 0, 0), yaw(0)),
        ((0, 0, 0), (math.nan, 0, 0, 1)),
        ((0, 0, 0), (0, 0, 0, 0)),
        ((0, 0, 0), (0, 0, 0, 1.01)),
        ((0, 0, 0), (0, 0, 90, 0)),
        ((1e12, 0, 0), yaw(0)),
        ((0, math.inf, 0), yaw(0)),
    ],
)
def test_what_is_no_pose_is_refused_on_a_way_and_nobodys_business_elsewhere(place, turn):
    tree = moving()
    text = refused(tree, stamped("base", "pan", START + 10 * MS, place, turn))
    assert text.startswith("transform base to pan is (") and "length 1 (within 0.5 %)" in text
    assert tree.move(stamped("base", "wheel", START, place, turn)) == (False, None)
    assert tree.way("camera", "lidar", at(START + 10 * MS))[2, 3] == 1.25
    assert tree.route("camera", "wheel") is not None  # asked for: now it is missed
    with pytest.raises(Rejection, match="no usable transform 'base' to 'wheel' on /tf yet"):
        tree.way("camera", "wheel")


def test_more_frames_than_a_robot_has_are_refused():
    tree = moving()
    for k in range(5):
        many = [stamped("base", f"p{k}_{n}", START) for n in range(1000)]
        _, wrong = tree.move(together(*many))
    assert wrong is not None and "one frame too many; 4096 are known already" in str(wrong)
    assert len(tree._idle) + len(tree._moving) + len(tree._parents) == 4096
    assert tree.move(stamped("base", "pan", START + MS, (0, 0, 1))) == (False, None)


def test_after_a_reset_motion_is_learned_anew_and_the_tree_stays():
    tree = moving()
    tree.forget()
    with pytest.raises(Rejection, match="no usable transform 'base' to 'pan'"):
        tree.way("camera", "lidar", at(START))
    tree.move(stamped("base", "pan", 5, (0, 0, 1)))
    assert tree.way("camera", "lidar", at(5)) is not None


def test_parity_with_tf2_where_it_is_installed():
    """`tf2_py`'s BufferCore, of a robot's own ROS: static and moving links, each at its time.

    Without a grace, what tf2 would have to extrapolate is refused here, too.
    """
    tf2 = pytest.importorskip("tf2_py")
    from geometry_msgs.msg import TransformStamped
    from rclpy.duration import Duration
    from rclpy.time import Time

    rng = np.random.default_rng(3)
    buffer, tree = tf2.BufferCore(Duration(seconds=10)), TransformTree(grace_s=0)

    def tell(parent: str, child: str, stamp_ns: int, *, static: bool = False) -> None:
        place, turn = rng.uniform(-2, 2, 3), unit(rng.normal(size=4))
        ours = stamped(parent, child, stamp_ns, tuple(place), turn)
        assert (tree.add if static else tree.move)(ours)[1] is None
        theirs = TransformStamped()
        theirs.header.stamp = Time(nanoseconds=stamp_ns).to_msg()
        theirs.header.frame_id, theirs.child_frame_id = parent, child
        for axis, number in zip("xyz", place, strict=True):
            setattr(theirs.transform.translation, axis, number)
        for axis, number in zip("xyzw", turn, strict=True):
            setattr(theirs.transform.rotation, axis, number)
        (buffer.set_transform_static if static else buffer.set_transform)(theirs, "test")

    moving_links = (("a", "b"), ("b", "c"), ("a", "d"))
    for parent, child in (("c", "source"), ("d", "target")):
        tell(parent, child, START, static=True)
    for k in range(6):
        for parent, child in moving_links:
            tell(parent, child, START + k * 100 * MS)
        assert tree.route("target", "source") is not None  # asked for: its motion is kept
    refused = 0
    for sensor, view in (rng.integers(-20, 520, (100, 2)) * MS).tolist():
        asked = Moment(START + sensor, START + view)
        times = Time(nanoseconds=asked.view_ns), Time(nanoseconds=asked.sensor_ns)
        try:
            found = buffer.lookup_transform_full_core(
                "target", times[0], "source", times[1], "a"
            ).transform
        except tf2.ExtrapolationException:
            refused += 1
            with pytest.raises(Rejection, match="than the data, limit 0 s"):
                tree.way("target", "source", asked)
            continue
        t, q = found.translation, found.rotation
        expected = matrix((t.x, t.y, t.z), Rotation.from_quat((q.x, q.y, q.z, q.w)))
        np.testing.assert_allclose(tree.way("target", "source", asked), expected, atol=1e-9)
    assert 5 < refused < 40
