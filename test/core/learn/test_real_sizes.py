"""The public data sets at the sizes that their files have: trained and evaluated as documented."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from robustseg_core import datasets
from robustseg_core.cli.main import app
from robustseg_core.cli.terminal import guarded
from robustseg_core.errors import RobustsegError
from robustseg_core.evaluation import evaluate
from robustseg_core.learn.fit import fit
from robustseg_core.learn.recipe import load_recipe
from robustseg_core.models import checkpoint
from support import dataset_trees

pytestmark = pytest.mark.slow


class Case(NamedTuple):
    make: Callable[[Path], dataset_trees.Tree]
    """One sample to train on, one to validate by."""
    native: tuple[int, int]
    """(H, W) of samples as they are."""
    two: str
    """Sensors to train on: three subsets instead of fifteen."""
    options: Mapping[str, Any] = MappingProxyType({})


CASES = {
    "deliver": Case(
        lambda root: dataset_trees.deliver(root, 1042, (0, 5)), (1042, 1042), "rgb, event"
    ),
    "muses": Case(
        lambda root: dataset_trees.muses(root, png=False, size=(1080, 1920), scenes=(0, 3)),
        (1080, 1920),
        "rgb, lidar",
        {"event_size": dataset_trees.EVENT_SIZE},
    ),
    "mcubes": Case(
        lambda root: dataset_trees.mcubes(
            root, (1024, 1224), {"train": ["out_1_0000000001"], "val": ["out_2_0000000001"]}
        ),
        (1024, 1032),
        "rgb, nir",
    ),
}
SMALL = (
    "data.workers=0",
    "network={backbone: tiny, head: folded, head_width: 16}",
    "optim.steps=1",
    "optim.batch=1",
    "augment.crop=[64, 96]",
)


@pytest.fixture(params=CASES)
def kind(request) -> str:
    return request.param


def test_what_the_recipes_say_trains_and_is_evaluated_at_the_published_size(kind, tmp_path, capsys):
    case = CASES[kind]
    root = case.make(tmp_path / "root").paths[0]
    make = datasets.load(kind)
    assert make([root], "train", options=case.options).shape == case.native
    words = [f"data.{split}=[{root}]" for split in ("train", "val")]
    words += [*SMALL, f"data.modalities=[{case.two}]"]
    words += [f"data.options.{key}={json.dumps(value)}" for key, value in case.options.items()]
    fit(load_recipe(["teacher", kind], words), tmp_path / "run")
    weights = tmp_path / "run/best.safetensors"
    assert checkpoint.load(weights).spec.size == make.protocol_size == (1024, 1024)

    out = tmp_path / "eval"
    command = ["eval", weights, root, "--kind", kind, "--split", "val", "--out", out]
    command += ["--protocol", "subsets"]
    for key, value in case.options.items():
        command += ["--set", f"{key}={json.dumps(value)}"]
    assert guarded(lambda: app(list(map(str, command)))) == 0
    capsys.readouterr()
    about = json.loads((out / "results.json").read_text())["about"]
    assert (about["size"], about["samples"]) == ([1024, 1024], 1)


def test_a_size_that_no_network_takes_is_refused_with_the_published_one(tmp_path):
    root = CASES["deliver"].make(tmp_path / "root").paths[0]
    where = [f"data.train=[{root}]", *SMALL]
    said = (
        r"^samples of deliver have 1042 rows and 1042 columns.*data.size=\[1024,1024\], or "
        r"--size 1024x1024 to eval, the size of its published figures$"
    )
    with pytest.raises(RobustsegError, match=said):
        fit(load_recipe(["teacher", "deliver"], [*where, "data.size=null"]), tmp_path / "run")
    assert not (tmp_path / "run/state.safetensors").exists()
    data = datasets.load("deliver")([root], "val")
    spec = checkpoint.make_spec(
        {
            "modalities": data.modalities,
            "classes": data.classes.names,
            "palette": data.classes.palette,
            "encodings": data.encodings,
        },
        source="test",
    )
    with pytest.raises(RobustsegError, match=said):
        evaluate(checkpoint.untrained(spec), data)
