"""MCubeS: bit depths, the columns that infrared does not see, and whose test split is a val."""

from __future__ import annotations

import numpy as np
import pytest

from robustseg_core import datasets
from robustseg_core.errors import RobustsegError
from robustseg_core.types import IGNORE
from support.dataset_trees import MCUBES_SHAPE, MCUBES_SPLITS, mcubes, paint, write

Mcubes = datasets.load("mcubes")
FIRST = MCUBES_SPLITS["train"][0]


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("mcubes")
    mcubes(root)
    return root


@pytest.fixture
def own(tmp_path):
    """A tree that a test may damage."""
    mcubes(tmp_path)
    return tmp_path


@pytest.mark.parametrize("size", [None, (20, 24)])
def test_colors_of_16_and_of_8_bits_are_the_same_floats(own, size):
    rgb = paint((*MCUBES_SHAPE, 3), 77)
    path = own / "polL_color" / f"{FIRST}.png"
    write(path, rgb)
    eight = Mcubes([own], size=size)[0].images["rgb"]
    write(path, rgb.astype(np.uint16) * 257)
    np.testing.assert_array_equal(Mcubes([own], size=size)[0].images["rgb"], eight)


def test_a_list_of_terabytes_is_not_read(own):
    with (own / "list_folder" / "train.txt").open("r+b") as file:
        file.truncate(1 << 40)  # sparse: it takes no room
    with pytest.raises(RobustsegError, match=r"train.txt has .*1099511627776 bytes"):
        Mcubes([own])


def test_16_bits_are_not_rounded_to_8(own):
    rgb = np.full((*MCUBES_SHAPE, 3), 100 * 257 + 128, np.uint16)
    write(own / "polL_color" / f"{FIRST}.png", rgb)
    red = Mcubes([own])[0].images["rgb"][0] * 0.229 + 0.485
    np.testing.assert_allclose(red * 255, 100 + 128 / 257, atol=1e-3)


def test_the_left_192_columns_are_cropped_off_everything(tree):
    sample = Mcubes([tree])[0]
    for image in sample.images.values():
        assert image.shape == (3, 32, 33)
    dolp = np.load(tree / "polL_dolp" / f"{FIRST}.npy")
    np.testing.assert_array_equal(sample.images["dolp"][2], dolp[:, 192:])


def test_the_angle_of_polarization_is_sine_cosine_sine(tree):
    aolp = Mcubes([tree])[0].images["aolp"]
    sine = np.load(tree / "polL_aolp_sin" / f"{FIRST}.npy")[:, 192:]
    cosine = np.load(tree / "polL_aolp_cos" / f"{FIRST}.npy")[:, 192:]
    np.testing.assert_array_equal(aolp, np.stack([sine, cosine, sine]))


def test_pixels_without_infrared_are_unknown_in_training_only(tree):
    train = Mcubes([tree])
    assert (train[0].label[:4] == IGNORE).all()
    assert (train[0].label[4:-1] != IGNORE).all()
    assert train[0].images["nir"][:, :4].any()  # the image keeps what was measured
    for split in ("val", "test"):
        assert (Mcubes([tree], split)[0].label[:4] != IGNORE).all()


def test_without_infrared_its_mask_does_not_count(tree):
    without = Mcubes([tree], modalities=("rgb", "dolp"))[0]
    legacy = Mcubes([tree], options={"legacy_keep_invalid_nir": True})[0]
    masked = Mcubes([tree])[0]
    np.testing.assert_array_equal(without.label, legacy.label)
    assert (without.label[:4] != IGNORE).all()
    for modality in ("rgb", "dolp"):
        np.testing.assert_array_equal(without.images[modality], masked.images[modality])


def test_labels_beyond_the_twenty_materials_are_unknown(tree):
    assert Mcubes([tree])[0].label[-1, -3:].tolist() == [IGNORE] * 3
    assert len(Mcubes.classes.names) == 20
    assert Mcubes.classes.names[12] == "cobblestone"


def test_splits_are_the_lists_that_come_with_it(tree):
    for split, names in MCUBES_SPLITS.items():
        assert [sample.id for sample in Mcubes([tree], split)] == names
    assert Mcubes([tree]).tags(0) == {"scene": "outscene1208_2"}


def test_val_is_the_test_list_only_for_comparison_with_the_papers(tree):
    legacy = {"legacy_val_is_test": True}
    assert [s.id for s in Mcubes([tree], "val", options=legacy)] == MCUBES_SPLITS["test"]
    assert [s.id for s in Mcubes([tree], "train", options=legacy)] == MCUBES_SPLITS["train"]


def test_a_square_is_cut_from_the_center_not_squeezed(tree):
    whole, square = Mcubes([tree], "val")[0], Mcubes([tree], "val", size=(32, 32))[0]
    np.testing.assert_array_equal(square.label, whole.label[:, :32])
    np.testing.assert_array_equal(square.images["nir"], whole.images["nir"][..., :32])


def test_a_missing_list_and_missing_folders_are_named_together(own):
    (own / "list_folder" / "train.txt").unlink()
    (own / "NIR_warped_mask").rename(own / "elsewhere")
    with pytest.raises(RobustsegError, match=r"NIR_warped_mask \(nir\), list_folder/train\.txt"):
        Mcubes([own])


def test_an_empty_list_is_an_empty_split(own):
    (own / "list_folder" / "val.txt").write_text("\n")
    with pytest.raises(RobustsegError, match=r"no val sample.*val\.txt is empty"):
        Mcubes([own], "val")


def test_an_array_that_would_run_code_is_refused(own):
    path = own / "polL_dolp" / f"{FIRST}.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(RobustsegError, match=rf"{FIRST}\.npy"):
        Mcubes([own])[0]


@pytest.mark.parametrize("damage", ["cut", "gone", "shape"])
def test_a_damaged_array_is_named(own, damage):
    path = own / "polL_aolp_cos" / f"{FIRST}.npy"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:500])
    elif damage == "gone":
        path.unlink()
    else:
        np.save(path, np.zeros((31, MCUBES_SHAPE[1]), np.float32))
    with pytest.raises(RobustsegError, match=rf"polL_aolp_cos.*{FIRST}\.npy"):
        Mcubes([own])[0]
