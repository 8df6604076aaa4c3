"""Where the sensors of a recording stood and how they looked, for whoever learns in 3-D."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from robustseg_core.geometry.view import View
from robustseg_core.types import Rejection


def calibration_of(view: View, frame_ids: Mapping[str, str]) -> dict[str, Any]:
    """What a view knows, as plain JSON.

    Args:
        view: at the end of a recording.
        frame_ids: modality -> frame of its messages.

    Returns:
        `frame_id` and `camera_size` (H, W) of the masks; `intrinsics`, the 3x3 camera matrix for
        pixels of the grid (absent without CameraInfo; lens distortion is in `cameras`);
        `view_from`, modality -> 4x4 transform to the view's optical frame, metres (absent where
        nobody told); `cameras`, modality -> its own CameraInfo; `moving`, modality -> frames of /tf
        on its way, whose `view_from` is the last one (absent where nothing moves).
    """
    found: dict[str, Any] = {"frame_id": view.frame_id, "camera_size": list(view.camera_size)}
    if camera := view.camera:
        down, across = view.size[0] / camera.height, view.size[1] / camera.width
        # Pixel centers are integers on both grids; the grids share their outer edges.
        center_x, center_y = (camera.cx + 0.5) * across - 0.5, (camera.cy + 0.5) * down - 0.5
        found["intrinsics"] = [
            [camera.fx * across, 0.0, center_x],
            [0.0, camera.fy * down, center_y],
            [0.0, 0.0, 1.0],
        ]
    found["view_from"], found["cameras"] = {}, {}
    moving = {name: list(view.moving(name, frame)) for name, frame in frame_ids.items()}
    if any(moving.values()):
        found["moving"] = {name: frames for name, frames in moving.items() if frames}
    for name, frame_id in frame_ids.items():
        with suppress(Rejection):  # nobody told where it is
            found["view_from"][name] = view.view_from(name, frame_id).tolist()
        if own := view.camera_of(name):
            found["cameras"][name] = asdict(own)
    return found
