"""What a pixel can be: the class lists of public data sets, with the colors that people expect."""

from __future__ import annotations

from typing import NamedTuple


class ClassSet(NamedTuple):
    """Names and colors of classes; a class's id is its place."""

    names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    """RGB per class."""


def _table(**rows: tuple[int, int, int]) -> ClassSet:
    return ClassSet(tuple(name.replace("_", " ") for name in rows), tuple(rows.values()))


CITYSCAPES = _table(
    road=(128, 64, 128),
    sidewalk=(244, 35, 232),
    building=(70, 70, 70),
    wall=(102, 102, 156),
    fence=(190, 153, 153),
    pole=(153, 153, 153),
    traffic_light=(250, 170, 30),
    traffic_sign=(220, 220, 0),
    vegetation=(107, 142, 35),
    terrain=(152, 251, 152),
    sky=(70, 130, 180),
    person=(220, 20, 60),
    rider=(255, 0, 0),
    car=(0, 0, 142),
    truck=(0, 0, 70),
    bus=(0, 60, 100),
    train=(0, 80, 100),
    motorcycle=(0, 0, 230),
    bicycle=(119, 11, 32),
)
"""The 19 train ids of Cityscapes, which MUSES shares."""
