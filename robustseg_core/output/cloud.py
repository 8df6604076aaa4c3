"""The labelled cloud: points of a sensor, each with what the mask says where it lands.

They are those that the mask was made of (`LabelMap.scene`), in their sensor's own frame, as it is
at the mask's stamp if its mount moves, and placed as the network saw them; so it comes while any
sensor that knows distances is alive.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from robustseg_core import modalities
from robustseg_core.config import AUTO, PointsConfig
from robustseg_core.geometry.scene import Placed, Scene
from robustseg_core.geometry.transforms import strip
from robustseg_core.output import draw
from robustseg_core.output.messages import Fields, header
from robustseg_core.types import LabelMap, ModelSpec

_KINDS: Final = {
    "x": "<f4",
    "y": "<f4",
    "z": "<f4",
    "rgb": "<u4",
    "label": "<u4",
    "confidence": "<f4",
}
POINT: Final[np.dtype[Any]] = np.dtype(list(_KINDS.items()))
"""On the wire. `rgb` is 0x00RRGGBB and told as a float, as PCL began and RViz reads it; `label` is
what PCL's points have; `confidence` is from 0 to 1."""
_FLOAT32, _UINT32 = 7, 6
"""sensor_msgs/PointField."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """Points of one sensor, N of them, and what the mask says of each."""

    placed: Placed
    """Whose they are."""
    xyz: NDArray[np.float32]
    """(N, 3) metres in the sensor's frame, as it is at the mask's stamp; NaN: none there."""
    ids: NDArray[np.uint8]
    """(N,) class ids."""
    confidence: NDArray[np.uint8]
    """(N,) 0..255, as `LabelMap.confidence`."""
    size: tuple[int, int]
    """(height, width) that they are arranged in; (1, N): one after the other."""

    @property
    def frame_id(self) -> str:
        """Of `xyz`."""
        return strip(self.placed.reading.frame_id)

    @property
    def camera_from_points(self) -> NDArray[np.float64]:
        """(4, 4) from the frame of `xyz` to that of the mask's camera."""
        placed = self.placed
        if placed.turned is None:
            return placed.camera_from_sensor
        return placed.camera_from_sensor @ np.linalg.inv(placed.turned)


def labelled(label_map: LabelMap, points: PointsConfig) -> Labelled | None:
    """The points that the robot wants to have labelled.

    A point gets the label of the mask's pixel that it lands in, also if it is hidden behind a
    nearer one there; what lands beside the mask is left out. Organized, there is one point a pixel,
    the nearest; a pixel without one has NaN for x, y, z, and its label all the same. None: the mask
    was made of no sensor that knows distances, or not of the one that is wanted, or no lens is
    known.
    """
    scene: Scene | None = label_map.scene
    placed = _chosen(scene, points) if scene else None
    if placed is None:
        return None
    height, width = label_map.ids.shape
    most = None if points.organized else points.most
    xyz = modalities.load(placed.reading.modality).points(placed, most)
    pixel: NDArray[np.intp] | slice
    if points.organized:
        index = placed.nearest(xyz, (height, width)).index
        here = index >= 0
        where = np.full((3, height * width), np.nan, np.float32)
        where[:, here] = placed.now(xyz).T[:, index[here]]
        pixel = slice(None)
    else:
        found = placed.lands(xyz, (height, width))
        where = placed.now(xyz).T[:, found.index]
        pixel = found.rows * width + found.cols
        height, width = 1, len(found.index)
    ids, sure = label_map.ids.reshape(-1)[pixel], label_map.confidence.reshape(-1)[pixel]
    return Labelled(placed, where.T, ids, sure, (height, width))


def cloud(label_map: LabelMap, spec: ModelSpec, points: PointsConfig) -> Fields | None:
    """sensor_msgs/PointCloud2 of `labelled`, with the mask's stamp; None as there."""
    found = labelled(label_map, points)
    if found is None:
        return None
    table = np.empty(len(found.ids), POINT)
    for name, column in zip("xyz", found.xyz.T, strict=True):
        table[name] = column
    table["label"] = found.ids
    table["rgb"] = _packed(spec)[found.ids]
    table["confidence"] = found.confidence / np.float32(255)
    height, width = found.size
    return {
        "header": header(label_map.stamp_ns, found.frame_id),
        "height": height,
        "width": width,
        "fields": [
            {
                "name": name,
                "offset": 4 * place,
                "datatype": _UINT32 if name == "label" else _FLOAT32,
                "count": 1,
            }
            for place, name in enumerate(_KINDS)
        ],
        "is_bigendian": False,
        "point_step": POINT.itemsize,
        "row_step": width * POINT.itemsize,
        "data": table.view(np.uint8).reshape(-1),
        "is_dense": not points.organized,
    }


def _chosen(scene: Scene, points: PointsConfig) -> Placed | None:
    """Whose points they are."""
    if points.source != AUTO:
        return scene.placed.get(points.source)
    known = modalities.ranked(scene.placed)
    # An image of distances fills the mask's pixels, a scan does not; but it sees farther.
    wanted = sorted(known, key=lambda name: (scene.placed[name].lens is None) is points.organized)
    return scene.placed[wanted[0]] if wanted else None


def _packed(spec: ModelSpec) -> NDArray[np.uint32]:
    """(256,) 0x00RRGGBB by class id."""
    red, green, blue = draw.lookup(spec.palette).astype(np.uint32).T
    packed: NDArray[np.uint32] = red << 16 | green << 8 | blue
    return packed
