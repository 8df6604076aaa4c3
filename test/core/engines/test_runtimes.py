"""OpenVINO and ONNX Runtime say what PyTorch says, with any subset; where they are installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

from robustseg_core.engines import artifact
from robustseg_core.engines.artifact import Exported
from robustseg_core.engines.opening import RUNTIMES, open_engine
from robustseg_core.engines.parity import Parity, noise
from robustseg_core.errors import RobustsegError
from robustseg_core.models import checkpoint
from robustseg_core.models.checkpoint import default_spec, untrained
from robustseg_core.models.network import Network
from robustseg_core.recording.export import export
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
    account = export(weights, out, engine="openvino")
    assert len(account) == 7 and all(row["labels_equal"] >= 0.999 for row in account.values())
    read = artifact.load(out)
    assert read.engine == "openvino" and read.about["parity"]["subsets"] == account
    (bundle,) = noise(read.spec, 1)
    assert open_engine(read, device="cpu", cpu_threads=1)(bundle)[0].shape == (32, 64)


@needs("onnx", "openvino")
def test_a_graph_that_is_none_is_explained():
    graphs = {"encode": b"nothing"}
    with pytest.raises(RobustsegError, match="does not take this graph"):
        open_engine(Exported(model("shared"), "openvino", graphs), device="cpu", engine="openvino")


@pytest.mark.parametrize(
    ("engine", "out", "says"),
    [("eager", "x.rseg", "engine is 'eager'"), ("openvino", "x.onnx", "ends in .rseg")],
)
def test_an_export_that_cannot_be_is_explained(engine: str, out: str, says: str, tmp_path: Path):
    with pytest.raises(RobustsegError, match=says):
        export(tmp_path / "x.safetensors", tmp_path / out, engine=engine)


def test_a_network_whose_sensors_meet_early_cannot_be_exported(tmp_path: Path):
    spec = default_spec(("rgb", "depth"), size=(32, 32), architecture="cmnext")
    checkpoint.save(tmp_path / "x.safetensors", untrained(spec))
    with pytest.raises(RobustsegError, match=r"a cmnext meet inside its encoder; use engine=eager"):
        export(tmp_path / "x.safetensors", tmp_path / "x.rseg", engine="openvino")
