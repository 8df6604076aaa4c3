"""Teachers of other makes: what they are fed, what they say, and in whose words."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from robustseg_core.errors import RobustsegError
from robustseg_core.extraction.class_names import match
from robustseg_core.extraction.label import label_bags
from robustseg_core.extraction.teachers import open_teacher
from robustseg_core.models import checkpoint, hub
from robustseg_core.models.classes import CITYSCAPES, ClassSet
from robustseg_core.types import IGNORE, Bundle, Frame
from support.drives import write_drive
from support.tiny_segformer import NAMES, make_segformer

pytestmark = pytest.mark.slow

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_segformer(tmp_path_factory.mktemp("teacher") / "tiny")


@pytest.fixture(scope="module")
def picture():
    return np.random.default_rng(0).normal(0, 1, (3, 64, 96)).astype(np.float32)


def bundle(array):
    return Bundle(0, {"rgb": Frame("rgb", 0, array)})


def test_a_transformers_checkpoint_says_what_it_would_say_there(folder, picture):
    from transformers import SegformerForSemanticSegmentation

    teacher = open_teacher(folder)
    assert teacher.spec.size == (64, 96) and teacher.spec.classes == NAMES
    for name, told in (("mean", (0.5, 0.4, 0.3)), ("std", (0.2, 0.25, 0.5))):
        assert teacher.spec.encodings["rgb"][name] == pytest.approx(told)
    model = SegformerForSemanticSegmentation.from_pretrained(folder).eval()
    with torch.no_grad():
        small = model(pixel_values=torch.from_numpy(picture[None])).logits
    chances = torch.nn.functional.interpolate(small, (64, 96), mode="bilinear")[0].softmax(0)
    ids, confidence = teacher(bundle(picture))
    assert np.mean(ids == chances.argmax(0).numpy()) > 0.999
    assert np.abs(confidence - 255.0 * chances.amax(0).numpy()).max() < 1


def test_its_classes_become_ours_and_probabilities_add_up(folder, picture):
    own = open_teacher(folder)
    table = match(own.spec.classes, ("greenery", "vegetation"), {"car": 1, "road": 1}).table
    theirs = own.speaking(table, ClassSet(("greenery", "vegetation"), ((0, 0, 0), (1, 1, 1))))
    with torch.no_grad():
        logits = own.logits(picture[None])
    chances = torch.nn.functional.interpolate(logits, (64, 96), mode="bilinear")[0].softmax(0)
    sum_of_three = chances[[0, 1, 4]].sum(0).numpy()
    strange = chances[[2, 3]].amax(0).numpy()
    ids, confidence = theirs(bundle(picture))
    assert np.abs(confidence - 255 * sum_of_three).max() < 1
    assert set(np.unique(ids)) <= {1, IGNORE}
    assert np.array_equal(ids == IGNORE, strange > sum_of_three)
    assert theirs.spec.classes == ("greenery", "vegetation") and own.spec.classes == NAMES


def test_the_picture_that_it_is_shown_is_the_processor_s(folder):
    from robustseg_core.modalities.rgb import Rgb

    teacher = open_teacher(folder)
    decoder = Rgb(encoding=teacher.spec.encodings["rgb"])
    level = np.full((3, 1, 1), 0.6, np.float32)
    shift, scale = np.array([[[0.5]], [[0.4]], [[0.3]]]), np.array([[[0.2]], [[0.25]], [[0.5]]])
    seen = decoder.picture(((level - shift) / scale).astype(np.float32))
    assert np.abs(seen.astype(int) - 153).max() <= 1


def test_drives_are_labelled_by_the_camera_alone(folder, tmp_path):
    bag = write_drive(tmp_path / "drive", 0.6)
    own = open_teacher(folder)
    teacher = own.speaking(match(own.spec.classes, CITYSCAPES.names).table, ClassSet(*CITYSCAPES))
    done = label_bags([bag], teacher, tmp_path / "out", confidence_threshold=0.0, every=2)
    account = json.loads((tmp_path / "out" / "drive" / "labels.json").read_text())
    assert account["classes"] == list(CITYSCAPES.names) and done["samples"] > 2
    assert all(row["used"] == ["rgb"] for row in account["masks"])
    numbers = [int(row["file"].partition("_")[0]) for row in account["masks"]]
    assert all(number % 2 == 0 for number in numbers)
    again = label_bags([bag], teacher, tmp_path / "out", confidence_threshold=0.0, every=2)
    assert not again["recordings"][0]["made"]
    with pytest.raises(RobustsegError, match=r"was made with (teacher|checkpoint)"):
        label_bags([bag], tmp_file(tmp_path), tmp_path / "out", confidence_threshold=0.0, every=2)


def tmp_file(folder):
    path = folder / "net.safetensors"
    checkpoint.save(path, checkpoint.untrained(checkpoint.default_spec(size=(32, 64))))
    return path


def test_one_of_ours_sees_the_camera_alone(tmp_path):
    path = tmp_file(tmp_path)
    teacher = open_teacher(path)
    assert "untrained" in teacher.notices[0]
    image = np.random.default_rng(1).normal(0, 1, (3, 32, 64)).astype(np.float32)
    ids, sure = teacher(bundle(image))
    table = np.full(19, IGNORE, np.uint8)
    table[ids[0, 0]] = 7
    other = teacher.speaking(table, ClassSet(*CITYSCAPES))
    mapped, same = other(bundle(image))
    assert np.array_equal(mapped, table[ids]) and np.array_equal(same, sure)
    depth = checkpoint.untrained(checkpoint.default_spec(("depth",), size=(32, 64)))
    checkpoint.save(tmp_path / "depth.safetensors", depth)
    with pytest.raises(RobustsegError, match="knows depth and no camera"):
        open_teacher(tmp_path / "depth.safetensors")


def test_from_the_hub_s_cache_without_a_network(folder, tmp_path, monkeypatch):
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RobustsegError, match=r"someone/tiny .*could not be fetched"):
        open_teacher("someone/tiny")
    repository = tmp_path / "hub" / "models--someone--tiny"
    commit = "0123456789abcdef0123456789abcdef01234567"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    shutil.copytree(folder, repository / "snapshots" / commit)
    assert open_teacher("someone/tiny").spec.classes == NAMES
    (repository / "snapshots" / commit / "preprocessor_config.json").unlink()
    assert "ImageNet's mean" in open_teacher("someone/tiny").notices[0]
    assert hub.folder(str(folder)) == folder


@pytest.mark.parametrize(
    "spoil, said",
    [
        (lambda f: (f / "config.json").unlink(), r"config.json cannot be read \(No such file"),
        (lambda f: (f / "config.json").write_text("{}"), "names no classes"),
        (lambda f: (f / "config.json").write_text('{"id2label": {"a": "x", "b": "y"}}'), "numbers"),
        (lambda f: (f / "model.safetensors").unlink(), "holds no weights"),
        (
            lambda f: (f / "preprocessor_config.json").write_text('{"image_mean": [1]}'),
            "preprocessor_config.json cannot be used",
        ),
    ],
    ids=["no config", "no classes", "odd classes", "no weights", "odd mean"],
)
def test_a_folder_that_is_none_is_a_sentence(folder, tmp_path, spoil, said):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    spoil(copy)
    with pytest.raises(RobustsegError, match=said):
        open_teacher(copy)


def test_weights_that_are_missing_are_not_guessed(folder, tmp_path, picture):
    from safetensors.torch import load_file, save_file

    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    tensors = load_file(copy / "model.safetensors")
    head = next(name for name in tensors if "classifier" in name)
    save_file({k: v for k, v in tensors.items() if k != head}, copy / "model.safetensors")
    with pytest.raises(RobustsegError, match=r"lacks weights .*classifier.*guess"):
        open_teacher(copy)(bundle(picture))


@pytest.mark.parametrize(
    "named, said",
    [
        ("nowhere.safetensors", "does not exist; give a checkpoint of ours"),
        ("./nowhere", "does not exist"),
        ("nowhere.onnx", "does not exist; give an ONNX file"),
        ("streeet", "did you mean 'street'"),
    ],
)
def test_a_teacher_that_is_not_there_is_a_sentence(tmp_path, monkeypatch, named, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RobustsegError, match=said):
        open_teacher(named)


def make_onnx(path, *, metadata=(), softmax=False, last=False, classes=3):
    """Class k scores what channel k % 3 says, half as fine as the picture."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    weight = np.zeros((classes, 3, 2, 2), np.float32)
    for k in range(classes):
        weight[k, k % 3] = 2.5
    shape = [1, 64, 96, 3] if last else [1, 3, "h", "w"]
    nodes = [helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2])] if last else []
    nodes.append(helper.make_node("Conv", ["t" if last else "x", "w"], ["c"], strides=[2, 2]))
    if softmax:
        nodes.append(helper.make_node("Softmax", ["c"], ["s"], axis=1))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("s" if softmax else "c", kind, None)],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    for key, value in dict(metadata).items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, path)
    return path


