"""A picture of a labelled cloud, from behind and above the camera, by plain projection.

It needs no display, no GPU and no open3d, so a report can have it everywhere, and 200 000 points
take 14 ms of CPU. open3d's OffscreenRenderer wants EGL: where that does not start, 0.19 ends the
process (segmentation fault), so there would be nobody left to fall back on this; with Mesa it
starts if `EGL_PLATFORM=surfaceless` is set.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from robustseg_core.geometry._nearest import nearest
from robustseg_core.geometry.camera import Camera
from robustseg_core.output import draw
from robustseg_core.types import IGNORE, ModelSpec

SIZE: Final = (480, 800)
"""(H, W) of a picture."""
EYE: Final = (0.0, -4.0, -9.0)
"""Where it is taken from, in metres in the camera's frame: x right, y down, z ahead ..."""
TARGET: Final = (0.0, -0.5, 14.0)
"""... and what is in its middle."""
FIELD: Final = 0.9
"""Focal length beside the picture's width: 58 degrees across."""
GROUND: Final = (246, 248, 250)
"""RGB where there is no point."""
UNLABELLED: Final = (165, 170, 178)
"""RGB of a point without a label, which is black in masks."""
_POINT_PX: Final = 3
"""Side of a point."""


def cloud_picture(
    xyz: NDArray[np.float32],
    ids: NDArray[np.uint8],
    spec: ModelSpec,
    caption: str = "",
    *,
    size: tuple[int, int] = SIZE,
) -> NDArray[np.uint8]:
    """(H, W, 3) RGB of points in the classes' colors; the nearest one of a pixel is seen.

    Args:
        xyz: (N, 3) metres in the camera's optical frame; NaN: no point.
        ids: (N,) class ids.
        spec: the network's.
        caption: written into a corner.
        size: (H, W) of the picture.
    """
    height, width = size
    focal = FIELD * width
    camera = Camera(height, width, focal, focal, (width - 1) / 2, (height - 1) / 2)
    index = nearest(xyz, viewer_from_camera(), camera, size, grow=_POINT_PX).index
    pixels = np.full((height * width, 3), GROUND, np.uint8)
    here = index >= 0
    pixels[here] = point_colors(ids, spec)[index[here]]
    image: NDArray[np.uint8] = pixels.reshape(height, width, 3)
    if caption:
        draw.write(image, caption, (10, height - 12), 0.5)
    return image


def point_colors(ids: NDArray[np.uint8], spec: ModelSpec) -> NDArray[np.uint8]:
    """(N, 3) RGB of points with these (N,) class ids."""
    colors = draw.lookup(spec.palette)[ids]
    colors[ids == IGNORE] = UNLABELLED
    return colors


def viewer_from_camera() -> NDArray[np.float64]:
    """(4, 4) the frame of who looks from `EYE` at `TARGET`, from the camera's."""
    ahead = np.subtract(TARGET, EYE) / np.linalg.norm(np.subtract(TARGET, EYE))
    right = np.cross((0.0, 1.0, 0.0), ahead)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = right, np.cross(ahead, right), ahead
    pose[:3, 3] = -pose[:3, :3] @ np.array(EYE)
    return pose
