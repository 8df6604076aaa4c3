"""Weights by their name on the hub, from a cache as `huggingface_hub` lays it; no network."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from robustseg_core.errors import RobustsegError
from robustseg_core.models import checkpoint, hub
from robustseg_core.models.weights import initialize
from support.official import as_transformers, nvlabs, official

pytestmark = pytest.mark.slow

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache, and no network."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "hub"


def cached(cache: Path, file: str) -> Path:
    """The place of a file of nvidia/mit-b0 that was fetched once."""
    repository = cache / "models--nvidia--mit-b0"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    place = repository / "snapshots" / COMMIT / file
    place.parent.mkdir(parents=True)
    return place


def encoder() -> dict[str, torch.Tensor]:
    """MiT-B0 as the hub has it, with ImageNet's classifier."""
    tensors = as_transformers(nvlabs(official("m_segformer")))
    kept = {name: value for name, value in tensors.items() if name.startswith("segformer.")}
    return kept | {
        "classifier.weight": torch.zeros(1000, 256),
        "classifier.bias": torch.zeros(1000),
    }


@pytest.mark.parametrize("file", hub.FILES)
@pytest.mark.parametrize("name", ["nvidia/mit-b0", f"nvidia/mit-b0@{COMMIT}"])
def test_what_was_fetched_once_begins_a_training_without_a_network(cache, file, name):
    place, tensors = cached(cache, file), encoder()
    if file.endswith(".bin"):
        torch.save(tensors, place)
    else:
        save_file(tensors, place)
    spec = checkpoint.default_spec(("rgb", "depth"), backbone="b0")
    model = checkpoint.untrained(spec)
    assert "transformers weights: 192 tensors used" in str(began := initialize(name, model))
    digest = hashlib.sha256(place.read_bytes()).hexdigest()[:16]
    assert began.source == f"{name} (SHA-256 {digest})"
    ours = model.state_dict()["encoder.stages.1.embed.norm.0.weight"]
    assert torch.equal(ours, tensors["segformer.encoder.patch_embeddings.1.layer_norm.weight"])


def test_what_is_in_the_cache_is_taken_without_a_question(cache, monkeypatch):
    import huggingface_hub

    place = cached(cache, "pytorch_model.bin")
    place.touch()
    for name in ("get_hf_file_metadata", "hf_hub_download"):
        monkeypatch.setattr(huggingface_hub, name, None)  # whoever asks, fails
    assert hub.locate("nvidia/mit-b0") == place


@pytest.mark.parametrize("name", ["nvidia/mit-b0", "runs/teacher"])
def test_without_a_network_it_is_one_sentence(cache, name):
    with pytest.raises(RobustsegError, match=rf"^{name} is no file here, and could not be fetched"):
        hub.locate(name)


def test_a_hub_that_does_not_answer_is_asked_once(cache, monkeypatch, caplog):
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    http = sys.modules[type(get_session()).__module__.partition(".")[0]]
    asked = []

    def request(*_, **how):
        asked.append(how["timeout"])
        raise http.ConnectError("no route to host")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(get_session(), "request", request)
    with pytest.raises(RobustsegError, match=r"\(ConnectError: no route to host\); check the name"):
        hub.locate("nvidia/mit-b0")
    assert asked == [hub.PATIENCE_S] and not caplog.records


def test_without_the_library_the_extra_is_named(cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(RobustsegError, match=r"from the hub: .*pip install 'robustseg\[hub\]'"):
        hub.locate("nvidia/mit-b0")


def test_a_repository_without_weights_is_told(cache, monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError

    asked = []

    def look(url, timeout):
        asked.append(url.partition("nvidia/")[2])
        raise EntryNotFoundError("404")

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", look)
    with pytest.raises(RobustsegError, match=r"has none of model\.safetensors, pytorch_model\.bin"):
        hub.locate("nvidia/mit-b0@v2")
    assert asked == [f"mit-b0/resolve/v2/{file}" for file in hub.FILES]


@pytest.mark.parametrize(
    "name",
    [
        *("weights/mit_b0.pth", "mit_b0.pth", "/srv/mit", "a/b/c", "../x/mit.bin", ""),
        *("./mit_b0.pht", "weights/mit_b0.pht", "weights/x.safetensor", "~/mit", "here/mit_b0"),
    ],
)
def test_a_path_is_a_path(cache, name, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # whoever asks the hub, fails
    assert hub.locate(name) == Path(name)


@pytest.mark.parametrize("name", ["nvidia/mit-b0", "here/mit_b0@main", "owner/seg-v1.5"])
def test_all_else_is_on_the_hub(cache, name, tmp_path):
    (tmp_path / "here").mkdir()
    with pytest.raises(RobustsegError, match="from the hub"):
        hub.locate(name)


def test_a_folder_that_is_there_wins_over_a_repository(cache, tmp_path):
    (tmp_path / "nvidia").mkdir()
    (tmp_path / "nvidia" / "mit-b0").touch()
    assert hub.locate("nvidia/mit-b0") == Path("nvidia/mit-b0")


def test_a_training_begins_with_a_checkpoint_of_ours_of_the_same_network(tmp_path):
    spec = checkpoint.default_spec(("rgb", "depth"))
    path = tmp_path / "teacher.safetensors"
    checkpoint.save(path, checkpoint.untrained(spec, seed=1))
    model = checkpoint.untrained(spec, seed=2)
    assert str(initialize(str(path), model)).startswith("teacher.safetensors (SHA-256 ")
    other = checkpoint.load(path).state_dict()
    assert all(torch.equal(value, other[name]) for name, value in model.state_dict().items())
    wider = checkpoint.untrained(spec.model_copy(update={"head_width": 32}))
    with pytest.raises(RobustsegError, match=r"of another network: its head.* is \(64, 16\), this"):
        initialize(str(path), wider)
