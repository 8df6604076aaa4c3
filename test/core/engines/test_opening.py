"""Which engine runs what, and what is said where one cannot."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from robustseg_core import errors
from robustseg_core.engines import artifact, opening
from robustseg_core.engines.artifact import Exported
from robustseg_core.engines.eager import EagerEngine, pick_device
from robustseg_core.engines.opening import choose, device_of, open_engine
from robustseg_core.engines.parity import Parity, noise
from robustseg_core.engines.weights import engine_of, weights_of
from robustseg_core.errors import RobustsegError
from robustseg_core.models import checkpoint
from robustseg_core.models.checkpoint import default_spec, untrained
from robustseg_core.robot.config import RobotConfig
from robustseg_core.segmenter import Segmenter

SPEC = default_spec(("rgb", "depth"), size=(32, 32))
MODEL = untrained(SPEC)
CPU = torch.device("cpu")


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    path = tmp_path / "student.rseg"
    artifact.write(
        path, MODEL.folded(), {"encode": b"graph"}, engine="openvino", precision="fp32", parity={}
    )
    return path


def test_a_robots_choice_is_one_of_those_that_there_are():
    for name in opening.ENGINES:
        assert RobotConfig(engine=name).engine == name
    with pytest.raises(RobustsegError, match="engine"):
        RobotConfig(engine="turbo")
    with pytest.raises(RobustsegError, match="engine is 'openvin'; did you mean 'openvino'"):
        choose("openvin", Exported(MODEL), CPU)


def test_a_checkpoint_runs_as_it_is_unless_it_is_asked_otherwise():
    assert choose("auto", Exported(MODEL), CPU) == "eager"
    assert choose("onnxruntime", Exported(MODEL), CPU) == "onnxruntime"
    assert isinstance(open_engine(Exported(MODEL), device="cpu", cpu_threads=1), EagerEngine)


def test_what_is_exported_runs_on_its_engine_where_that_is_installed(monkeypatch, caplog):
    made = Exported(MODEL, "openvino", {"encode": b""})
    monkeypatch.setattr(opening, "installed", lambda name: True)
    assert choose("auto", made, CPU) == "openvino"
    assert choose("eager", made, CPU) == "eager"
    assert choose("auto", made, torch.device("cuda")) == "eager"
    monkeypatch.setattr(opening, "installed", lambda name: False)
    assert choose("auto", made, CPU) == "eager"
    assert "pip install 'robustseg[engines]'" in caplog.text
    assert choose("auto", Exported(MODEL, "strange"), CPU) == "eager"


def test_an_engine_of_the_cpu_is_not_sent_to_a_gpu(monkeypatch):
    monkeypatch.setattr(opening, "pick_device", lambda name: torch.device(name))
    assert device_of("cpu", "openvino").type == "cpu"
    with pytest.raises(RobustsegError, match="runs on the CPU here, and device is 'cuda'"):
        device_of("cuda", "openvino")


@pytest.mark.parametrize("engine", opening.RUNTIMES)
def test_a_runtime_that_is_not_installed_is_named_with_the_command(engine: str, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, opening.RUNTIMES[engine], None)
    with pytest.raises(RobustsegError, match=rf"engine={engine}: .*robustseg\[engines\]"):
        open_engine(Exported(MODEL), device="cpu", engine=engine)


def test_a_network_whose_sensors_meet_early_has_one_engine():
    spec = default_spec(("rgb", "depth"), size=(32, 32), architecture="cmnext")
    assert opening.candidates(untrained(spec)) == ["eager"]
    assert opening.candidates(MODEL)[0] == "eager"


def test_an_artifact_says_all_about_itself(exported: Path):
    read = artifact.load(exported)
    assert read.spec == SPEC and read.engine == "openvino" and read.graphs == {"encode": b"graph"}
    assert read.about["precision"] == "fp32"
    assert weights_of(str(exported), ["rgb"]).engine == "openvino"
    (bundle,) = noise(SPEC, 1)
    ours = EagerEngine(MODEL, pick_device("cpu"), cpu_threads=1)(bundle)
    theirs = EagerEngine(read.model, pick_device("cpu"), cpu_threads=1)(bundle)
    assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_a_checkpoint_is_read_as_one(tmp_path: Path):
    checkpoint.save(tmp_path / "x.safetensors", MODEL)
    read = artifact.load(tmp_path / "x.safetensors")
    assert read.engine == "" and not read.graphs and read.spec == SPEC
    with pytest.raises(RobustsegError, match="does not exist"):
        artifact.load(tmp_path / "y.rseg")


def test_a_network_sees_the_scene_at_the_size_that_the_robot_says(tmp_path: Path, exported: Path):
    checkpoint.save(tmp_path / "x.safetensors", MODEL)
    robot = RobotConfig(
        weights=str(tmp_path / "x.safetensors"),
        device="cpu",
        input_size="96x64",
        streams={"rgb": {"topic": "/rgb"}},
    )
    spec, engine = engine_of(robot)
    assert spec.size == engine.spec.size == (64, 96) and spec.classes == SPEC.classes
    assert Segmenter.spec_of(robot) == spec
    (bundle,) = noise(spec, 1)
    ids, _ = engine(bundle)
    assert ids.shape == (64, 96)
    assert weights_of("untrained", ["rgb"], size=(32, 64)).spec.size == (32, 64)
    assert weights_of(str(exported), ["rgb"], size=SPEC.size).spec == SPEC
    with pytest.raises(RobustsegError, match=r"input of .*, wanted is 96x64; .*--size 96x64"):
        weights_of(str(exported), ["rgb"], size=(64, 96))


def test_whoever_needs_a_checkpoint_is_told_so(exported: Path):
    with pytest.raises(RobustsegError, match=r"exported for an engine.*\(\.safetensors\)"):
        checkpoint.load(exported)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("format", "robustseg-engine/9", "reads 'robustseg-engine/1'; export it again"),
        ("graphs", ["nothing"], "is damaged"),
        ("graphs", "encode", "does not name its engine"),
        ("engine", None, "does not name its engine"),
        ("precision", "int2", "of precision 'int2'; expected one of fp32, fp16, int8"),
        ("precision", [], r"of precision \[\]"),
    ],
)
def test_a_damaged_artifact_is_explained(exported: Path, field: str, value: object, says: str):
    with zipfile.ZipFile(exported) as archive:
        kept = {name: archive.read(name) for name in archive.namelist()}
    kept["about.json"] = json.dumps(json.loads(kept["about.json"]) | {field: value}).encode()
    with zipfile.ZipFile(exported, "w") as archive:
        for name, content in kept.items():
            archive.writestr(name, content)
    with pytest.raises(RobustsegError, match=says):
        artifact.load(exported)


def test_an_artifact_that_is_packed_is_not_read(exported: Path):
    with zipfile.ZipFile(exported, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.onnx", b"0" * 10_000)
    with pytest.raises(RobustsegError, match="packed; expected at most"):
        artifact.load(exported)


def test_parity_finds_every_pixel_that_differs():
    engine = EagerEngine(MODEL, pick_device("cpu"), cpu_threads=1)

    def other(bundle):
        ids, confidence = engine(bundle)
        ids = ids.copy()
        if len(bundle.frames) == 2:
            ids[0, :8] = (ids[0, :8] + 1) % 19
        return ids, np.where(confidence > 3, confidence - 3, confidence).astype("u1")

    parity = Parity(SPEC, engine, other)
    for bundle in noise(SPEC, 2):
        parity.add(bundle)
    name, row = parity.worst
    assert name == "rgb+depth" and row.share == 1 - 8 / 32**2 and row.levels == 3
    assert [row["frames"] for row in parity.account().values()] == [2, 2, 2]
    assert parity.account()["rgb"]["labels_equal"] == 1


def test_the_extra_brings_what_the_engines_import():
    assert {errors.EXTRAS[module] for module in (*opening.RUNTIMES.values(), "onnx")} == {"engines"}
