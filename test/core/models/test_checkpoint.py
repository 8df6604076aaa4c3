"""A checkpoint is exactly what it claims to be, or a sentence that says what is wrong."""

from __future__ import annotations

import json
import os
import tracemalloc
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from robustseg_core import modalities
from robustseg_core.errors import RobustsegError
from robustseg_core.models import checkpoint
from robustseg_core.models.architectures.m_segformer import AnyModalSegmenter
from robustseg_core.models.classes import CITYSCAPES
from robustseg_core.models.head import FoldedHead
from robustseg_core.types import ModelSpec

pytestmark = pytest.mark.slow

ALIVE = torch.tensor([[True, False], [True, True]])
SPEC = ModelSpec(
    modalities=("rgb", "lidar"),
    classes=CITYSCAPES.names,
    palette=CITYSCAPES.palette,
    head_width=8,
    encodings={"lidar": {"max_range_m": 60.0}},
    provenance="test",
)


def network(seed: int = 0, head: str = "published", **fields) -> AnyModalSegmenter:
    model = checkpoint.untrained(SPEC.model_copy(update=fields), seed=seed, head=head)
    torch.manual_seed(7)
    for name, buffer in model.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 2)
    return model


def logits(model: AnyModalSegmenter) -> torch.Tensor:
    torch.manual_seed(0)
    images = {name: torch.randn(2, 3, 32, 64) for name in SPEC.modalities}
    with torch.inference_mode():
        return model(images, ALIVE).logits


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "student.safetensors"


@pytest.mark.parametrize("head", ["published", "folded"])
@pytest.mark.parametrize("stem", ["shared", "per_modality"])
def test_a_saved_network_is_the_same_network(path: Path, head: str, stem: str):
    model = network(head=head, stem=stem)
    checkpoint.save(path, model, model.spec)
    again = checkpoint.load(path, classes=CITYSCAPES.names)
    assert again.spec == model.spec and again.head_form == head and not again.training
    assert torch.equal(logits(again), logits(model))


def test_the_inference_copy_of_a_network_can_be_saved(path: Path):
    model = network()
    checkpoint.save(path, model.folded())
    again = checkpoint.load(path)
    assert isinstance(again.head, FoldedHead)
    torch.testing.assert_close(logits(again), logits(model), atol=1e-5, rtol=1e-5)


def test_half_precision_on_disk_is_single_precision_in_memory(path: Path):
    model = network()
    half = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    save_file(half, path, metadata=_metadata(model))
    again = checkpoint.load(path)
    assert {p.dtype for p in again.parameters()} == {torch.float32}
    torch.testing.assert_close(logits(again), logits(model), atol=1e-2, rtol=1e-2)


def test_the_spec_may_say_more_after_training(path: Path):
    model = network()
    trained = model.spec.model_copy(update={"trained": True, "provenance": "anyseg, 3 epochs"})
    checkpoint.save(path, model, trained)
    assert checkpoint.load(path).spec == trained


