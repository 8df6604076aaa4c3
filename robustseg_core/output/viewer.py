"""open3d's window for labelled clouds: the arrow keys step through a drive."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from robustseg_core.errors import RobustsegError, not_installed
from robustseg_core.output.cloud_picture import EYE, GROUND, TARGET

T = TypeVar("T")

KEPT = 300
"""Clouds that one can go back to."""
RIGHT, LEFT, SPACE, HOME = 262, 263, 32, 268
"""GLFW's numbers of the keys."""
KEYS = "Right or Space: on, Left: back, Home: the oldest that is kept, H: open3d's keys, Q: end"

Painted = tuple[NDArray[np.float32], NDArray[np.uint8]]
"""(N, 3) metres in the camera's optical frame, and (N, 3) RGB."""


class Album(Generic[T]):
    """What an iterator gives, to be leafed through: it is asked for more at the end only.

    Args:
        items: in their order.
        kept: how many one can go back to.
    """

    def __init__(self, items: Iterator[T], kept: int = KEPT) -> None:
        self._items = items
        self._seen: deque[T] = deque(maxlen=kept)
        self._place = -1

    def on(self) -> T | None:
        """The next one; None: there is none."""
        if self._place + 1 < len(self._seen):
            self._place += 1
            return self._seen[self._place]
        for item in self._items:
            self._seen.append(item)
            self._place = len(self._seen) - 1
            return item
        return None

    def back(self) -> T | None:
        """The one before; None: this is the oldest that is kept."""
        if self._place <= 0:
            return None
        self._place -= 1
        return self._seen[self._place]

    def first(self) -> T | None:
        """The oldest that is kept; None: there is none."""
        if not self._seen:
            return None
        self._place = 0
        return self._seen[0]


def has_display(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a window can be opened: of Linux, by the environment; elsewhere it always can."""
    if not sys.platform.startswith("linux"):
        return True
    return bool(environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY"))


def show(
    album: Album[T], paint: Callable[[T], Painted], tell: Callable[[T], None], *, title: str
) -> bool:
    """Leaf through clouds in a window until it is closed.

    Args:
        album: of what can be painted.
        paint: makes points and colors of an item.
        tell: says which one is shown now.
        title: of the window.

    Returns:
        Whether there was anything to show.

    Raises:
        RobustsegError: open3d is not installed, or opens no window here.
    """
    try:
        import open3d
    except ImportError:
        raise RobustsegError(f"{not_installed('open3d')}, or give --out") from None
    shown = album.on()
    if shown is None:
        return False
    window = open3d.visualization.VisualizerWithKeyCallback()
    if not window.create_window(title, 1280, 800):
        raise RobustsegError("open3d opens no window on this display; give --out for pictures")
    cloud = open3d.geometry.PointCloud()

    def draw(item: T | None, *, first: bool = False) -> bool:
        if item is None:
            return False
        points, colors = paint(item)
        cloud.points = open3d.utility.Vector3dVector(points.astype(np.float64))
        cloud.colors = open3d.utility.Vector3dVector(colors / 255.0)
        if first:
            window.add_geometry(cloud)
        else:
            window.update_geometry(cloud)
        tell(item)
        return True

    draw(shown, first=True)
    options = window.get_render_option()
    options.background_color, options.point_size = np.array(GROUND) / 255, 3.0
    _look(window.get_view_control())
    turns = ((RIGHT, album.on), (SPACE, album.on), (LEFT, album.back), (HOME, album.first))
    for key, turn in turns:
        window.register_key_callback(key, lambda _window, turn=turn: draw(turn()))
    window.run()
    window.destroy_window()
    return True


def _look(control: Any) -> None:
    """As in the pictures: from behind and above the camera."""
    control.set_lookat(TARGET)
    control.set_front(np.subtract(EYE, TARGET) / np.linalg.norm(np.subtract(EYE, TARGET)))
    control.set_up((0.0, -1.0, 0.0))
    control.set_zoom(0.2)
