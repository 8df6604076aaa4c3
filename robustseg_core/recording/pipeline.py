"""Stages of a replay that run side by side: read | decode | infer | draw | write.

Each stage is an iterator in a thread of its own, a few items ahead of the next one. What takes time
(unpacking, decoding, the network, coding pictures) runs outside of Python's lock, so the stages do
overlap. Items stay in order, and nothing but time differs from doing all in turn.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from robustseg_core.bag import Recorded, Recording
from robustseg_core.engines import Engine, Labels, LackingError, NoMaskError, batch
from robustseg_core.intake import Register
from robustseg_core.models import architectures
from robustseg_core.models.calibration import Promise
from robustseg_core.segmenter import enlarge
from robustseg_core.types import MS, Bundle, Fault, Finding, LabelMap, ModelSpec

log = logging.getLogger(__name__)

MESSAGES, SETS = 16, 2
"""How many items a stage is ahead: of messages, and of what holds the images of a set."""

T = TypeVar("T")


def ahead(items: Iterable[T], most: int, *, name: str = "stage") -> Generator[T, None, None]:
    """The items of an iterable, which a thread takes, up to `most` of them before they are asked
    for.

    What it raises is raised here, in its place. Closed (`contextlib.closing`, or an error in the
    loop below a `with` of it), it ends the thread after the item that it is at, and closes what it
    iterates over, in that thread.

    Args:
        items: a generator, or anything else that can be iterated over.
        most: how many items wait at most.
        name: of the thread.
    """
    queue: _Queue[T] = _Queue(most)
    thread = threading.Thread(target=_feed, args=(items, queue), name=name, daemon=True)
    thread.start()
    try:
        yield from queue
    finally:
        queue.close()
        thread.join()


def _feed(items: Iterable[T], queue: _Queue[T]) -> None:
    """A stage's thread: take all items, or until nobody wants any more."""
    error: BaseException | None = None
    iterator, count = iter(items), 0
    try:
        for item in iterator:
            count += 1
            if not queue.put(item):
                break
    except BaseException as raised:
        error = raised
    finally:
        if isinstance(iterator, Generator):
            try:
                iterator.close()
            except BaseException as raised:  # while it cleaned up
                error = error or raised
        name, cpu_s = threading.current_thread().name, time.thread_time()
        log.info("stage %s: %d items, %.2f s of CPU", name, count, cpu_s)
        queue.end(error)


class _Queue(Generic[T]):
    """Between two stages; bounded."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._ended = self._closed = False
        self._error: BaseException | None = None

    def put(self, item: T) -> bool:
        """Wait for room and add an item; False: nobody takes it."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._items) < self._most)
            if not self._closed:
                self._items.append(item)
                self._changed.notify_all()
            return not self._closed

    def end(self, error: BaseException | None) -> None:
        """There is nothing more, for this reason."""
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def close(self) -> None:
        """Nobody takes anything any more."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._ended)
                if not self._items:
                    break
                item = self._items.popleft()
                self._changed.notify_all()
            yield item
        if self._error is not None:
            raise self._error


class ReadAhead:
    """A recording whose messages are read before they are asked for.

    Args:
        recording: what is read; nobody else iterates over it meanwhile.
    """

    def __init__(self, recording: Recording) -> None:
        self._recording = recording

    @property
    def start_ns(self) -> int:
        """As `Recording.start_ns`."""
        return self._recording.start_ns

    @property
    def spans(self) -> list[tuple[int, int]]:
        """As `Recording.spans`."""
        return self._recording.spans

    def messages(self, topics: Collection[str] | None = None) -> Iterator[Recorded]:
        """As `Recording.messages`."""
        with closing(ahead(self._recording.messages(topics), MESSAGES, name="read")) as messages:
            yield from messages


class Deferred:
    """An engine for a segmenter whose masks `Inference` makes later: it says a blank one.

    Args:
        spec: of the network.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self._needs = architectures.needs(spec)
        self._blank = np.zeros(spec.size, np.uint8)

    def __call__(self, bundle: Bundle) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Blank ids and confidence.

        Raises:
            LackingError: the bundle lacks a sensor that the network needs.
        """
        for name in self._needs:
            if name not in bundle.frames:
                raise LackingError(name, f"the network makes no mask without {name}")
        return self._blank, self._blank


class Inference:
    """Makes the masks of sets that a segmenter with a `Deferred` engine closed.

    Args:
        spec: of the network.
        engine: runs it.
        alpha: the robot's; pixels that are less sure than it promises get no label.
        refused: takes what the network made no mask of (`Segmenter.refused`).
        stopwatch_ns: measures latency, nothing else.
    """

    def __init__(
        self,
        spec: ModelSpec,
        engine: Engine,
        *,
        alpha: float,
        refused: Register,
        stopwatch_ns: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self.masks = 0
        """That were made."""
        self._engine, self._refused = engine, refused
        self._promise = Promise(spec, alpha)
        self._stopwatch_ns = stopwatch_ns

    def __call__(self, label_map: LabelMap) -> LabelMap | None:
        """The same set with its mask, as the segmenter would have made it; None: there is none."""
        start_ns = self._stopwatch_ns()
        labels: Labels | NoMaskError
        try:
            labels = self._engine(label_map.bundle)
        except NoMaskError as error:
            labels = error
        return self.finish(label_map, labels, start_ns)

    def finish(
        self, label_map: LabelMap, labels: Labels | NoMaskError, start_ns: int
    ) -> LabelMap | None:
        """The same, of what the network says, or why it says nothing.

        Args:
            label_map: a set.
            labels: what the network says of it.
            start_ns: when it was asked, by the stopwatch.
        """
        bundle = label_map.bundle
        if isinstance(labels, NoMaskError):
            finding = Finding(Fault.INTERNAL, fatal=True, text=str(labels))
            if self._refused.add(" ".join(bundle.frames), finding):
                log.error(finding.text)
            return None
        ids, confidence = labels
        ids = self._promise.kept(ids, confidence, bundle)
        infer_ms = (self._stopwatch_ns() - start_ns) / MS
        before_ms = label_map.latency_ms
        self.masks += 1
        height, width = label_map.ids.shape
        return replace(
            label_map,
            ids=enlarge(ids, height, width),
            confidence=enlarge(confidence, height, width),
            latency_ms={
                **before_ms,
                "infer": infer_ms,
                "total": before_ms["total"] + (self._stopwatch_ns() - start_ns) / MS,
            },
        )


def infer_together(
    engine: Engine,
    sets: Sequence[tuple[Inference, LabelMap]],
    *,
    stopwatch_ns: Callable[[], int] = time.perf_counter_ns,
) -> list[LabelMap | None]:
    """The masks of sets of several cameras that are due together, by one call of the network.

    Args:
        engine: runs it.
        sets: each with who makes its camera's masks.
        stopwatch_ns: as of `Inference`.
    """
    if len(sets) == 1 and not sets[0][1].camera:
        (infer, label_map), *_ = sets
        return [infer(label_map)]
    start_ns = stopwatch_ns()
    said = batch(engine, {label_map.camera: label_map.bundle for _, label_map in sets})
    return [infer.finish(one, said[one.camera], start_ns) for infer, one in sets]
