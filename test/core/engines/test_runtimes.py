"""OpenVINO and ONNX Runtime say what PyTorch says, with any subset; where they are installed."""

from __future__ import annotations

import importlib.util
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from robustseg_core.engines import artifact
from robustseg_core.engines._graphs import expect_packed, graphs
from robustseg_core.engines.artifact import Exported
from robustseg_core.engines.opening import RUNTIMES, open_engine
from robustseg_core.engines.parity import Parity, noise
from robustseg_core.engines.precision import LEAST, Samples
from robustseg_core.engines.weights import weights_file
from robustseg_core.errors import RobustsegError
from robustseg_core.models import checkpoint
from robustseg_core.models.checkpoint import default_spec, untrained
from robustseg_core.models.network import Network
from robustseg_core.recording.export import Drive, export
from robustseg_core.sim.produce import Recipe, simulate
from robustseg_core.types import Bundle

pytestmark = pytest.mark.slow

NAMES = ("rgb", "depth", "lidar")
SPECS = {
    "shared": default_spec(NAMES, size=(32, 64), fusion="gated"),
    "swift": default_spec(
        NAMES,
        size=(32, 64),
        architecture="swift",
        fusion="trust",
        channels={"lidar": 5},
        stem="per_modality",
    ),
}


def needs(*modules: str):
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def model(name: str) -> Network:
    """With weights whose logits differ from pixel to pixel."""
    made = untrained(SPECS[name], seed=3)
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.head.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=rng))
    return made


@pytest.mark.parametrize(
    "engine", [pytest.param(e, marks=needs("onnx", m)) for e, m in RUNTIMES.items()]
)
@pytest.mark.parametrize("name", sorted(SPECS))
def test_it_says_what_pytorch_says(engine: str, name: str):
    network = model(name)
    eager = open_engine(Exported(network), device="cpu", engine="eager", cpu_threads=1)
    tried = open_engine(Exported(network), device="cpu", engine=engine, cpu_threads=1)
    parity = Parity(network.spec, eager, tried)
    for bundle in noise(network.spec, 2):
        parity.add(bundle)
    assert len(parity.rows) == 7
    assert parity.worst[1].share >= 0.999
    assert max(row.levels for row in parity.rows.values()) <= 1


@needs("onnx", "openvino")
def test_held_frames_keep_their_maps():
    network = model("shared")  # one graph serves all sensors
    tried = open_engine(Exported(network), device="cpu", engine="openvino", cpu_threads=1)
    eager = open_engine(Exported(network), device="cpu", engine="eager", cpu_threads=1)
    first, second = noise(network.spec, 2)
    mixed = Bundle(1, {**first.frames, "rgb": second.frames["rgb"]})
    for bundle in (first, mixed, first):
        assert (tried(bundle)[0] == eager(bundle)[0]).mean() > 0.999
    assert tried.memory.encoded == 5


