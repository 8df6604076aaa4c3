"""What the network is given while a recording is played, without running one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from robustseg_core.bag import Bag
from robustseg_core.engines.blank import blank
from robustseg_core.recording.replay import replay
from robustseg_core.recording.robot import robot_for
from robustseg_core.segmenter import Segmenter
from robustseg_core.types import Bundle, ModelSpec


def bundles(
    path: Path, spec: ModelSpec, *, params: Path | None = None, overrides: Sequence[str] = ()
) -> Iterator[Bundle]:
    """The bundles that a network of `spec` is asked about, in their order.

    Raises:
        RobustsegError: the recording or the configuration cannot be used.
    """
    with Bag([path]) as bag:
        robot = robot_for(bag, params, overrides).model_copy(update={"alpha": 0.0})
        for label_map in replay(bag, Segmenter(robot, spec, blank(spec))):
            yield label_map.bundle
