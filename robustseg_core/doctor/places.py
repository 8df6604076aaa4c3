"""The checks of geometry: does each stream say where it is, and does the view know its lens?"""

from __future__ import annotations

import reprlib

from robustseg_core import modalities
from robustseg_core.codecs.message_types import CAMERA_INFO
from robustseg_core.codecs.tf_message import TF_MESSAGE
from robustseg_core.doctor.observation import BAD, NONE, OK, WARN, Observation, Stream, cut, of_type
from robustseg_core.doctor.report import Check, Row
from robustseg_core.errors import did_you_mean
from robustseg_core.geometry.camera import same_aspect
from robustseg_core.recording.guess import camera_info_of
from robustseg_core.robot.topics import TF, TF_STATIC, calibrations, camera_info_topic
from robustseg_core.types import Fault, Rejection


def check_place(stream: Stream) -> list[Check]:
    """Frame, TF and calibration of a stream that has been heard."""
    if not stream.log.frames:
        return []
    return [_frame(stream), _tf(stream), _changed(stream) or _calibration(stream)]


def transforms_row(observation: Observation) -> Row:
    """The row of /tf_static, on which everything that is projected depends."""
    probe, offer = observation.probe, observation.offers.get(TF_STATIC)
    posed = probe.segmenter.config.view.extrinsics
    view = probe.segmenter.intake.view
    needed = [
        name
        for name, log in probe.logs.items()
        if modalities.load(name).needs_view
        and name not in posed
        and not any(view.moving(name, frame) for frame in log.frames)
    ]
    checks = []
    if offer is None or not (offer.publishers is None or offer.publishers):
        fix = f"publish it, or set view.extrinsics.{needed[0]}" if needed else ""
        status = BAD if needed else NONE
        checks.append(Check("topic", status, f"no {TF_STATIC}" if needed else "not needed", fix))
        return Row("tf", TF_STATIC, tuple(checks))
    checks.append(Check("topic", OK))
    if offer.types and TF_MESSAGE not in offer.types:
        found = f"found {', '.join(offer.types)}, expected {TF_MESSAGE}"
        checks.append(Check("type", BAD, found, "publish it as that type"))
    if offer.publishers is not None:
        qos = Check("qos", OK)
        if offer.mismatch:
            qos = Check("qos", BAD if needed else WARN, *cut(offer.mismatch))
        checks += [Check("publishers", OK, str(offer.publishers)), qos]
    elif not offer.latched:
        fix = "play it with `ros2 run robustseg play_node BAG`, or `ros2 bag play BAG "
        fix += "--qos-profile-overrides-path FILE` where FILE says transient_local"
        found = "recorded as volatile: `ros2 bag play` loses it for those who come late"
        checks.append(Check("qos", WARN, found, fix))
    if probe.transform_refused:
        found, fix = cut(probe.transform_refused)
        checks.append(Check("decode", WARN, found, fix or "publish a unit quaternion x y z w"))
    elif probe.transforms:
        checks.append(Check("decode", OK, f"{len(probe.frames)} frames"))
    return Row("tf", TF_STATIC, tuple(checks))


def _frame(stream: Stream) -> Check:
    frames = stream.log.frames
    name = frames.most_common(1)[0][0]
    if not name:
        fix = "let the driver name the sensor's optical frame in header.frame_id"
        return stream.warn("frame", "header.frame_id is empty", fix)
    if len(frames) > 1:
        found = f"frame_id changes: {reprlib.repr(sorted(frames))}"
        return stream.warn("frame", found, "let the driver keep one; look for a second publisher")
    own = stream.observation.probe.segmenter.intake.view.camera_of(stream.name)
    if own is not None and own.frame_id and own.frame_id != name:
        found = f"images are in {name!r}, their CameraInfo in {own.frame_id!r}"
        return stream.warn("frame", found, "let the driver use the same optical frame in both")
    return stream.ok("frame", name)


def _tf(stream: Stream) -> Check:
    probe = stream.observation.probe
    frame = stream.log.frames.most_common(1)[0][0]
    target, name = probe.segmenter.intake.view.frame_id, stream.name
    if name in probe.segmenter.config.view.extrinsics:
        return stream.ok("tf", f"view.extrinsics.{name}")
    projected = stream.kind.needs_view
    far, fix = cut(probe.segmenter.intake.view.far(name, frame))
    if not target or (not projected and frame == target):
        return Check("tf", NONE)  # to where? or: the camera that makes the grid
    if not projected and probe.segmenter.intake.view.camera_of(name) is None:
        return Check("tf", NONE)  # without calibration no transform helps
    try:
        probe.segmenter.intake.view.view_from(name, frame)
    except Rejection:
        pass
    else:
        if far:
            return stream.warn("tf", f"{far}: refused, the last good one is used", fix)
        if untimely := _untimely(stream, frame):
            return untimely
        return stream.ok("tf", f"{frame} to {target}{_moving(stream, frame)}")
    if far:
        tell = stream.bad if projected else stream.warn
        return tell("tf", f"{far}: refused", fix)
    return _no_tf(stream, frame, target)


def _untimely(stream: Stream, frame: str) -> Check | None:
    """A mount that moves, of which nobody said in time how it stands."""
    log, view = stream.log, stream.observation.probe.segmenter.intake.view
    told = log.why.get(Fault.NO_TF, "")
    if not view.moving(stream.name, frame) or f" on {TF} " not in told:
        return None  # or /tf had not been heard yet
    tell = stream.warn if log.used else stream.bad
    found, fix = cut(told.removeprefix(f"{Fault.NO_TF.value}: "))
    return tell("tf", f"{found} ({log.reasons[Fault.NO_TF]} masks)", fix)


