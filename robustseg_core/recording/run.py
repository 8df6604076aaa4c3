"""`robustseg run` without the terminal: recordings in, a folder of results out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from robustseg_core.bag import Bag, BagWriter, Recorded, Recording
from robustseg_core.blackbox.files import BlackBox
from robustseg_core.engines import Engine
from robustseg_core.engines.weights import UNTRAINED, engine_of, weights_file
from robustseg_core.errors import RobustsegError
from robustseg_core.faults import FaultSpec
from robustseg_core.output import draw, report, rerun_file
from robustseg_core.output.inputs import InputLog
from robustseg_core.output.reasons import PauseLog
from robustseg_core.output.recorder import Recorder, silence_notices, totals, unused_notices
from robustseg_core.output.timeline import SILENCE_S, Timeline
from robustseg_core.output.transforms import TransformLog
from robustseg_core.recording.doubted import Doubted
from robustseg_core.recording.inject import FaultyBag
from robustseg_core.recording.labels import Score, Truth, open_truth
from robustseg_core.recording.notices import absent, notices
from robustseg_core.recording.pipeline import (
    SETS,
    Deferred,
    Inference,
    ReadAhead,
    ahead,
    infer_together,
)
from robustseg_core.recording.replay import message_of, replay
from robustseg_core.recording.robot import check_streams, robot_for
from robustseg_core.rig import Rig
from robustseg_core.robot.topics import TF, TF_TOPICS, calibrations
from robustseg_core.segmenter import Segmenter
from robustseg_core.storage.output_folder import check_apart, staged
from robustseg_core.text import visible
from robustseg_core.types import SECOND, LabelMap, Rejection, streams_of

CAMERAS = "cameras"
"""Folder of the results of each of several cameras."""
IN_SHORT = ("masks", "rate_hz", "coverage", "longest_gap_ms")
"""What of a camera's `totals` the whole result says."""

BLACK_BOX = "black_box"
"""Of a result: the folder of the faults' files."""


