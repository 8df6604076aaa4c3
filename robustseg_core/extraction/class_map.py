"""Labels speak of other classes than the network: a table of ids, from YAML."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from robustseg_core import config
from robustseg_core.config import Strict
from robustseg_core.types import IGNORE, Color, Names


class ClassMap(Strict):
    """The ids of a recording's labels as the ids that are learned."""

    ids: dict[int, int] = Field(description="Id in the labels -> id to learn; 255 is ignored.")
    others: str = Field(
        "ignore", pattern="^(ignore|keep)$", description="What becomes of ids that are not named."
    )
    classes: Names = Field((), max_length=IGNORE, description="Names of the ids.")
    palette: tuple[Color, ...] = Field((), description="RGB of each class.")

    @model_validator(mode="after")
    def _consistent(self) -> ClassMap:
        if len(self.palette) != len(self.classes):
            raise ValueError(
                f"palette has {len(self.palette)} colors for {len(self.classes)} classes; "
                "give one RGB triple per class"
            )
        if bad := [i for pair in self.ids.items() for i in pair if not 0 <= i <= IGNORE]:
            raise ValueError(f"ids hold {bad[0]}; an id lies in 0 to {IGNORE}")
        return self

    def table(self) -> NDArray[np.uint8]:
        """(256,) new id of each old one."""
        keep = np.arange(256) if self.others == "keep" else np.full(256, IGNORE)
        table = keep.astype(np.uint8)
        table[IGNORE] = IGNORE
        for old, new in self.ids.items():
            table[old] = new
        return table


def load_class_map(path: Path) -> ClassMap:
    """A class map from YAML: the fields of `ClassMap`, or simply `old: new` lines.

    Raises:
        RobustsegError: it cannot be read, or is no class map.
    """
    tree = config.read_file(path)
    if tree and all(isinstance(key, int) for key in tree):
        places = {("ids", *path): place for path, place in tree.places.items()}
        tree = config.Tree({"ids": tree}, places)
    return config.parse(ClassMap, tree)