def _moving(stream: Stream, frame: str) -> str:
    """What moves on the way of a stream, if anything does."""
    names = stream.observation.probe.segmenter.intake.view.moving(stream.name, frame)
    return f"; on /tf: {', '.join(names)}" if names else ""


def _no_tf(stream: Stream, frame: str, target: str) -> Check:
    """No chain of transforms joins the sensor's frame and the view's: where does it break?"""
    probe, projected = stream.observation.probe, stream.kind.needs_view
    tell = stream.bad if projected else stream.warn
    found = f"no transform from {frame!r} to {target!r}"
    found += "" if projected else ": it is taken to see just what the camera sees"
    ways = "or set view.extrinsics.<name>: [x, y, z, qx, qy, qz, qw]"
    if absent := [f for f in (frame, target) if f not in probe.frames]:
        found += f"; neither /tf_static nor /tf names {' nor '.join(map(repr, absent))}"
        if probe.frames and (hint := did_you_mean(absent[0], probe.frames)).startswith("did"):
            found += f", {hint.rstrip('?')}"
    fix = (
        f"ros2 run tf2_ros static_transform_publisher --frame-id {target} --child-frame-id {frame} "
        f"--x X --y Y --z Z --qx .. (its measured pose), {ways}"
    )
    return tell("tf", found, fix)


def _changed(stream: Stream) -> Check | None:
    """Calibration or place that became another while we listened, or tried to."""
    again = "keep one; look for a second publisher: ros2 topic info -v"
    if text := stream.log.texts.get(Fault.RECALIBRATED):
        return stream.warn("calibration", f"it changed: {text}", again)
    own = stream.observation.probe.segmenter.intake.view.camera_of(stream.name)
    if own is None or not stream.log.info_refused:
        return None
    found, fix = cut(stream.log.info_refused)
    return stream.warn("calibration", f"{found}: refused, the last good one is used", fix or again)


def _calibration(stream: Stream) -> Check:
    observation, log = stream.observation, stream.log
    probe, config = observation.probe, observation.probe.segmenter.config
    if stream.kind.needs_view:
        frame = log.frames.most_common(1)[0][0]
        if probe.segmenter.intake.view.missing_for(stream.name, frame) is not Fault.NO_CALIB:
            return stream.ok("calibration")
        found = "no usable CameraInfo of the view's camera: this sensor cannot be projected"
        fix = "mend the calibration of the camera, or set view.intrinsics: [fx, fy, cx, cy]"
        return stream.bad("calibration", found, fix)
    topic = camera_info_topic(stream.config.topic, stream.config.camera_info)
    own = probe.segmenter.intake.view.camera_of(stream.name)
    if own is None:
        return _uncalibrated(stream, topic)
    if log.size is None or own.image_size == log.size:
        return stream.ok("calibration", f"{own.image_size[1]}x{own.image_size[0]}")
    (h, w), (height, width) = log.size, own.image_size
    found = f"CameraInfo is for {width}x{height} pixels, the images have {w}x{h}"
    if h and w and same_aspect((h, w), (height, width)):
        return stream.ok("calibration", f"{found}: a scaled copy")
    fix = f"set streams.<name>.camera_info to the topic of these images, not {topic}"
    if config.view.intrinsics:
        return stream.ok("calibration", f"{found}; view.intrinsics are used")
    return stream.warn("calibration", found, fix)


def _uncalibrated(stream: Stream, topic: str) -> Check:
    """No CameraInfo was believed: absent, of another type, unmatched, silent, or refused."""
    offer, log = stream.observation.offers.get(topic), stream.log
    if stream.observation.probe.segmenter.config.view.intrinsics:
        return stream.ok("calibration", "view.intrinsics")
    if log.info_refused:
        found, fix = cut(log.info_refused)
        found, fix = (log.info_refused, "") if "expected" in fix else (found, fix)
        return stream.warn("calibration", found, fix or f"calibrate the camera: {topic}")
    if offer is not None and CAMERA_INFO not in offer.types:
        found = f"{topic}: found {', '.join(offer.types)}, expected {CAMERA_INFO}"
        return stream.warn("calibration", found, "set streams.<name>.camera_info")
    if offer is not None and offer.mismatch:
        return stream.warn("calibration", *cut(offer.mismatch))
    if offer is not None and not (offer.publishers is None or offer.publishers == 0):
        fix = f"publish {topic} with every image, or as transient local"
        return stream.warn("calibration", f"{topic} is published, and nothing comes", fix)
    probe, claimed = (
        stream.observation.probe,
        calibrations(stream.observation.probe.segmenter.config),
    )
    infos = [t for t in of_type(stream.observation.offers, [CAMERA_INFO]) if t not in claimed]
    better = camera_info_of(stream.config.topic, infos)
    if better:
        fix = f"set streams.<name>.camera_info: {better}"
    elif infos:
        fix = f"set streams.<name>.camera_info to its topic, one of {', '.join(infos[:4])}"
    else:
        fix = f"let its driver publish {topic}"
    if any(probe.segmenter.intake.view.camera_of(name) for name in probe.logs):
        so = "it is taken to see just what the camera sees"
    else:
        so, fix = "nothing is projected into it", f"{fix}, or set view.intrinsics: [fx, fy, cx, cy]"
    return stream.warn("calibration", f"no CameraInfo on {topic}: {so}", fix)
