"""`robustseg import`: a published file goes import -> eval -> run, or a sentence says why not."""

from __future__ import annotations

import json
import os
import re

import pytest
import torch
from safetensors.torch import save_file

from robustseg_core.bag import BagWriter
from robustseg_core.cli.main import app
from robustseg_core.cli.terminal import guarded
from robustseg_core.learn.official import SYSTEMS, import_official
from robustseg_core.models import checkpoint
from robustseg_core.models.classes import CITYSCAPES, DELIVER
from robustseg_core.types import MS, SECOND
from support.dataset_trees import deliver
from support.golden import golden, picture
from support.golden_networks import SENSORS, ask
from support.makers import image, scenes
from support.official import as_transformers, nvlabs, official

pytestmark = pytest.mark.slow

START = 1_700_000_000 * SECOND


@pytest.fixture
def command(capsys):
    def run(*words) -> tuple[int, str, str]:
        code = guarded(lambda: app([str(word) for word in words]))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Published files, a tiny DELIVER, a recording of a camera and a LiDAR picture's topic."""
    folder = tmp_path_factory.mktemp("official")
    tensors = official("m_segformer")
    torch.save(tensors, folder / "AnySeg.pth")
    parallel = {f"module.{name}": value for name, value in tensors.items()}
    torch.save({"epoch": 3, "model_state_dict": parallel}, folder / "RobustSeg.pth")
    torch.save({"meta": {}, "state_dict": nvlabs(tensors)}, folder / "segformer.pth")
    torch.save(official("cmnext"), folder / "cmnext.pth")
    save_file(as_transformers(nvlabs(tensors)), folder / "model.safetensors")
    deliver(folder / "DELIVER")
    with BagWriter(folder / "drive") as writer:
        for k, picture in enumerate(scenes(8)):
            stamp = START + k * 33 * MS
            for name in ("camera", "depth"):
                array = picture if name == "camera" else picture[..., 0].astype("u2") * 20
                message = image(array, "rgb8" if name == "camera" else "16UC1", stamp)
                writer.write(f"/{name}/image_raw", "sensor_msgs/msg/Image", message, stamp)
    return folder


CHAINS = [
    ("anyseg", "AnySeg.pth", "skip", "RDEL", ()),
    ("cmnext", "cmnext.pth", "zero", "RDEL", ("--protocol", "emm")),  # or 63 forwards a sample
    ("segformer", "segformer.pth", "skip", "R", ()),
    ("segformer", "model.safetensors", "skip", "R", ()),
]


@pytest.mark.parametrize(("system", "file", "missing", "sensors", "less"), CHAINS)
def test_a_published_file_is_imported_evaluated_and_run_without_another_option(
    command, place, tmp_path, system, file, missing, sensors, less
):
    out = tmp_path / "x.safetensors"
    words = ["import", place / file, "--as", system, "--kind", "deliver", "--out", out]
    code, _, err = command(*words, "--size", "64x64")
    assert code == 0 and "25 classes of deliver" in err
    spec = checkpoint.load(out).spec
    width = 256 if system == "cmnext" else 768
    assert (spec.backbone, spec.head_width, spec.size) == ("b0", width, (64, 64))
    assert spec.architecture == ("cmnext" if system == "cmnext" else "m_segformer")
    assert (spec.classes, spec.palette) == (DELIVER.names, DELIVER.palette)
    assert (
        spec.trained and "SHA-256" in spec.provenance and SYSTEMS[system].title in spec.provenance
    )

    assert spec.data.missing == missing

    where = ("--out", tmp_path / "eval")
    code, _, err = command("eval", out, place / "DELIVER", *where, *less)
    assert code == 0, err
    about = json.loads((tmp_path / "eval" / "results.json").read_text())["about"]
    assert (about["dataset"], about["split"], about["size"]) == ("deliver", "val", [64, 64])
    assert about["missing"] == (["skip", "zero"] if less else [missing])
    assert about["absent"] == "zero" and about["samples"] == 3
    assert len(about["modalities"]) == len(sensors)

    code, _, err = command("run", place / "drive", "--weights", out, "--out", tmp_path / "run")
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert code == 0 and result["totals"]["used"] == {"rgb": result["totals"]["masks"]}
    why = "depth is ignored: the network learned from its data set's own pictures (hha)"
    known = "depth is ignored: the network knows rgb"
    assert (why if len(sensors) > 1 else known) in " ".join(result["notices"])


