"""The command line: what works, and the one sentence when it does not."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from robustseg_core import config
from robustseg_core.bag import BagWriter
from robustseg_core.cli.main import app
from robustseg_core.cli.terminal import guarded
from robustseg_core.models import checkpoint
from robustseg_core.robot.config import RobotConfig
from robustseg_core.types import MS, SECOND
from support.makers import header, image, make, scenes, xyz

pytestmark = pytest.mark.slow

START = 1_700_000_000 * SECOND
SCENES = scenes(30)


@pytest.fixture
def command(capsys):
    def run(*words) -> tuple[int, str, str]:
        code = guarded(lambda: app([str(word) for word in words]))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def bag(tmp_path):
    """One second of a camera with one broken message, beside a text topic."""
    path = tmp_path / "drive"
    with BagWriter(path) as writer:
        for k in range(30):
            stamp = START + k * 33 * MS
            message = image(SCENES[k], "rgb8", stamp)
            if k == 10:
                message.data = message.data[:100]
            writer.write("/camera/image_raw", "sensor_msgs/msg/Image", message, stamp)
        text = make("std_msgs/msg/String", data="hello")
        writer.write("/chatter", "std_msgs/msg/String", text, START)
    return path


def test_inspect_prints_a_robot_yaml_that_can_be_used(command, bag, tmp_path):
    code, out, err = command("inspect", bag)
    assert code == 0 and "/camera/image_raw" in err and "rgb" in err
    path = tmp_path / "robot.yaml"
    path.write_text(out)
    robot = config.load(RobotConfig, path)
    assert robot.streams["rgb"].topic == "/camera/image_raw"


def test_inspect_json_has_the_promised_keys(command, bag):
    code, out, _ = command("inspect", bag, "--json")
    topics = {t["topic"]: t for t in json.loads(out)["topics"]}
    camera = topics["/camera/image_raw"]
    assert code == 0 and camera["modality"] == "rgb" and camera["count"] == 30
    assert camera["type"] == "sensor_msgs/msg/Image"
    assert camera["rate_hz"] == pytest.approx(30.3, abs=0.1)
    assert topics["/chatter"]["modality"] is None


def test_a_bad_message_is_rejected_counted_and_the_run_goes_on(command, bag, tmp_path):
    out = tmp_path / "out"
    code, _, err = command("run", bag, "--out", out)
    result = json.loads((out / "result.json").read_text())
    assert code == 0 and "simulated streets only" in err
    assert result["rejected"] == {"rgb": {"format": 1}}
    assert 27 <= result["totals"]["masks"] <= 29
    assert len(list((out / "masks").iterdir())) == result["totals"]["masks"]


def lidar_bag(tmp_path):
    path = tmp_path / "scans"
    points = np.random.default_rng(0).uniform(2, 9, (500, 3))
    with BagWriter(path) as writer:
        for k in range(10):
            stamp = START + k * 100 * MS
            message = xyz(points + 0.01 * k, stamp_ns=stamp)
            writer.write("/points", "sensor_msgs/msg/PointCloud2", message, stamp)
    return path


@pytest.mark.parametrize(
    "words, said",
    [
        ([], "no_calib: no usable CameraInfo yet; publish it or set view.intrinsics"),
        (
            ["--set", "view.intrinsics=[500, 500, 320, 240]", "--set", "view.frame_id=camera"],
            "no_tf: no transform from 'lidar' to 'camera'; publish /tf_static or set "
            "view.extrinsics.lidar",
        ),
    ],
)
def test_a_lidar_that_cannot_be_placed_says_what_is_missing(command, tmp_path, words, said):
    out = tmp_path / "out"
    code, _, err = command("run", lidar_bag(tmp_path), "--out", out, *words)
    assert code == 2 and f"no mask was made; lidar was never used: {said}" in err


def test_extrinsics_from_the_command_line_place_it(command, tmp_path):
    bag = lidar_bag(tmp_path)
    words = ["view.intrinsics=[500, 500, 320, 240]", "view.width=640", "view.height=480"]
    words += ["view.extrinsics.lidar=[0, 0, 0, 0.5, -0.5, 0.5, 0.5]"]
    options = [part for word in words for part in ("--set", word)]
    code, _, err = command("run", bag, "--out", tmp_path / "out", *options)
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert code == 0, err
    assert result["totals"]["used"]["lidar"] >= 8


def test_run_uses_the_given_checkpoint(command, bag, tmp_path):
    spec = checkpoint.default_spec(("rgb",), size=(64, 64), provenance="made by a test")
    spec = spec.model_copy(update={"trained": True})
    weights = tmp_path / "student.safetensors"
    checkpoint.save(weights, checkpoint.untrained(spec))
    code, _, err = command("run", bag, "--weights", weights, "--out", tmp_path / "out")
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert code == 0 and "untrained" not in err
    assert result["trained"] is True and result["provenance"] == "made by a test"


def test_run_knows_the_shipped_student_by_its_name(command, bag, tmp_path):
    code, _, err = command("run", bag, "--weights", "street", "--out", tmp_path / "out")
    assert code == 0, err
    assert json.loads((tmp_path / "out" / "result.json").read_text())["trained"] is True
    code, _, err = command("run", bag, "--weights", "stret", "--out", tmp_path / "other")
    assert code == 2
    assert "no weights and no checkpoint file called 'stret'; did you mean 'street'?\n" in err


def test_inject_breaks_one_stream_and_run_names_it(command, bag, tmp_path):
    broken = tmp_path / "broken"
    code, _, err = command("inject", bag, broken, "--fault", "rgb:black@0.5", "--seed", "3")
    assert code == 0 and "rgb:black@0.5: 14 messages" in err
    code, _, _ = command("run", broken, "--out", tmp_path / "out")
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert code == 0 and result["rejected"] == {"rgb": {"black": 14, "format": 1}}


def test_a_fault_during_a_run_is_the_same_as_one_in_the_recording(command, bag, tmp_path):
    broken, one, two = tmp_path / "broken", tmp_path / "one", tmp_path / "two"
    fault = ("--fault", "rgb:salt_pepper(share=0.01)@0.2+0.5", "--seed", "3")
    command("inject", bag, broken, *fault)
    command("run", broken, "--out", one)
    command("run", bag, "--out", two, *fault)
    masks = [[f.read_bytes() for f in sorted((p / "masks").iterdir())] for p in (one, two)]
    assert masks[0] == masks[1] and len(masks[0]) > 20


def test_params_prints_a_file_that_loads(command, tmp_path):
    code, out, _ = command("params")
    path = tmp_path / "robot.yaml"
    path.write_text(out)
    assert code == 0 and config.load(RobotConfig, path).device == "auto"


def test_list_names_the_plugins(command):
    code, out, _ = command("list")
    assert code == 0
    for word in ("rgb depth event lidar", "m_segformer", "tiny", "b5", "mean"):
        assert word in out


def empty_bag(tmp_path):
    path = tmp_path / "nothing"
    with BagWriter(path):
        pass
    return path


def text_bag(tmp_path):
    path = tmp_path / "text"
    with BagWriter(path) as writer:
        message = make("std_msgs/msg/Header", **vars(header(START)))
        writer.write("/heads", "std_msgs/msg/Header", message, START)
    return path


def written(tmp_path, name, data=b""):
    path = tmp_path / name
    path.write_bytes(data)
    return path


def foreign_weights(tmp_path):
    path = tmp_path / "foreign.safetensors"
    save_file({"layer.weight": np.zeros((2, 2), np.float32)}, path)
    return path


@pytest.mark.parametrize(
    "words, said",
    [
        (lambda t, b: ["run", t / "gone.mcap"], "gone.mcap"),
        (lambda t, b: ["inspect", t / "gone"], "gone"),
        (lambda t, b: ["run", written(t, "a.mcap")], "a.mcap"),
        (lambda t, b: ["run", written(t, "notes.txt", b"hello")], "notes.txt"),
        (lambda t, b: ["run", written(t, "cut.mcap", b"\x89MCAP0\r\n")], "cut.mcap"),
        (lambda t, b: ["run", empty_bag(t)], "holds no message"),
        (lambda t, b: ["run", text_bag(t)], "no sensor was recognized among the topics ['/heads']"),
        (lambda t, b: ["run", b, "--kill", "rgb"], "is not MODALITY@START+DURATION"),
        (lambda t, b: ["run", b, "--kill", "rbg@1"], "did you mean 'rgb'?"),
        (lambda t, b: ["run", b, "--fault", "rgb:blck"], "did you mean 'black'?"),
        (lambda t, b: ["run", b, "--fault", "lidar:rings"], "names no sensor of this robot"),
        (lambda t, b: ["inject", b, t / "x", "--fault", "rgb:rings"], "cannot be done to rgb"),
        (lambda t, b: ["inject", b, b, "--fault", "rgb:off"], "is the input"),
        (lambda t, b: ["sim", t / "x.mcap", "--seconds", "0"], "seconds is 0"),
        (lambda t, b: ["sim", t / "x.mcap", "--size", "64"], "write WIDTHxHEIGHT"),
        (lambda t, b: ["sim", t / "x.mcap", "--size", "8x8"], "size is 8x8"),
        (lambda t, b: ["sim", t / "x.mcap", "--preset", "big"], "no preset called 'big'"),
        (lambda t, b: ["sim", t / "x.mcap", "--condition", "snow"], "snow"),
        (lambda t, b: ["sim", t / "x.bag"], "does not end in .mcap"),
        (lambda t, b: ["run", b, "--set", "device"], "write key=value"),
        (lambda t, b: ["run", b, "--set", "sync.dedline_ms=3"], "did you mean 'deadline_ms'?"),
        (lambda t, b: ["run", b, "--params", t / "no.yaml"], "cannot read"),
        (lambda t, b: ["run", b, "--params", written(t, "p.yaml", b"streams: [1")], "is not YAML"),
        (
            lambda t, b: [
                "run",
                b,
                "--params",
                written(t, "p.yaml", b"streams: {rgb: {topic: /camera/image}}"),
            ],
            "no configured topic is in the recording; did you mean '/camera/image_raw'?",
        ),
        (lambda t, b: ["run", b, "--weights", t / "no.safetensors"], "no.safetensors"),
        (lambda t, b: ["run", b, "--weights", written(t, "w.safetensors", b"x" * 99)], "w.safe"),
        (lambda t, b: ["run", b, "--weights", foreign_weights(t)], "foreign.safetensors"),
        (lambda t, b: ["run", b, "--device", "cuda"], "no CUDA GPU; use auto or cpu"),
        (lambda t, b: ["live", "--params", t / "no.yaml"], "cannot read"),
    ],
)
def test_an_error_is_one_sentence_and_exit_code_2(command, bag, tmp_path, words, said):
    import torch

    if "cuda" in str(said).lower() and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    line = words(tmp_path, bag)
    if line[0] == "run":
        line += ["--out", tmp_path / "out"]
    code, out, err = command(*line)
    assert code == 2 and out == ""
    assert "Traceback" not in err
    errors = [text for text in err.splitlines() if text.startswith("error: ")]
    assert len(errors) == 1 and said in errors[0], err


def test_an_unknown_option_is_exit_code_2(command):
    code, _, err = command("run", "--nonsense")
    assert code == 2 and "--nonsense" in err


def test_strict_makes_a_notice_an_exit_code(command, bag, tmp_path):
    whole = next(bag.glob("*.mcap")).read_bytes()
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(whole[: len(whole) * 3 // 4])
    assert command("inspect", cut)[0] == 0
    assert command("inspect", cut, "--strict")[0] == 3
    code, _, err = command("run", cut, "--out", tmp_path / "out", "--strict")
    assert code == 3 and "notice:" in err
    assert (tmp_path / "out" / "result.json").exists()