def run_bags(
    paths: Sequence[Path],
    *,
    params: Path | None = None,
    overrides: Iterable[str] = (),
    out: Path,
    faults: Sequence[FaultSpec] = (),
    seed: int = 0,
    video: bool = True,
    black_box: bool = False,
    rerun: bool = False,
    inputs: bool = False,
    recipe: Mapping[str, Any] | None = None,
    on_progress: Callable[[int, int, int], None] = lambda done, total, masks: None,
) -> dict[str, Any]:
    """Segment recordings and write masks, video, MCAP, `result.json` and `report.html`.

    The stages run side by side, in threads (`pipeline`); the results are those of doing all in
    turn. `on_progress` is called in one of the threads.

    Args:
        paths: recordings, played one after the other.
        params: robot.yaml; without it the streams are guessed from the recording.
        overrides: `key=value` words; they win over `params`.
        out: folder of the results; those of an earlier run are replaced, other files stay.
        faults: what is done to sensors on purpose.
        seed: of the faults.
        video: whether there is a film.
        black_box: whether faults become files, in `out`/black_box; of several cameras, each in
            its own folder.
        rerun: whether there is a file for Rerun's viewer, `out`/rerun.rrd, of all cameras.
        inputs: whether the MCAP holds the sensors' own messages, too.
        recipe: joins `result.json`, to be known again by; None: nothing does.
        on_progress: called with (messages read, messages in all, masks made).

    Returns:
        The content of `result.json`.

    Raises:
        RobustsegError: the recording, the configuration, the checkpoint or `out` cannot be used,
            or no mask came of them (then the results, which say why, are written all the same).
    """
    check_apart(out, paths)
    if rerun:
        rerun_file.rerun()  # that it is missing is said now
    with Bag(paths) as bag:
        if not bag.message_count:
            raise RobustsegError(f"{bag.paths[0]} holds no message; record it again")
        robot = robot_for(bag, params, overrides, several=True)
        check_streams(bag, robot)
        source = FaultyBag(bag, faults, seed=seed, topics=robot.topics) if faults else bag
        weights = [] if robot.weights in ("", UNTRAINED) else [weights_file(robot.weights)]
        read = [*paths, *([params] if params else []), *weights]
        with staged(out, command="run", inputs=read) as folder:
            spec, engine = engine_of(robot)
            doubted = {name: Doubted(spec) for name in robot.camera_names}
            rig = Rig(robot, spec, Deferred(spec), observe=doubted.__getitem__)
            timeline = Timeline(bag.spans)
            with ExitStack() as stack:
                boxes = stack.enter_context(
                    _black_boxes(rig, folder, bag.start_ns, wanted=black_box)
                )
                mcap = stack.enter_context(BagWriter(folder / "mcap", compress=True))
                kept = None
                if inputs:
                    kept = stack.enter_context(_inputs(mcap, rig, bag, source))
                title = f"robustseg run {' '.join(path.name for path in paths)}"
                viewer = None
                if rerun:
                    path = folder / rerun_file.NAME
                    viewer = stack.enter_context(
                        rerun_file.RerunFile(path, spec, title=title, cameras=rig.cameras)
                    )
                views: dict[str, _View] = {}
                transforms = TransformLog()
                for name, segmenter in rig.segmenters.items():
                    recorder = Recorder(
                        _folder_of(folder, segmenter),
                        spec,
                        bag=mcap,
                        start_ns=bag.start_ns,
                        timeline=timeline,
                        video=video,
                        points=robot.points,
                        streams=segmenter.config.topics,
                        camera=segmenter.camera,
                        rerun=viewer,
                        transforms=transforms,
                    )
                    stack.enter_context(recorder)
                    # Of several cameras, nobody says which of them a recording's labels are of.
                    truth = Truth(paths, "") if rig.cameras else open_truth(paths)
                    views[segmenter.camera] = _View(
                        segmenter,
                        Inference(spec, engine, alpha=robot.alpha, refused=segmenter.refused),
                        recorder,
                        Score(stack.enter_context(truth), len(spec.classes), spec),
                        _Silence(segmenter, timeline.duration_ns),
                        doubted[name],
                        boxes.get(name),
                    )
                stages = _Stages(rig, engine, views, transforms, kept)
                with closing(stages.of(source, bag.message_count, on_progress)) as results:
                    for made in results:
                        view = views[made.label_map.camera]
                        view.last = made.label_map
                        view.recorder.add(
                            view.last, made.overlay, made.at_ns, made.miou, seen=made.seen
                        )
            given: dict[str, Any] = {
                "kills": [fault.kill for fault in faults if fault.kill],
                "faults": [str(fault) for fault in faults],
                **({} if recipe is None else {"recipe": recipe}),
            }
            results_of = {
                name: _finish(bag, view, timeline, given, title, faults, kept)
                for name, view in views.items()
            }
            result = results_of.get("") or _whole(
                folder, bag, rig, views, results_of, given=given, title=title
            )
    if not result["totals"]["masks"]:
        raise no_mask(result)
    return result


def _finish(
    bag: Bag,
    view: _View,
    timeline: Timeline,
    given: Mapping[str, Any],
    title: str,
    faults: Sequence[FaultSpec],
    kept: InputLog | None,
) -> dict[str, Any]:
    """Write the result and the report of one camera; the content of its `result.json`."""
    recorder, score, silence = view.recorder, view.score, view.silence
    sums = totals(
        recorder.rows,
        timeline.duration_s,
        labels=score.coverage,
        why=silence.log.why(silence.times_s),
    )
    account = _account(bag, view.segmenter, recorder, sums, view.last) | score.account()
    if view.box is not None:
        account["black_box"] = [f"{BLACK_BOX}/{path.name}" for path in view.box.written]
        account["notices"] += view.box.complaints()
    if kept is not None:
        account["notices"] += kept.notices()
    account["confidence"] = score.confidence()
    account["notices"] += score.notices(sums["coverage"])
    result = recorder.write_result(**given, **account)
    report.write(
        recorder.folder,
        result,
        title=f"{title}, camera {view.segmenter.camera}" if view.segmenter.camera else title,
        spec=recorder.spec,
        moments=recorder.moments,
        cloud=recorder.cloud,
        broken=faults,
    )
    return result