def test_a_loaded_network_can_be_trained_on(path: Path):
    checkpoint.save(path, network())
    model = checkpoint.load(path).train()
    images = {name: torch.randn(2, 3, 32, 64) for name in SPEC.modalities}
    model(images, ALIVE).logits.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_a_failed_save_leaves_the_old_file_and_no_litter(path: Path, monkeypatch):
    checkpoint.save(path, network())
    before = path.read_bytes()

    def full(*_, **__):
        Path(_[1]).write_bytes(b"half a fi")
        raise OSError("No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(RobustsegError, match=r"cannot write .*No space left.*writable folder"):
        checkpoint.save(path, network(seed=1))
    assert path.read_bytes() == before and os.listdir(path.parent) == [path.name]


def test_equal_networks_are_equal_files(path: Path):
    """safetensors draws the order of metadata anew for each file."""
    written = set()
    for _ in range(8):
        checkpoint.save(path, network())
        written.add(path.read_bytes())
    assert len(written) == 1
    assert checkpoint.load(path).spec == network().spec


def test_a_network_is_not_saved_under_a_spec_of_another(path: Path):
    model = network()
    with pytest.raises(RobustsegError, match="spec says head_width 9, but the network was built"):
        checkpoint.save(path, model, model.spec.model_copy(update={"head_width": 9}))
    fewer = {"classes": CITYSCAPES.names[:5], "palette": CITYSCAPES.palette[:5]}
    with pytest.raises(RobustsegError, match=r"spec has 5 classes .* but the network 19"):
        checkpoint.save(path, model, model.spec.model_copy(update=fewer))
    assert not path.exists()


def test_a_missing_file_is_explained(path: Path):
    with pytest.raises(RobustsegError, match="does not exist; give a checkpoint"):
        checkpoint.load(path)
    with pytest.raises(RobustsegError, match="is a folder"):
        checkpoint.load(path.parent)


@pytest.mark.parametrize("keep", [0, 4, 100, 5000, -1])
def test_a_file_cut_short_is_explained(path: Path, keep: int):
    checkpoint.save(path, network())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(RobustsegError, match="not a safetensors file, or is cut short"):
        checkpoint.load(path)


def test_public_weights_are_sent_to_the_import(path: Path):
    save_file({"patch_embed1.proj.weight": torch.zeros(16, 3, 7, 7)}, path)
    with pytest.raises(RobustsegError, match=r"no robustseg metadata.*`robustseg import "):
        checkpoint.load(path)


def _metadata(model: AnyModalSegmenter, **changes) -> dict[str, str]:
    spec = json.loads(model.spec.model_dump_json()) | changes
    return {"format": checkpoint.FORMAT, "head": model.head_form, "spec": json.dumps(spec)}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"wings": 2}, "unknown key 'wings'; .*; install the version"),
        ({"size": [100, 512]}, "size is 100x512; both must divide by 32"),
        ({"backbone": "b9"}, "no backbone called 'b9'"),
        ({"head_width": 9}, r"it has .* of \(.*\) where its spec says \(.*\) \(and \d+ more\)"),
        ({"backbone": "b1"}, "it lacks encoder.stages.0.blocks.1"),
        ({"stem": "per_modality"}, "it lacks encoder.stages.0.embed.proj.1.weight"),
        ({"modalities": ["rgb"], "encodings": {}, "backbone": "b0"}, "it lacks encoder"),
    ],
)
def test_a_spec_that_does_not_fit_is_explained(path: Path, change: dict, text: str):
    model = network()
    save_file(model.state_dict(), path, metadata=_metadata(model, **change))
    with pytest.raises(RobustsegError, match=text):
        checkpoint.load(path)


def test_a_tensor_too_many_is_explained(path: Path):
    model = network()
    tensors = model.state_dict() | {"encoder.secret": torch.zeros(3)}
    save_file(tensors, path, metadata=_metadata(model))
    with pytest.raises(RobustsegError, match=r"it has encoder.secret, which its spec does not"):
        checkpoint.load(path)


def test_another_format_is_explained(path: Path):
    model = network()
    save_file(model.state_dict(), path, metadata=_metadata(model) | {"format": "robustseg/9"})
    with pytest.raises(RobustsegError, match="format 'robustseg/9'; this version reads"):
        checkpoint.load(path)
    save_file(model.state_dict(), path, metadata=_metadata(model) | {"head": "two"})
    with pytest.raises(RobustsegError, match="no head called 'two'"):
        checkpoint.load(path)


def test_other_classes_are_explained(path: Path):
    checkpoint.save(path, network())
    with pytest.raises(
        RobustsegError,
        match=r"has 19 classes \(road, sidewalk, ..., bicycle\) but the data 2 \(road, wall\); "
        r"they first differ at id 1 \('sidewalk', 'wall'\)",
    ):
        checkpoint.load(path, classes=("road", "wall"))
    with pytest.raises(RobustsegError, match=r"differ at id 19 \(none, 'dog'\)"):
        checkpoint.expect_classes(SPEC, (*CITYSCAPES.names, "dog"))


