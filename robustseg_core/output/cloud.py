"""The labelled cloud: points of a sensor, each with what the mask says where it lands.

They are those that the mask was made of (`LabelMap.scene`), in their sensor's own frame, as it is
at the mask's stamp if its mount moves, and placed as the network saw them; so it comes while any
sensor that knows distances is alive.
"""

from __future__ import annotations

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


def cloud(label_map: LabelMap, spec: ModelSpec, points: PointsConfig) -> Fields | None:
    """sensor_msgs/PointCloud2 with the mask's stamp, in the frame of the sensor that is chosen.

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
    if points.organized:
        index = placed.nearest(xyz, (height, width)).index
        table = np.zeros(height * width, POINT)
        here = index >= 0
        for name, column in zip("xyz", placed.now(xyz).T, strict=True):
            table[name] = np.nan
            table[name][here] = column[index[here]]
        pixel: NDArray[np.intp] | slice = slice(None)
    else:
        found = placed.lands(xyz, (height, width))
        table = np.zeros(len(found.index), POINT)
        for name, column in zip("xyz", placed.now(xyz).T, strict=True):
            table[name] = column[found.index]
        pixel = found.rows * width + found.cols
        height, width = 1, len(table)
    ids = label_map.ids.reshape(-1)[pixel]
    table["label"] = ids
    table["rgb"] = _packed(spec)[ids]
    table["confidence"] = label_map.confidence.reshape(-1)[pixel] / np.float32(255)
    return {
        "header": header(label_map.stamp_ns, strip(placed.reading.frame_id)),
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
