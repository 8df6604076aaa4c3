"""What tests of replays share."""

from __future__ import annotations

from pathlib import Path

import pytest

from robustseg_core.models import checkpoint
from support import drives


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """An untrained network of the drives' size."""
    path: Path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    checkpoint.save(path, checkpoint.untrained(checkpoint.default_spec(size=drives.SIZE)))
    return path
