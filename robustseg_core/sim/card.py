"""A card for a folder of simulated drives, for those who find, load and cite data sets by machine.

Croissant 1.0 (Akhtar et al., "Croissant: A Metadata Format for ML-Ready Datasets", 2024;
https://docs.mlcommons.org/croissant/docs/croissant-spec.html): what the drives are, a digest of
each file, and its recipe as a record. `mlcroissant` reads it.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from robustseg_core.errors import RobustsegError
from robustseg_core.storage.budget import read_json
from robustseg_core.storage.digest import sha256
from robustseg_core.storage.output_folder import replacing
from robustseg_core.version import __version__

log = logging.getLogger(__name__)

NAME = "croissant.json"
CONFORMS = "http://mlcommons.org/croissant/1.0"
_MAKER = "robustseg"
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    **{
        word: f"cr:{word}"
        for word in (
            *("citeAs", "column", "equivalentProperty", "extract", "field", "fileProperty"),
            *("fileObject", "fileSet", "format", "includes", "isLiveDataset", "jsonPath", "key"),
            *("md5", "parentField", "path", "recordSet", "references", "regex", "repeated"),
            *("replace", "samplingRate", "separator", "source", "subField", "transform"),
        )
    },
    "sha256": "sc:sha256",
}
"""That of the specification; readers warn of any other."""
_FIELDS = {
    "file": ("sc:Text", "Name of the drive, an MCAP file (rosbag2's profile)."),
    "seed": ("sc:Integer", "Of the street and everything in it."),
    "seconds": ("sc:Float", "Length of the drive."),
    "conditions": ("sc:Text", "Weather and light, with commas."),
    "preset": ("sc:Text", "Size and detail of the sensors."),
    "views": ("sc:Integer", "Moments that are recorded, spread over the drive; 0: all of it."),
    "rig": ("sc:Text", "Whether the robot is the preset's or drawn at random."),
    "streets": ("sc:Text", "Whether streets are plain or varied."),
}


_TYPES: Mapping[str, Any] = {"sc:Text": str, "sc:Integer": int, "sc:Float": (int, float)}
_DEFAULTS = {"views": 0, "rig": "preset", "streets": "plain"}
"""Of fields that an account leaves out."""


def write_card(folder: Path) -> bool:
    """Write `croissant.json` into a folder of drives.

    One of somebody else, and a link, stay, with a warning.

    It tells of all drives that have their account beside them, whichever call made them, and stays
    as it is while they are those of the card and none is newer.

    Returns:
        Whether the card tells of the drives now; False: there are none, or it is somebody else's.
    """
    path = folder / NAME
    recipes = _recipes(folder)
    if not recipes:
        return False
    known = _known(path)
    if known is None and os.path.lexists(path):
        log.warning("%s is not ours, and stays; move it away for a card of the drives", path)
        return False
    newest_s = max((folder / name).stat().st_mtime for name in recipes)
    if known == list(recipes) and path.stat().st_mtime >= newest_s:
        return True
    with replacing(path) as unfinished:
        unfinished.write_text(json.dumps(card(folder, recipes), indent=1) + "\n")
    return True


def card(folder: Path, recipes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The card as JSON-LD; reads each drive once, for its digest.

    Args:
        folder: where the drives are.
        recipes: name of the file -> its recipe, as its account has it.
    """
    newest_s = max((folder / name).stat().st_mtime for name in recipes)
    published = datetime.fromtimestamp(newest_s, timezone.utc).date().isoformat()
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS,
        "name": "robustseg-simulated-drives",
        "description": "Drives through simulated streets: camera, depth camera, event camera, "
        "LiDAR, transforms, calibrations, and the class of every pixel (Cityscapes' 19), as ROS 2 "
        "recordings. Each can be made again from its recipe.",
        "creator": {"@type": "sc:Organization", "name": _MAKER},
        "version": __version__,
        "datePublished": published,
        "license": "https://spdx.org/licenses/CC0-1.0.html",
        "citeAs": f"robustseg {__version__}, simulated drives",
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": name,
                "name": name,
                "contentUrl": name,
                "encodingFormat": "application/octet-stream",
                "sha256": sha256(folder / name).hexdigest(),
            }
            for name in recipes
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "drives",
                "name": "drives",
                "description": "The recipe of each drive.",
                "field": [
                    {
                        "@type": "cr:Field",
                        "@id": f"drives/{field}",
                        "name": field,
                        "description": text,
                        "dataType": kind,
                    }
                    for field, (kind, text) in _FIELDS.items()
                ],
                "data": [_record(name, recipe) for name, recipe in recipes.items()],
            }
        ],
    }


def _record(name: str, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A drive's row.

    Raises:
        ValueError, TypeError, KeyError, OverflowError: it is no recipe of ours.
    """
    conditions = recipe["conditions"]
    if not isinstance(conditions, list) or not all(isinstance(word, str) for word in conditions):
        raise ValueError(f"conditions are {conditions!r}, expected a list of words")
    told = {**_DEFAULTS, **recipe, "file": name, "conditions": ",".join(conditions)}
    for field, (kind, _) in _FIELDS.items():
        value = told[field]
        right = isinstance(value, _TYPES[kind]) and not isinstance(value, bool)
        if not right or (kind == "sc:Float" and not math.isfinite(value)):
            raise ValueError(f"{field} is {value!r}, expected {kind}")
    return {f"drives/{field}": told[field] for field in _FIELDS}


def _recipes(folder: Path) -> dict[str, Mapping[str, Any]]:
    """Of the drives that have an account: name of the file -> recipe; sorted."""
    found = {}
    for path in sorted(folder.glob("*.mcap")):
        # Of somebody else, or no recording at all
        with suppress(OSError, ValueError, TypeError, KeyError, OverflowError, RobustsegError):
            if not path.is_file():
                continue
            recipe = read_json(path.with_suffix(".json"))["recipe"]
            _record(path.name, recipe)
            found[path.name] = recipe
    return found


def _known(path: Path) -> list[str] | None:
    """The drives that a card of ours tells of; None: there is none."""
    try:
        if path.is_symlink():  # where it leads, it is the card of another folder, or none
            return None
        known = read_json(path)
        if known["creator"]["name"] == _MAKER:
            return [str(entry["name"]) for entry in known["distribution"]]
    except (OSError, ValueError, TypeError, KeyError, RobustsegError):
        pass
    return None
