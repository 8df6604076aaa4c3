"""What the networks' rows of docs/specs/parity.md rest on."""

from __future__ import annotations

import pytest
import torch

from support import golden_networks
from support.golden import golden
from support.golden_networks import SENSORS

pytestmark = pytest.mark.slow


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