def test_the_untrained_network_is_the_same_on_every_robot():
    state = torch.get_rng_state()
    one, two, other = network(seed=4), network(seed=4), network(seed=5)
    torch.set_rng_state(state)
    checkpoint.untrained(SPEC, seed=9)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(logits(one), logits(two))
    assert not torch.equal(logits(one), logits(other))


def test_the_plumbing_network_knows_every_sensor_and_its_encoding(path: Path):
    spec = checkpoint.default_spec()
    assert spec.modalities == modalities.ranked()
    assert spec.modalities[:4] == ("rgb", "depth", "event", "lidar")
    assert set(spec.encodings) == set(spec.modalities)
    assert len(spec.classes) == 19 and not spec.trained
    checkpoint.save(path, checkpoint.untrained(spec))
    assert checkpoint.load(path).spec == spec
    assert checkpoint.default_spec(("lidar",), size=(64, 96)).size == (64, 96)
    with pytest.raises(RobustsegError, match="no Modality called 'ldar'; did you mean 'lidar'"):
        checkpoint.default_spec(("ldar",))
    with pytest.raises(RobustsegError, match="unknown key 'width'"):
        checkpoint.default_spec(width=3)


def _first_of(state: dict[str, torch.Tensor], end: str) -> str:
    return next(name for name in state if name.endswith(end))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("end", ["embed.proj.0.weight", "running_mean", "classifier.bias"])
def test_a_weight_that_is_not_finite_is_named_with_its_file(path: Path, end: str, value: float):
    model = network()
    state = model.state_dict()
    name = _first_of(state, end)
    state[name].view(-1)[1] = value
    save_file(state, path, metadata=_metadata(model))
    with pytest.raises(
        RobustsegError, match=rf"{path} has {name} with 1 of \d+ values not finite .*{value}"
    ):
        checkpoint.load(path)
    with pytest.raises(RobustsegError, match=rf"the network has {name} .*not finite"):
        checkpoint.save(path.with_name("other.safetensors"), model)
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize(
    ("end", "tensor", "text"),
    [
        ("running_var", torch.full((8,), -1.0), "running_var with -1 in it.*never negative"),
        ("norm.weight", torch.full((8,), 1e300, dtype=torch.float64), "not finite"),
        ("norm.weight", torch.ones(8, dtype=torch.int64), "of int64, its network needs float32"),
        ("norm.weight", torch.ones(8, dtype=torch.complex64), "of complex64, its network needs"),
        ("num_batches_tracked", torch.tensor(0.5), "of float32, its network needs int64"),
        ("norm.weight", torch.ones(0), r"norm.weight of \(0,\) where its spec says \(8,\)"),
        ("norm.weight", torch.tensor(1.0), r"norm.weight of \(\) where its spec says \(8,\)"),
    ],
)
def test_a_tensor_that_no_network_can_have_is_named(path: Path, end: str, tensor, text: str):
    model = network()
    state = model.head.state_dict()
    name = f"head.{_first_of(state, end)}"
    save_file(model.state_dict() | {name: tensor}, path, metadata=_metadata(model))
    with pytest.raises(RobustsegError, match=text):
        checkpoint.load(path)


def test_what_float16_cannot_hold_is_kept_in_single_precision(path: Path):
    model = network()
    with torch.no_grad():
        model.head.norm.running_var[0] = 1e6
    checkpoint.save(path, model, half=True)
    assert checkpoint.load(path).head.norm.running_var[0] == 1e6