@needs("onnx", "openvino")
def test_an_export_runs_and_reports(tmp_path: Path):
    weights, out = tmp_path / "x.safetensors", tmp_path / "x.rseg"
    checkpoint.save(weights, model("swift"))
    report = export(weights, out, engine="openvino")
    assert len(report.subsets) == 7 and not report.cost
    assert all(row["labels_equal"] >= 0.999 for row in report.subsets.values())
    read = artifact.load(out)
    assert (read.engine, read.precision) == ("openvino", "fp32")
    assert read.about["parity"]["subsets"] == report.subsets
    (bundle,) = noise(read.spec, 1)
    assert open_engine(read, device="cpu", cpu_threads=1)(bundle)[0].shape == (32, 64)


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated drive of two seconds, with the truth."""
    path = tmp_path_factory.mktemp("sim") / "drive.mcap"
    simulate(path, Recipe(seed=11, seconds=2.0, conditions=("clear",), preset="tiny"))
    return path


@pytest.mark.parametrize(
    "engine", [pytest.param(e, marks=needs("onnx", "onnxruntime", m)) for e, m in RUNTIMES.items()]
)
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_less_than_float32_says_what_it_costs(
    precision: str, engine: str, drive: Path, tmp_path: Path
):
    out = tmp_path / "x.rseg"
    some = Drive(drive, frames=2, every=4)
    report = export(weights_file("street"), out, engine=engine, precision=precision, drive=some)
    assert len(report.subsets) == 15
    assert all(row["labels_equal"] >= LEAST[precision] for row in report.subsets.values())
    least = 0.9995 if precision == "fp16" else 0.95
    assert report.subsets["rgb+depth+event+lidar"]["labels_equal"] >= least
    assert report.cost["times_as_fast"] > 0
    assert abs(report.cost["miou"] - report.cost["miou_fp32"]) < 0.03
    read = artifact.load(out)
    assert read.precision == precision and read.about["parity"]["miou"] == report.cost["miou"]
    full = sum(map(len, graphs(expect_packed(read.model, engine)).values()))
    assert sum(map(len, read.graphs.values())) < 0.6 * full
    (bundle,) = noise(read.spec, 1)
    assert open_engine(read, device="cpu", cpu_threads=1)(bundle)[0].shape == read.spec.size


@needs("onnx", "openvino")
def test_a_graph_that_is_none_is_explained():
    graphs = {"encode": b"nothing"}
    with pytest.raises(RobustsegError, match="does not take this graph"):
        open_engine(Exported(model("shared"), "openvino", graphs), device="cpu", engine="openvino")


@pytest.mark.parametrize(
    ("words", "out", "says"),
    [
        ({"engine": "eager"}, "x.rseg", "engine is 'eager'"),
        ({"engine": "openvino"}, "x.onnx", "ends in .rseg"),
        ({"engine": "openvino"}, "gone/x.rseg", "no folder .*gone for x.rseg"),
        ({"engine": "openvino", "precision": "int4"}, "x.rseg", "precision is 'int4'"),
        ({"engine": "openvino", "precision": "int8"}, "x.rseg", "give one with --drive"),
        (
            {"engine": "openvino", "precision": "int8", "drive": Drive(Path("d"), every=1)},
            "x.rseg",
            "every is 1.*between those that are compared.*2 or more",
        ),
    ],
)
def test_an_export_that_cannot_be_is_explained(
    words: dict[str, str], out: str, says: str, tmp_path: Path
):
    with pytest.raises(RobustsegError, match=says):
        export(tmp_path / "x.safetensors", tmp_path / out, **words)


@pytest.mark.parametrize("theirs", ["text", "checkpoint", "folder", "link"])
def test_an_export_replaces_nothing_but_an_export(theirs: str, tmp_path: Path):
    out = tmp_path / "x.rseg"
    if theirs == "text":
        out.write_text("years of work")
    elif theirs == "folder":
        out.mkdir()
    elif theirs == "link":
        out.symlink_to(tmp_path / "gone")
    else:
        checkpoint.save(out, model("shared"))
    before = out.lstat()
    with pytest.raises(RobustsegError, match=r"x\.rseg is there already, and no export; "):
        export(out, out, engine="openvino")
    assert (out.lstat().st_size, out.lstat().st_ino) == (before.st_size, before.st_ino)


@given(count=st.integers(1, 200), most=st.integers(2, 9))
def test_samples_are_spread_over_all_that_came(count: int, most: int):
    samples = Samples(most)
    for number in range(count):
        samples("graph", [np.full(1, number, np.float32)])
    kept = [int(inputs[0][0]) for inputs in samples.inputs["graph"]]
    assert kept[0] == 0 and len(kept) <= most
    steps = {later - earlier for earlier, later in pairwise(kept)}
    assert len(steps) <= 1 and count - kept[-1] <= max(steps, default=count)


def test_a_network_whose_sensors_meet_early_cannot_be_exported(tmp_path: Path):
    spec = default_spec(("rgb", "depth"), size=(32, 32), architecture="cmnext")
    checkpoint.save(tmp_path / "x.safetensors", untrained(spec))
    with pytest.raises(RobustsegError, match=r"a cmnext meet inside its encoder; use engine=eager"):
        export(tmp_path / "x.safetensors", tmp_path / "x.rseg", engine="openvino")
