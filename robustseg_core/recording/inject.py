"""A recording with faults in it: read as if it were another bag, or written as one.

Only the messages that a fault looks into are decoded; all others are passed on byte for byte.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from robustseg_core.bag import Bag, BagWriter, Recorded, Topic
from robustseg_core.bag.codec import Codec
from robustseg_core.bag.writer import check_is_folder_name
from robustseg_core.codecs.fields import nanoseconds
from robustseg_core.errors import RobustsegError, did_you_mean
from robustseg_core.faults import FaultSpec, Injector, Sample
from robustseg_core.recording.axis import on_one_axis
from robustseg_core.recording.survey import survey
from robustseg_core.storage.output_folder import staged
from robustseg_core.types import Rejection


class FaultyBag:
    """A `Bag` as it would have been recorded on a broken robot; itself a `Recording`.

    Each pass over `messages` starts the same generator anew, so it is the same recording each time.

    Args:
        bag: the open recording.
        specs: what goes wrong and when, in seconds from its start.
        seed: of everything random.
        topics: modality -> its topic.

    Raises:
        RobustsegError: a target that is not in the recording, or a fault that cannot be done to it.
    """

    def __init__(
        self, bag: Bag, specs: Sequence[FaultSpec], *, seed: int = 0, topics: Mapping[str, str]
    ) -> None:
        self._bag, self._specs, self._seed, self._sensors = bag, tuple(specs), seed, topics
        self.injector = self._make()
        """Of the newest pass: what it changed, and what it could not."""
        recorded = {topic.name for topic in bag.topics}
        if strange := sorted(self.injector.topics - recorded):
            raise RobustsegError(
                f"a fault is done to {strange[0]!r}, which is not in the recording; "
                f"{did_you_mean(strange[0], recorded)}"
            )

    def _make(self) -> Injector:
        start_ns = self._bag.start_ns
        return Injector(self._specs, seed=self._seed, topics=self._sensors, start_ns=start_ns)

    @property
    def paths(self) -> list[Path]:
        """Those of the recording."""
        return self._bag.paths

    @property
    def notices(self) -> list[str]:
        """Those of the recording."""
        return self._bag.notices

    @property
    def topics(self) -> list[Topic]:
        """Those of the recording."""
        return self._bag.topics

    @property
    def message_count(self) -> int:
        """Messages before anything went wrong."""
        return self._bag.message_count

    @property
    def start_ns(self) -> int:
        """Log time of the first message before anything went wrong."""
        return self._bag.start_ns

    @property
    def duration_ns(self) -> int:
        """Length of the recording before anything went wrong."""
        return self._bag.duration_ns

    @property
    def spans(self) -> list[tuple[int, int]]:
        """Those of the recordings before anything went wrong."""
        return self._bag.spans

    def messages(self, topics: Collection[str] | None = None) -> Iterator[Recorded]:
        """Every message (of `topics`, if given) in the order of its disturbed log time."""
        for recorded in self.disturbed(topics):
            if recorded is not None:
                yield recorded

    def disturbed(self, topics: Collection[str] | None = None) -> Iterator[Recorded | None]:
        """As `messages`, and None after each message read, for progress bars."""
        injector = self.injector = self._make()
        kinds: dict[str, str] = {}
        shift_ns = number = 0
        for now_ns, recorded in on_one_axis(self._bag.messages(topics), self._bag.spans):
            shift_ns, number = now_ns - recorded.time_ns, recorded.recording
            if recorded.topic in injector.topics:
                kinds[recorded.topic] = recorded.type
                yield from self._feed(injector, recorded, now_ns, shift_ns, kinds)
            else:
                for sample in injector.release(now_ns):
                    yield _made(sample, shift_ns, kinds, number)
                yield recorded
            yield None
        yield from (_made(sample, shift_ns, kinds, number) for sample in injector.flush())

    @staticmethod
    def _feed(
        injector: Injector, recorded: Recorded, now_ns: int, shift_ns: int, kinds: Mapping[str, str]
    ) -> Iterator[Recorded]:
        message: Any = recorded
        if injector.reads(recorded.topic):
            try:
                message = recorded.message()
            except Rejection as rejection:  # damaged already: nothing to be done to it
                injector.refused[f"{recorded.topic}: {rejection}"] += 1
                yield recorded
                return
        for sample in injector.feed(recorded.topic, message, now_ns):
            if sample.message is message:
                yield replace(recorded, time_ns=sample.time_ns - shift_ns)
            else:
                yield _made(sample, shift_ns, kinds, recorded.recording)


class _Made(Codec):
    """Stands where a recorded payload stood, and holds the message itself."""

    def __init__(self, kind: str, message: Any) -> None:
        super().__init__(kind)
        self.made = message

    def message(self, raw: bytes) -> Any:
        return self.made

    def header(self, raw: bytes) -> tuple[int, str] | None:
        header = getattr(self.made, "header", None)
        if header is None:
            return None
        return nanoseconds(header.stamp), header.frame_id


def _made(sample: Sample, shift_ns: int, kinds: Mapping[str, str], number: int) -> Recorded:
    kind, time_ns = kinds[sample.topic], sample.time_ns - shift_ns
    if isinstance(sample.message, Recorded):  # nobody looked into it
        return replace(sample.message, time_ns=time_ns, recording=number)
    return Recorded(sample.topic, kind, time_ns, b"", _Made(kind, sample.message), number)


def inject_bag(
    paths: Sequence[Path],
    out: Path,
    specs: Sequence[FaultSpec],
    *,
    seed: int = 0,
    topics: Mapping[str, str] | None = None,
    overwrite: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Write a copy of a recording in which the faults of a schedule happen.

    Untouched messages keep their bytes and log times; latched topics stay latched. An interrupted
    run leaves nothing.

    Args:
        paths: recordings; schedules count from the start of the first.
        out: folder of the new bag.
        specs: what goes wrong and when.
        seed: of everything random.
        topics: modality -> its topic; None: guessed from the recording.
        overwrite: replace an earlier copy that is there already.
        on_progress: called with (messages read, messages in all).

    Returns:
        What was done: `faults` (schedule, and messages that came while each was on), `seed`,
        `topics`, `messages` read and written, `notices`.

    Raises:
        RobustsegError: the recording or the target folder cannot be used, or a fault names no
            sensor of it.
    """
    check_is_folder_name(out)
    with (
        staged(out, command="inject", inputs=paths, replace=overwrite) as folder,
        Bag(paths) as bag,
    ):
        if not bag.message_count:
            raise RobustsegError(f"{bag.paths[0]} holds no message; record it again")
        sensors = guessed_topics(bag) if topics is None else dict(topics)
        disturbed = FaultyBag(bag, specs, seed=seed, topics=sensors)
        latched = {topic.name for topic in bag.topics if topic.latched}
        lost: Counter[str] = Counter()
        read = written = 0
        with BagWriter(folder / out.name) as writer:  # its file is named as the folder is
            for recorded in disturbed.disturbed():
                if recorded is None:
                    read += 1
                    on_progress(read, bag.message_count)
                elif why := writer.copy(
                    recorded,
                    latched=recorded.topic in latched,
                    touched=recorded.topic in disturbed.injector.topics,
                ):
                    lost[f"{recorded.topic} is not in the new bag: {why}"] += 1
                else:
                    written += 1
        for file in (folder / out.name).iterdir():
            file.rename(folder / file.name)
        (folder / out.name).rmdir()
        injector = disturbed.injector
        counted = {**lost, **injector.refused}
        return {
            "bags": [path.name for path in bag.paths],
            "faults": [
                {"fault": str(spec), "messages": injector.changed[str(spec)]}
                for spec in injector.specs
            ],
            "seed": seed,
            "topics": sensors,
            "messages": {"read": read, "written": written},
            "notices": [*bag.notices, *(f"{text} ({n} messages)" for text, n in counted.items())],
        }


def guessed_topics(bag: Bag) -> dict[str, str]:
    """modality -> the topic that looks like it."""
    return survey(bag).robot().topics
