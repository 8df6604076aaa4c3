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

DELIVER = _table(
    building=(70, 70, 70),
    fence=(100, 40, 40),
    other=(55, 90, 80),
    pedestrian=(220, 20, 60),
    pole=(153, 153, 153),
    road_line=(157, 234, 50),
    road=(128, 64, 128),
    sidewalk=(244, 35, 232),
    vegetation=(107, 142, 35),
    cars=(0, 0, 142),
    wall=(102, 102, 156),
    traffic_sign=(220, 220, 0),
    sky=(70, 130, 180),
    ground=(81, 0, 81),
    bridge=(150, 100, 100),
    rail_track=(230, 150, 140),
    ground_rail=(180, 165, 180),
    traffic_light=(250, 170, 30),
    static=(110, 190, 160),
    dynamic=(170, 120, 50),
    water=(45, 60, 150),
    terrain=(145, 170, 100),
    two_wheeler=(0, 0, 230),
    bus=(0, 60, 100),
    truck=(0, 0, 70),
)
"""The 25 classes of DELIVER (CARLA's); "other" is scored like any (issue 26 of its repository)."""

MCUBES = _table(
    asphalt=(44, 160, 44),
    concrete=(31, 119, 180),
    metal=(255, 127, 14),
    road_marking=(214, 39, 40),
    fabric=(140, 86, 75),
    glass=(127, 127, 127),
    plaster=(188, 189, 34),
    plastic=(255, 152, 150),
    rubber=(23, 190, 207),
    sand=(174, 199, 232),
    gravel=(196, 156, 148),
    ceramic=(197, 176, 213),
    cobblestone=(247, 182, 210),
    brick=(199, 199, 199),
    grass=(219, 219, 141),
    wood=(158, 218, 229),
    leaf=(57, 59, 121),
    water=(107, 110, 207),
    human=(156, 158, 222),
    sky=(99, 121, 57),
)
"""The 20 materials of MCubeS."""