TOLD = {"classes": "[road, tree, sky]", "mean": "[0.5, 0.5, 0.5]", "std": "0.25, 0.25, 0.25"}


@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
@pytest.mark.parametrize("softmax", [False, True], ids=["scores", "probabilities"])
def test_an_onnx_file_tells_its_classes_and_its_input(tmp_path, picture, last, softmax):
    path = make_onnx(tmp_path / "net.onnx", metadata=TOLD, softmax=softmax, last=last)
    teacher = open_teacher(path, size=None if last else (64, 96))
    assert teacher.spec.classes == ("road", "tree", "sky") and teacher.spec.size == (64, 96)
    assert teacher.spec.encodings["rgb"] == {"mean": (0.5,) * 3, "std": (0.25,) * 3}
    ids, sure = teacher(bundle(picture))
    cells = torch.from_numpy(picture).unfold(1, 2, 2).unfold(2, 2, 2).sum((-1, -2)) * 2.5
    large = torch.nn.functional.interpolate(cells[None], (64, 96), mode="bilinear")[0]
    if not softmax:  # of probabilities the logarithm is enlarged, which is the same but for a sum
        assert np.abs(sure - 255 * large.softmax(0).amax(0).numpy()).max() < 1
    assert np.mean(ids == large.argmax(0).numpy()) > 0.99


def test_an_onnx_file_that_does_not_tell_is_told(tmp_path):
    path = make_onnx(tmp_path / "net.onnx", classes=2)
    with pytest.raises(RobustsegError, match=r"does not tell its classes .*--classes"):
        open_teacher(path)
    names = tmp_path / "names.yaml"
    names.write_text("- road\n- sky\n")
    teacher = open_teacher(path, classes=names)
    assert teacher.spec.size == (512, 512) and "ImageNet's serve" in teacher.notices[0]
    names.write_text("- road\n- sky\n- car\n")
    image = np.zeros((3, 512, 512), np.float32)
    with pytest.raises(RobustsegError, match="3 classes were told"):
        open_teacher(path, classes=names)(bundle(image))
    (tmp_path / "bad.onnx").write_text("no")
    with pytest.raises(RobustsegError, match="no ONNX file that can be run"):
        open_teacher(tmp_path / "bad.onnx", classes=names)


def test_names_are_not_told_to_who_has_some(folder, tmp_path):
    with pytest.raises(RobustsegError, match="tells its own classes"):
        open_teacher(folder, classes=tmp_path / "names.yaml")
