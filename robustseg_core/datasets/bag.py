"""Recordings to learn from as they are: extracted once, behind the scenes, and read like shards."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from robustseg_core.datasets._base import Dataset, Sample
from robustseg_core.datasets.shards import Shards
from robustseg_core.extraction.extract import Extraction, Material, extract


class BagDataset(Dataset):
    """The sets of recordings, labelled or not, as the node would have closed them.

    Making one extracts the recordings, unless `cache` has them.

    Args:
        paths: recordings, each for itself.
        split: ignored; give each split its own recordings.
        size: (H, W) of samples; None: 192x256.
        modalities: columns; None: the streams that the robot has.
        options: see `Options`.

    Raises:
        RobustsegError: as `extract`, or no sample is left.
    """

    class Options(Material, Shards.Options):
        """What is taken out of the recordings, which of it is used, and where it is kept."""

        cache: Path | None = Field(
            None,
            description="Folder that keeps what was extracted; null: a temporary one, which goes "
            "with the data set.",
        )
        jobs: int = Field(1, ge=1, description="Processes that extract.")

    options: Options

    def __init__(
        self,
        paths: Sequence[Path],
        split: str = "train",
        *,
        size: tuple[int, int] | None = None,
        modalities: Sequence[str] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(paths, split, size=size, modalities=modalities, options=options)
        cache = self.options.cache
        if cache is None:
            cache = Path(tempfile.mkdtemp(prefix="robustseg-"))
            weakref.finalize(self, _remove, cache, os.getpid())
        given = {name: getattr(self.options, name) for name in Material.model_fields}
        if size is not None:
            given["size"] = size
        extraction = Extraction(**given, modalities=tuple(modalities or ()))
        account = extract(self.paths, cache, extraction, jobs=self.options.jobs)
        self.notices = [n for row in account["recordings"] for n in row["notices"]]
        """What is wrong with the recordings, a sentence each."""
        self._shards = Shards(
            [cache / row["name"] for row in account["recordings"]],
            split,
            modalities=modalities,
            options={name: getattr(self.options, name) for name in Shards.Options.model_fields},
        )
        self.size = self._shards.size
        self.classes = self._shards.classes
        self.modalities = self._shards.modalities
        self.encodings = self._shards.encodings

    def __len__(self) -> int:
        """How many samples there are; never 0."""
        return len(self._shards)

    def __getitem__(self, index: int) -> Sample:
        """Sample `index`.

        Raises:
            IndexError: there are fewer.
        """
        return self._shards[index]

    def tags(self, index: int) -> Mapping[str, str]:
        """`scene` and `condition` of sample `index`."""
        return self._shards.tags(index)

    def fingerprint(self) -> str:
        """That of the shards."""
        return self._shards.fingerprint()

    def part_fingerprint(self, part: Sequence[int]) -> str:
        """That of the shards."""
        return self._shards.part_fingerprint(part)

    def parts(self) -> list[Sequence[int]]:
        """The samples of each recording."""
        return self._shards.parts()

    @property
    def labelled(self) -> bool:
        """Whether any sample has a label."""
        return self._shards.labelled


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # a worker's copy of the data set goes without its data
        shutil.rmtree(folder, ignore_errors=True)