@pytest.mark.parametrize(
    ("figures", "key", "file", "system", "seed", "shape", "step"),
    [
        ("m_segformer", "b0/skip/rgb+event", "AnySeg.pth", "anyseg", 700, (1, 3, 128, 128), 8),
        ("cmnext", "B0/3aux", "cmnext.pth", "cmnext", 1100, (1, 3, 96, 128), 4),
    ],
    ids=["m_segformer", "cmnext"],
)
def test_the_imported_network_computes_what_the_official_code_computed(
    command, place, tmp_path, figures, key, file, system, seed, shape, step
):
    out = tmp_path / "x.safetensors"
    words = ["import", place / file, "--as", system, "--kind", "deliver", "--out", out]
    assert command(*words)[0] == 0
    model = checkpoint.load(out)
    images = {
        name: torch.from_numpy(picture(seed + 10 * column, shape))
        for column, name in enumerate(SENSORS)
    }
    given = ("rgb", "event") if "rgb+event" in key else SENSORS
    logits = ask(model, images, given).logits[0, :, ::step, ::step]
    recorded = torch.from_numpy(golden(figures).arrays[f"{key}/logits4"])
    torch.testing.assert_close(logits, recorded, atol=1e-5, rtol=0)


def test_what_trainers_wrap_around_a_network_is_no_part_of_it(place, tmp_path):
    states = []
    for file, system in (("AnySeg.pth", "anyseg"), ("RobustSeg.pth", "robustseg")):
        out = tmp_path / f"{system}.safetensors"
        import_official(place / file, out, system=system, kind="deliver")
        states.append(checkpoint.load(out).state_dict())
    assert all(torch.equal(states[0][name], value) for name, value in states[1].items())


def test_without_a_size_it_is_the_one_of_the_papers(command, place, tmp_path):
    out = tmp_path / "x.safetensors"
    words = ["--as", "rmmss", "--kind", "deliver", "--missing", "zero", "--out", out]
    assert command("import", place / "AnySeg.pth", *words)[0] == 0
    spec = checkpoint.spec_of(out)
    assert spec.size == (1024, 1024) and spec.data.missing == "zero"
    assert spec.encodings["depth"] == {"representation": "hha"}
    assert spec.data.options == {"legacy_resize": "antialias"}
    before = out.read_bytes()
    code, _, err = command("import", place / "AnySeg.pth", *words)
    assert code == 2 and "is there already" in err and out.read_bytes() == before


def _one_more(tensors):
    return tensors | {"encoder.gate.weight": torch.zeros(3)}


def _one_less(tensors):
    return {k: v for k, v in tensors.items() if k != "encoder.block2.0.attn.kv.bias"}


def _cmnext_too(tensors):
    own = {f"backbone.{k[8:]}" if k.startswith("encoder.") else k: v for k, v in tensors.items()}
    own = {
        k.replace("decoder.", "decode_head."): v for k, v in own.items() if "classifier" not in k
    }
    return own | {"backbone.extra_norm1.weight": torch.zeros(32)}


def _wider(tensors):
    return tensors | {"encoder.patch_embed1.proj.weight": torch.zeros(48, 3, 7, 7)}


@pytest.mark.parametrize(
    ("change", "system", "kind", "text"),
    [
        (dict, "anyseg", "muses", r"has 25 classes and muses has 19.*give --kind deliver$"),
        (dict, "anyseg", "delivr", r"no Dataset called 'delivr'; did you mean 'deliver'\?"),
        (dict, "anyseg", "shards", "of which only the content tells the classes; give one of"),
        (dict, "anyseg2", "deliver", r"no system called 'anyseg2'; did you mean 'anyseg'\?"),
        (
            dict,
            "segformer",
            "deliver",
            r"laid out as M-SegFormer .*import it --as anyseg or robust",
        ),
        (dict, "cmnext", "deliver", r"laid out as M-SegFormer .*--as cmnext means CMNeXt"),
        (nvlabs, "anyseg", "deliver", r"laid out as .*, and --as anyseg means M-SegFormer"),
        (_cmnext_too, "anyseg", "deliver", r"laid out as CMNeXt .*import it --as cmnext$"),
        (
            _one_more,
            "anyseg",
            "deliver",
            r"of no layout that is known: the nearest layout is M-SegFormer .* 193 of its 194 "
            r"names fit, then .*; the first that does not fit is 'encoder.gate.weight'",
        ),
        (
            _one_less,
            "anyseg",
            "deliver",
            "lacks encoder.block2.0.attn.kv.bias; give a complete file",
        ),
        (_wider, "anyseg", "deliver", "a first width of 48 .*as no backbone here"),
        (
            lambda t: {k[8:]: v for k, v in t.items() if k.startswith("encoder.")},
            "anyseg",
            "deliver",
            r"is a MiT encoder alone, .*begin a training with it \(network.init\)",
        ),
        (lambda t: {"a.b": torch.zeros(1)}, "anyseg", "deliver", "holds neither .*is 'a.b'"),
        (lambda t: {}, "anyseg", "deliver", "it has no tensor"),
        (
            lambda t: t | {"encoder.norm1.bias": torch.full((32,), torch.nan)},
            "anyseg",
            "deliver",
            "norm1.bias with 32 of 32 values not finite",
        ),
    ],
)
def test_what_does_not_fit_is_one_sentence_and_nothing_is_written(
    command, tmp_path, change, system, kind, text
):
    path = tmp_path / "odd.pth"
    torch.save(change(official("m_segformer")), path)
    code, _, err = command("import", path, "--as", system, "--kind", kind, "--out", tmp_path / "x")
    sentence = " ".join(err.split())
    assert code == 2 and sentence.startswith("error: ")
    assert re.search(text, sentence), sentence
    assert os.listdir(tmp_path) == ["odd.pth"]