LONG = "x" * 200


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"head_width": 10**9}, "head_width is 1000000000: .*4096"),
        ({"head_width": 10**40}, "head_width is 1000"),
        ({"head_width": -1}, "head_width is -1"),
        ({"head_width": "wide"}, "head_width is 'wide'"),
        ({"palette": [[256, 0, 0], *CITYSCAPES.palette[1:]]}, "palette.0.0 is 256"),
        ({"palette": [[0, 0, -1], *CITYSCAPES.palette[1:]]}, "palette.0.2 is -1"),
        ({"palette": [[0, 0], *CITYSCAPES.palette[1:]]}, "palette.0.2 is missing"),
        ({"palette": [[0, 0, 0]] * 10**4}, "palette is"),
        ({"palette": 7}, "palette is 7"),
        ({"size": [8224, 8224]}, "size is 8224x8224 for 19 classes, more than"),
        ({"size": [8192, 8192]}, "size is 8192x8192 for 19 classes, more than"),
        ({"size": [-32, 32]}, "size is -32x32"),
        ({"size": [32, 0]}, "size is 32x0"),
        ({"classes": ["", *CITYSCAPES.names[1:]]}, "classes: '' is no name"),
        ({"classes": ["a\nb", *CITYSCAPES.names[1:]]}, "is no name"),
        ({"classes": ["\u202egpj.exe", *CITYSCAPES.names[1:]]}, "is no name"),
        ({"classes": [LONG, *CITYSCAPES.names[1:]]}, "is no name"),
        ({"classes": ["wall", *CITYSCAPES.names[1:]]}, "classes: 'wall' is there twice"),
        ({"classes": ["a"] * 300}, "classes"),
        ({"modalities": ["rgb", "rgb"]}, "modalities: 'rgb' is there twice"),
        ({"modalities": [f"m{k}" for k in range(1000)], "encodings": {}}, "modalities"),
        ({"modalities": []}, "modalities"),
        ({"encodings": {"lidar": {"max_range_m": "9" * 20_000}}}, "encodings have more than"),
        ({"encodings": {"lidar": 3}}, "encodings.lidar is 3"),
        ({"encodings": []}, "encodings is"),
        ({"provenance": "x" * 20_000}, "provenance is"),
        ({"backbone": LONG}, "backbone is"),
        ({"fusion": "../../evil"}, "no Fusion called '../../evil'"),
        ({"stem": 3}, "stem is 3"),
        ({"trained": "maybe"}, "trained is 'maybe'"),
    ],
)
def test_a_spec_that_no_network_can_have_is_named_before_anything_is_allocated(
    path: Path, change: dict, text: str
):
    model = network()
    save_file(model.state_dict(), path, metadata=_metadata(model, **change))
    tracemalloc.start()
    with pytest.raises(RobustsegError, match=text) as caught:
        checkpoint.load(path)
    assert tracemalloc.get_traced_memory()[1] < 50_000_000
    tracemalloc.stop()
    assert str(path) in str(caught.value) or "Fusion" in text
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("spec", ["", "{", "null", "[]", "NaN", "[" * 10**5, " " * (1 << 21)])
def test_metadata_that_is_no_spec_is_named(path: Path, spec: str):
    model = network()
    save_file(model.state_dict(), path, metadata=_metadata(model) | {"spec": spec})
    with pytest.raises(RobustsegError, match=f"{path} has a spec"):
        checkpoint.load(path)


def test_a_network_that_the_file_does_not_hold_is_never_allocated(path: Path, monkeypatch):
    """The largest that a spec may claim has 150 million weights."""
    model = network()
    huge = {"head_width": 4096, "backbone": "b5", "stem": "per_modality", "norm": "per_modality"}
    save_file(model.state_dict(), path, metadata=_metadata(model, **huge))
    monkeypatch.delattr(checkpoint, "untrained")  # what allocates it
    with pytest.raises(RobustsegError, match="does not fit its own spec"):
        checkpoint.load(path)


NETWORK = network()
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_change_of_a_file_is_a_network_or_a_sentence(path: Path, data):
    """Bytes of the header or the tensors, or a field of the spec."""
    field = data.draw(st.none() | st.sampled_from(list(ModelSpec.model_fields)))
    change = {} if field is None else {field: data.draw(JUNK)}
    save_file(NETWORK.state_dict(), path, metadata=_metadata(NETWORK, **change))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 4)) if field is None else 0):
        end = data.draw(st.sampled_from((9, 20_000, len(content))))
        content[data.draw(st.integers(0, end - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        assert isinstance(checkpoint.load(path), AnyModalSegmenter)
    except RobustsegError as error:
        assert len(str(error)) < 1000
