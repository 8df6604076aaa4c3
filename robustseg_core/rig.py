"""Several cameras of one robot: a `Segmenter` for each, one network (docs/specs/cameras.md).

A robot with one camera, or none, is a rig of one view, and its masks are those of its segmenter.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from robustseg_core.engines import Engine, batch
from robustseg_core.engines.weights import engine_of
from robustseg_core.errors import RobustsegError
from robustseg_core.health.backlog import Load
from robustseg_core.intake import HEALTH_DECIDES, NOBODY, Intake, Observer, Policy, Register, Router
from robustseg_core.modalities import Modality
from robustseg_core.robot.config import RobotConfig
from robustseg_core.segmenter import Due, Segmenter
from robustseg_core.types import Fault, Finding, Health, LabelMap, ModelSpec, Rejection, State

log = logging.getLogger(__name__)

BEST = (
    State.LIVE,
    State.DEGRADED,
    State.RECOVERING,
    State.WAITING,
    State.DEAD,
    State.DISABLED,
)
"""How well off a stream is; the first is best."""
REMEMBERED = 4
"""Messages of a stream whose decoded form is kept for the views that have not asked for it yet."""


class Rig(Router):
    """Any sensors in, a label map for each camera out; driven as a `Segmenter` is.

    Args:
        config: the robot.
        spec: what the network expects.
        engine: runs the network, for all cameras.
        observe: camera -> who is told what its view takes and makes.
        policy: who may enter a set.
        stopwatch_ns: measures our own latency, nothing else.

    Raises:
        RobustsegError: as of `Segmenter`; the text names the camera.
    """

    def __init__(
        self,
        config: RobotConfig,
        spec: ModelSpec,
        engine: Engine,
        *,
        observe: Callable[[str], Observer] = lambda _camera: NOBODY,
        policy: Policy = HEALTH_DECIDES,
        stopwatch_ns: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self.config, self.spec = config, spec
        self._engine = engine
        self.failed = Register()
        """Exceptions of ours, by camera."""
        names = config.camera_names
        views = {name: config.of_camera(name) for name in names}
        held = Counter(stream for view in views.values() for stream in view.topics)
        once = Once([stream for stream, count in held.items() if count > 1])
        self.segmenters: dict[str, Segmenter] = {}
        """By camera; one that needs no name is called ""."""
        for name, view in views.items():
            try:
                self.segmenters[name] = Segmenter(
                    view,
                    spec,
                    engine,
                    observer=observe(name),
                    policy=policy,
                    stopwatch_ns=stopwatch_ns,
                    decode=once,
                    camera=name if len(views) > 1 else "",
                )
            except RobustsegError as error:
                if len(views) == 1:
                    raise
                raise RobustsegError(
                    f"camera {name}: {error}; or leave it out by `cameras`"
                ) from None

    @classmethod
    def from_config(cls, config: RobotConfig) -> Rig:
        """A rig with the configured checkpoint, or with the one that is shipped.

        Raises:
            RobustsegError: the checkpoint, the device or the streams cannot be used.
        """
        return cls(config, *engine_of(config))

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras, where there are several; of one, nothing."""
        return tuple(self.segmenters) if len(self.segmenters) > 1 else ()

    @property
    def intakes(self) -> tuple[Intake, ...]:
        """Of all views."""
        return tuple(one.intake for one in self.segmenters.values())

    @property
    def masks(self) -> int:
        """That were made, of all cameras."""
        return sum(one.masks for one in self.segmenters.values())

    @property
    def lost(self) -> int:
        """As `Segmenter.lost`, of all cameras."""
        return sum(one.lost for one in self.segmenters.values())

    @property
    def trouble(self) -> str:
        """As `Segmenter.trouble`; what only some cameras have is told with their names."""
        return "; ".join(self.together({n: [s.trouble] for n, s in self.segmenters.items()}))

    def step(self, now_ns: int) -> list[LabelMap]:
        """The label maps that are due, in the order of the cameras; one call of the network.

        An exception of ours in one of several views is logged, and told among the remarks; it is
        raised where no other view has a mask.
        """
        if len(self.segmenters) == 1:
            (one,) = self.segmenters.values()
            label_map = one.step(now_ns)
            return [] if label_map is None else [label_map]
        failed: list[Exception] = []
        made: list[LabelMap] = []
        due: dict[str, Due] = {}
        try:
            for name, segmenter in self.segmenters.items():
                try:
                    opened = segmenter.begin(now_ns)
                except Exception as error:
                    failed.append(self._note(name, error))
                    continue
                if opened is None:
                    segmenter.tell(now_ns, None)
                else:
                    due[name] = opened
            said = batch(self._engine, {n: o.bundle for n, o in due.items()}) if due else {}
            for name in tuple(due):
                segmenter, opened = self.segmenters[name], due.pop(name)
                try:
                    label_map = segmenter.finish(opened, said[name])
                except Exception as error:
                    failed.append(self._note(name, error))
                    continue
                segmenter.tell(now_ns, label_map)
                made += [] if label_map is None else [label_map]
        except BaseException:
            for name in due:  # they have begun, and nobody ends them
                self.segmenters[name].fail(now_ns)
            raise
        if failed and not made:
            raise failed[0]
        return made

    def _note(self, camera: str, error: Exception) -> Exception:
        """Count what went wrong with one view."""
        text = f"{type(error).__name__}: {error}"
        if self.failed.add(camera, Finding(Fault.INTERNAL, fatal=True, text=text)):
            log.error("the view of %s failed", camera, exc_info=error)
        return error

    def wake_ns(self, now_ns: int) -> int | None:
        """When `step` wants to be called if nothing arrives before; None: no need."""
        asked = [one.wake_ns(now_ns) for one in self.segmenters.values()]
        return min((at for at in asked if at is not None), default=None)

    def health(self, now_ns: int, *, wait: bool = True) -> dict[str, Health]:
        """What is believed of each stream: where it is best off, of those in several views."""
        found: dict[str, Health] = {}
        for one in self.segmenters.values():
            for stream, health in one.health(now_ns, wait=wait).items():
                if stream not in found or _worse(found[stream]) > _worse(health):
                    found[stream] = health
        return found

    def load(self) -> Load:
        """How far behind we are, of all views together."""
        loads = [intake.load() for intake in self.intakes]
        if len(loads) == 1:
            return loads[0]
        waited, lost = dict[str, float](), dict[str, int]()
        for load in loads:
            for stream, ms in load.backlog_ms.items():
                waited[stream] = max(ms, waited.get(stream, 0.0))
            for stream, count in load.lost.items():
                lost[stream] = max(count, lost.get(stream, 0))
        behind = [load for load in loads if load.overloaded]
        since = [load.since_ns for load in behind or loads if load.since_ns is not None]
        return Load(
            overloaded=bool(behind),
            since_ns=max(since, default=None),
            backlog_ms=waited,
            overtaken_hz=sum(load.overtaken_hz for load in loads),
            lost=lost,
            shed=max((load.shed for load in loads), key=len),
        )

    def remarks(self) -> list[str]:
        """As `Segmenter.remarks`: what holds in some views only, with their names."""
        own = {name: one.remarks() for name, one in self.segmenters.items()}
        failed = [f"{name}: {found.text} ({n} steps)" for name, found, n in self.failed]
        return [*failed, *self.together(own), *self.in_one_frame()]

    def reset(self, now_ns: int) -> None:
        """As `Segmenter.reset`."""
        for one in self.segmenters.values():
            one.reset(now_ns)

    def configure(self, config: RobotConfig) -> None:
        """As `Segmenter.configure`; where one view cannot take it, none does."""
        own = {name: config.of_camera(name) for name in self.segmenters}
        for name, one in self.segmenters.items():
            one.own(own[name])
        self.config = config
        for name, one in self.segmenters.items():
            one.configure(own[name])

    def clock_jumped(self, now_ns: int) -> None:
        """As `Intake.clock_jumped`."""
        for intake in self.intakes:
            intake.clock_jumped(now_ns)

    def reject_calibration(self, topic: str, finding: Finding) -> None:
        """As `Intake.reject_calibration`."""
        for intake in self.intakes:
            intake.reject_calibration(topic, finding)

    def warm_up(self) -> None:
        """As `Segmenter.warm_up`, once for views of the same sensors."""
        kinds = {
            frozenset(d.kind for d in s.intake.modalities.values()): s
            for s in self.segmenters.values()
        }
        for one in kinds.values():
            one.warm_up()

    def together(self, told: Mapping[str, Sequence[str]]) -> list[str]:
        """What views say, by camera, each once; what only some of them say, with their names."""
        who: dict[str, list[str]] = {}
        for name, texts in told.items():
            for text in filter(None, texts):
                who.setdefault(text, []).append(name)
        few = len(self.segmenters)
        return [t if len(names) == few else f"{' '.join(names)}: {t}" for t, names in who.items()]

    def in_one_frame(self) -> list[str]:
        """Cameras whose images claim to be in one place: their LiDAR lands in the wrong picture."""
        frames: dict[str, list[str]] = {}
        for name, one in self.segmenters.items():
            if frame_id := one.intake.view.frame_id:
                frames.setdefault(frame_id, []).append(name)
        return [
            f"cameras {' and '.join(names)} are all in the frame {frame_id!r}; let each driver "
            f"name its own optical frame, or set views.{names[-1]}.frame_id"
            for frame_id, names in frames.items()
            if len(names) > 1
        ]


class Once:
    """Decodes each message of some streams once, whoever asks, and however often.

    Args:
        streams: whose messages several views ask for. What they decode to depends on nothing but
            the message, and nobody changes it.
    """

    def __init__(self, streams: Collection[str]) -> None:
        self._known: dict[str, OrderedDict[int, tuple[Any, Any]]] = {
            stream: OrderedDict() for stream in streams
        }

    def __call__(self, decoder: Modality, message: Any, stamp_ns: int) -> Any:
        """As `decoder.decode`."""
        known = self._known.get(decoder.name)
        if known is None:
            return decoder.decode(message, stamp_ns)
        found = known.get(id(message))  # it is kept, so that no other has its number
        if found is None or found[0] is not message:
            try:
                data: Any = decoder.decode(message, stamp_ns)
            except Rejection as rejection:
                data = rejection
            known[id(message)] = found = (message, data)
            while len(known) > REMEMBERED:
                known.popitem(last=False)
        if isinstance(found[1], Rejection):
            raise Rejection(
                found[1].finding.fault, found[1].finding.text, final=found[1].finding.final
            )
        return found[1]


def _worse(health: Health) -> tuple[int, int, float]:
    """The less, the better off."""
    return BEST.index(health.state), len(health.findings), -health.score