class Evil:
    def __init__(self, trap):
        self.trap = trap

    def __reduce__(self):
        return os.mkdir, (str(self.trap),)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda path, trap: torch.save({"state_dict": {}, "meta": Evil(trap)}, path), "never run"),
        (
            lambda path, trap: (torch.save(official("m_segformer"), path), os.truncate(path, 9999)),
            "cut",
        ),
        (lambda path, trap: path.write_bytes(b""), "cut"),
        (lambda path, trap: None, "is not a file"),
        (
            lambda path, trap: checkpoint.save(
                path, checkpoint.untrained(checkpoint.default_spec(("rgb",)))
            ),
            "is a checkpoint of robustseg already; use it as it is",
        ),
    ],
)
def test_files_that_are_no_official_weights_are_refused(command, tmp_path, make, text):
    path, trap = tmp_path / "official.pth", tmp_path / "trap"
    make(path, trap)
    before = sorted(os.listdir(tmp_path))
    words = ["--as", "anyseg", "--kind", "deliver", "--out", tmp_path / "x.safetensors"]
    code, _, err = command("import", path, *words)
    assert code == 2 and text in " ".join(err.split()) and sorted(os.listdir(tmp_path)) == before


def test_the_sensors_of_cmnext_are_counted(command, tmp_path):
    path, out = tmp_path / "cmnext.pth", tmp_path / "x.safetensors"
    torch.save(official("cmnext", others=1), path)
    words = ["import", path, "--as", "cmnext", "--kind", "deliver", "--out", out]
    code, _, err = command(*words)
    assert code == 2 and not out.exists()
    assert "was trained on 2 sensors, and rgb, depth, event, lidar are 4" in " ".join(err.split())
    assert command(*words, "--modalities", "rgb,lidar")[0] == 0
    for wrong in ("depth,rgb", "depth,lidar"):
        code, _, err = command(*words[:-1], tmp_path / "y.safetensors", "--modalities", wrong)
        said = "modalities begin with depth, and CMNeXt's full branch is that of rgb"
        assert code == 2 and said in " ".join(err.split())
        assert not (tmp_path / "y.safetensors").exists()
    spec = checkpoint.spec_of(out)
    assert spec.modalities == ("rgb", "lidar") and spec.options["legacy_scramble"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--modalities", "rgb,depht"], "deliver has no modality 'depht'"),
        (["--modalities", "rgb,rgb"], "'rgb' is there twice"),
        (["--size", "1000x1000"], "both must divide by 32"),
        (["--size", "big"], "write WIDTHxHEIGHT"),
        (["--missing", "none"], "give skip or zero"),
        (["--set", "legacy_resize=3"], "legacy_resize"),
        (["--set", "wings=2"], "wings"),
    ],
)
def test_words_that_do_not_fit_are_explained(command, place, tmp_path, words, text):
    out = tmp_path / "x.safetensors"
    start = ["import", place / "AnySeg.pth", "--as", "anyseg", "--kind", "deliver", "--out", out]
    code, _, err = command(*start, *words)
    assert code == 2 and text in " ".join(err.split()) and not out.exists()


@pytest.mark.parametrize("words", [["run", "drive", "--weights"], ["eval"]])
def test_official_weights_are_sent_to_the_import(command, place, tmp_path, monkeypatch, words):
    monkeypatch.chdir(place)
    more = ["DELIVER"] if words == ["eval"] else []
    code, _, err = command(*words, "AnySeg.pth", *more, "--out", tmp_path / "out")
    asked = "`robustseg import AnySeg.pth --as SYSTEM --kind DATASET --out AnySeg.safetensors`"
    assert code == 2 and asked in " ".join(err.split()) and not (tmp_path / "out").exists()


def test_muses_is_fed_as_its_papers_feed_it(place, tmp_path):
    tensors = official("m_segformer")
    for name in ("decoder.linear_pred.weight", "decoder.linear_pred.bias", "classifier.weight"):
        tensors[name] = tensors[name][:19].clone()
    torch.save(tensors, tmp_path / "muses.pth")
    for system, lidar in (("anyseg", ""), ("robustseg", "_stretched")):
        out = tmp_path / f"{system}.safetensors"
        spec = import_official(tmp_path / "muses.pth", out, system=system, kind="muses").spec
        assert spec.classes == CITYSCAPES.names and spec.modalities == ("rgb", "event", "lidar")
        assert spec.encodings["rgb"]["std"] == [1 / 255] * 3
        assert spec.encodings["lidar"] == {"representation": f"muses_png_0_255{lidar}"}
        assert spec.data.options["legacy_void_as_road"] is True
