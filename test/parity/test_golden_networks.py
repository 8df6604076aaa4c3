"""Networks against figures of the published code: same weights, by official names, same outputs."""

from __future__ import annotations

import pytest
import torch

from support import golden_networks
from support.golden import golden
from support.golden_networks import SENSORS

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("backbone", ["b0", "b2"])
def test_m_segformer_says_what_the_published_one_says_of_every_subset(backbone):
    found = list(golden_networks.m_segformer(backbone))
    assert len(found) == 15 + 14 + 16 + 1
    assert not [(what, each) for what, each in found if not each.difference < 1e-5]


@pytest.mark.parametrize("others", range(4))
@pytest.mark.parametrize(("backbone", "width"), [("b0", 256), ("b2", 512)])
def test_cmnext_says_what_the_published_one_says(backbone, width, others):
    found = list(golden_networks.cmnext(backbone, width, others))
    assert len(found) == 5
    limits = {"logits": 2e-5, "maps of the head": 6e-5}  # their rounding
    assert not [(what, each) for what, each in found if not each.difference < limits[what]]


def test_without_the_released_scramble_it_is_another_network():
    """So the option is there for something, and the comparison would find it."""
    model = golden_networks.imported("cmnext", "b0", 256, 2)
    model.options = model.options.model_copy(update={"legacy_scramble": False})
    images = {name: torch.ones(1, 3, 96, 128) for name in SENSORS[:3]}
    mended = golden_networks.ask(model, images, SENSORS[:3])
    model.options = model.options.model_copy(update={"legacy_scramble": True})
    released = golden_networks.ask(model, images, SENSORS[:3])
    assert (mended.logits - released.logits).abs().max() > 1e-3


def test_the_figures_are_of_the_published_sizes():
    for backbone, millions in (("b0", 6.095737), ("b2", 27.365849)):
        facts = golden("m_segformer").facts[backbone]
        assert facts["parameters_without_unused_classifier"] == 1e6 * millions
    assert golden("cmnext").facts["B2/3aux"]["parameters"] == 58_732_125
