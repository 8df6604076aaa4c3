"""The files of a result that programs read: JSON in one piece, and a table of lines."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from robustseg_core.storage.output_folder import replacing
from robustseg_core.text import csv_cell


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """`content`, indented; a file that is there is replaced in one piece."""
    with replacing(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=1) + "\n")


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """A line for each row, below the columns' names; what a row lacks, or is None, is empty."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for row in rows:
            writer.writerow([csv_cell(row.get(key)) for key in columns])