def _whole(
    folder: Path,
    bag: Bag,
    rig: Rig,
    views: Mapping[str, _View],
    cameras: Mapping[str, Mapping[str, Any]],
    *,
    given: Mapping[str, Any],
    title: str,
) -> dict[str, Any]:
    """Write `result.json` and `report.html` of a robot with several cameras: all of them in short.

    Returns:
        The content of `result.json`; each camera's own lies in `cameras/NAME`.
    """
    sums = {name: result["totals"] for name, result in cameras.items()}
    used: Counter[str] = Counter()
    heard: dict[str, int] = {}
    for one in sums.values():
        used.update(one["used"])
        heard |= one["messages"]
    duration_s = next(iter(sums.values()))["duration_s"]
    masks = sum(one["masks"] for one in sums.values())
    own = {
        name: [told for told in result["notices"] if told not in bag.notices]
        for name, result in cameras.items()
    }
    first = next(iter(cameras.values()))
    files = [
        f"{CAMERAS}/{name}/{path}"
        for name, one in cameras.items()
        for path in one.get(BLACK_BOX, ())
    ]
    result = {
        **{key: first[key] for key in ("robustseg", "trained", "provenance")},
        "modalities": list(streams_of(rig.spec.modalities, rig.config.topics)),
        "start_ns": bag.start_ns,
        **given,
        "bags": first["bags"],
        "config": rig.config.model_dump(mode="json"),
        "notices": [
            *bag.notices,
            *(f"no mask of camera {name}" for name, one in sums.items() if not one["masks"]),
            *rig.together(own),
            *rig.in_one_frame(),
        ],
        **({BLACK_BOX: files} if BLACK_BOX in first else {}),
        "rejected": {name: n for one in cameras.values() for name, n in one["rejected"].items()},
        "totals": {
            "masks": masks,
            "duration_s": duration_s,
            "rate_hz": round(masks / duration_s, 2) if duration_s > 0 else 0.0,
            "longest_gap_ms": max(one["longest_gap_ms"] for one in sums.values()),
            "coverage": min(one["coverage"] for one in sums.values()),
            "used": dict(used),
            "messages": heard,
            **{
                key: max(one[key] for one in sums.values())
                for key in ("clock_jumps", "overtaken", "lost_sets")
            },
        },
        "cameras": {
            name: {
                "folder": f"{CAMERAS}/{name}",
                **{key: one[key] for key in (*IN_SHORT, "used", "latency_ms")},
            }
            for name, one in sums.items()
        },
    }
    (folder / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    moments = {name: view.recorder.moments for name, view in views.items()}
    report.write_cameras(folder, result, title=title, spec=rig.spec, moments=moments)
    return result


@contextmanager
def _black_boxes(
    rig: Rig, folder: Path, start_ns: int, *, wanted: bool
) -> Iterator[dict[str, BlackBox]]:
    """Of a replay, whose clock is the recording's, by camera; all is written when it is left."""
    boxes: dict[str, BlackBox] = {}
    try:
        for name, segmenter in rig.segmenters.items() if wanted else ():
            told = segmenter.config.black_box.one_of(len(rig.segmenters))
            own = str(_folder_of(folder, segmenter) / BLACK_BOX)
            config = told.model_copy(update={"folder": own})
            boxes[name] = BlackBox(segmenter, config, now_ns=start_ns, made="robustseg run")
        yield boxes
    finally:
        for box in boxes.values():
            box.close()


def _inputs(mcap: BagWriter, rig: Rig, bag: Bag, source: Bag | FaultyBag) -> InputLog:
    """Who keeps what the robot's sensors say, and their calibrations; of transforms, others do."""
    sensors = (rig.config.topics[name] for name in rig.streams)
    topics = tuple(dict.fromkeys([*sensors, *calibrations(rig.config)]))
    latched = {topic.name for topic in bag.topics if topic.latched}
    touched = source.injector.topics if isinstance(source, FaultyBag) else ()
    return InputLog(mcap, topics, latched=latched, touched=touched)


def _folder_of(folder: Path, segmenter: Segmenter) -> Path:
    """Where the results of a view lie; of one camera, with the run's."""
    return folder / CAMERAS / segmenter.camera if segmenter.camera else folder


def no_mask(result: Mapping[str, Any]) -> RobustsegError:
    """What is to be raised of a result without masks."""
    return RobustsegError(f"no mask was made; {'; '.join(result['notices'])}")


@dataclass(frozen=True, slots=True)
class _Made:
    """A mask that is ready to be written."""

    label_map: LabelMap
    at_ns: int
    """Its place on the timeline."""
    overlay: NDArray[np.uint8]
    miou: float | None
    """Of this mask alone, where there is truth."""
    seen: Mapping[str, NDArray[np.uint8]]
    """modality -> what a sensor said that it is not made of."""


@dataclass(slots=True)
class _View:
    """One camera, and who is concerned with its masks."""

    segmenter: Segmenter
    """Closes the sets; its masks are blank."""
    infer: Inference
    """Makes the masks."""
    recorder: Recorder
    """Knows the place of each, and keeps it."""
    score: Score
    """Holds each against the truth."""
    silence: _Silence
    """Is told of each."""
    doubted: Doubted
    """Has the pictures of sensors that no mask is made of."""
    box: BlackBox | None = None
    """Keeps what happens around its faults."""
    last: LabelMap | None = None
    """The newest mask."""


_Set: TypeAlias = tuple[LabelMap, int, Mapping[str, Any]]
"""A mask, its place on the timeline, and messages of sensors that it is not made of."""


class _Stages:
    """What is done side by side: read | decode | infer | draw; who takes the results, writes.

    Args:
        rig: closes the sets; its masks are blank.
        engine: runs the network.
        views: by camera, as `LabelMap.camera` has it.
        transforms: is told what is read of them.
        kept: keeps what is read of sensors; None: nobody does.
    """

    def __init__(
        self,
        rig: Rig,
        engine: Engine,
        views: Mapping[str, _View],
        transforms: TransformLog,
        kept: InputLog | None = None,
    ) -> None:
        self._rig, self._engine, self._views = rig, engine, views
        self._transforms, self._kept = transforms, kept

    def of(
        self, source: Recording, total: int, on_progress: Callable[[int, int, int], None]
    ) -> Generator[_Made, None, None]:
        """The masks of a recording, in order.

        Args:
            source: what is played.
            total: how many messages it has.
            on_progress: called with (messages read, messages in all, masks made).
        """
        read = 0

        def count(recorded: Recorded) -> None:
            nonlocal read
            read += 1
            if recorded.topic in TF_TOPICS:
                with suppress(Rejection):  # counted where it is used
                    self._transforms.hear(message_of(recorded), moving=recorded.topic == TF)
            elif self._kept is not None:
                self._kept.hear(recorded)
            on_progress(read, total, sum(view.infer.masks for view in self._views.values()))

        return ahead(self._drawn(source, count), SETS, name="draw")

    def _sets(
        self, source: Recording, on_message: Callable[[Recorded], None]
    ) -> Iterator[list[_Set]]:
        """Those that are due together."""

        def watch(now_ns: int, at_ns: int) -> None:
            for view in self._views.values():
                view.silence.watch(now_ns, at_ns)

        sets = replay(ReadAhead(source), self._rig, on_message=on_message, on_time=watch)
        due: list[_Set] = []
        with closing(sets):
            for label_map in sets:
                if due and not _together(due, label_map):
                    yield due
                    due = []
                view = self._views[label_map.camera]
                at_ns = view.recorder.place_ns(label_map)
                view.silence.broken(at_ns)
                if self._kept is not None:
                    self._kept.made_of(
                        view.segmenter.config.topics[name] for name in label_map.used
                    )
                due.append((label_map, at_ns, view.doubted.messages(label_map)))
                if not label_map.camera:
                    yield due
                    due = []
        if due:
            yield due

    def _masks(self, source: Recording, on_message: Callable[[Recorded], None]) -> Iterator[_Set]:
        with closing(ahead(self._sets(source, on_message), SETS, name="decode")) as closed:
            for due in closed:
                sets = [(self._views[one.camera].infer, one) for one, _, _ in due]
                masks = infer_together(self._engine, sets)
                for made, (_, at_ns, doubted) in zip(masks, due, strict=True):
                    if made is not None:
                        yield made, at_ns, doubted

    def _drawn(self, source: Recording, on_message: Callable[[Recorded], None]) -> Iterator[_Made]:
        with closing(ahead(self._masks(source, on_message), SETS, name="infer")) as masks:
            for label_map, at_ns, doubted in masks:
                view = self._views[label_map.camera]
                overlay = draw.overlay(label_map, view.recorder.spec)
                seen = view.doubted.pictures(doubted) if view.recorder.wants_seen else {}
                yield _Made(label_map, at_ns, overlay, view.score.add(label_map, at_ns), seen)
        for view in self._views.values():
            view.score.finish()


def _together(due: Sequence[_Set], label_map: LabelMap) -> bool:
    """Whether a mask was due when these were, of other cameras."""
    first = due[0][0]
    same = (label_map.recording, label_map.made_ns) == (first.recording, first.made_ns)
    return same and all(one.camera != label_map.camera for one, _, _ in due)


class _Silence:
    """Notes what is wrong with the sensors whenever no mask has come for a while.

    Args:
        segmenter: the one that is replayed.
        end_ns: when the recording ends, since the start.
    """

    def __init__(self, segmenter: Segmenter, end_ns: int) -> None:
        self.log = PauseLog()
        """What was wrong: as soon as most was, or, of a silence that lasts, at the end."""
        self.times_s: list[float] = []
        """Of the masks, as in `result.json`."""
        self._segmenter, self._end_ns = segmenter, end_ns
        self._since_ns = 0

    def broken(self, at_ns: int) -> None:
        """A mask came."""
        self._since_ns = at_ns
        self.times_s.append(round(at_ns / SECOND, 6))

    def watch(self, now_ns: int, at_ns: int) -> None:
        """Time passes, on the segmenter's clock and since the start."""
        if at_ns - self._since_ns > SILENCE_S * SECOND:
            healths, bursts = self._segmenter.health(now_ns), self._segmenter.intake.bursts
            newest = at_ns >= self._end_ns
            self.log.add(len(self.times_s), healths, bursts=bursts, newest=newest)


def _account(
    bag: Bag, segmenter: Segmenter, recorder: Recorder, sums: dict[str, Any], last: LabelMap | None
) -> dict[str, Any]:
    """Where every message went: the top level of `result.json` beside the masks."""
    rows = recorder.rows
    health = segmenter.health(bag.start_ns)
    intake = segmenter.intake
    used = {name for row in rows for name in row["used"]}
    late = {} if last is None else last.reasons
    silent = silence_notices(sums) if rows else []  # no mask at all is said by itself
    return {
        "bags": [visible(path.name) for path in bag.paths],
        "config": segmenter.config.model_dump(mode="json"),
        "notices": [
            *notices(bag, segmenter, absent(bag, segmenter, used, late)),
            *silent,
            *unused_notices(rows, recorder.reasons),
        ],
        "rejected": {
            name: {fault.value: n for fault, n in sorted(stream.rejected.items())}
            for name, stream in health.items()
            if stream.rejected
        },
        "totals": {
            **sums,
            "messages": dict(intake.pushed),
            "clock_jumps": intake.jumps,
            "overtaken": intake.overtaken,
            "lost_sets": segmenter.lost,
        },
        "novelty": {name: round(peak, 2) for name, peak in segmenter.novelty.peaks.items()},
    }
