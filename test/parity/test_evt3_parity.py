"""What we write as EVT3 beside what evlib, which shares no line with us, reads of it.

evlib (PyPI) is in no extra of ours, because it brings 600 MB; it orders events by the 24 bits of
the sensor's clock, so the streams here stay below one lap of it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from robustseg_core.codecs.events.evt3 import Evt3Decoder, encode_evt3

evlib = pytest.importorskip("evlib", reason="evlib is not installed (pip install evlib)")
WIDTH, HEIGHT = 1280, 720
HEAD = f"% evt 3.0\n% format EVT3;height={HEIGHT};width={WIDTH}\n% end\n".encode()


def stream(seed: int) -> tuple[np.ndarray, ...]:
    """Rows of neighbors and single events; x, y, p, t of at most 8000, below one lap."""
    rng = np.random.default_rng(seed)
    parts, now = [], 0
    for _ in range(400):
        now += int(rng.integers(0, 40_000))
        row, on, left = rng.integers(HEIGHT), rng.integers(2), rng.integers(WIDTH - 20)
        columns = left + np.flatnonzero(rng.random(20) < rng.choice([0.1, 0.5, 0.95]))
        parts.append([(x, row, on, now) for x in columns])
    return tuple(np.array([event for part in parts for event in part]).T)


@pytest.mark.parametrize("vectors", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_another_decoder_reads_the_same_events(tmp_path: Path, seed: int, vectors: bool) -> None:
    x, y, p, t = stream(seed)
    words = encode_evt3(x, y, p.astype(bool), t, vectors=vectors).tobytes()
    path = tmp_path / "events.raw"
    path.write_bytes(HEAD + words)
    theirs = evlib.load_events(str(path)).collect()
    ours = Evt3Decoder(WIDTH, HEIGHT).decode(words)
    for name, mine, known in (("x", ours.x, x), ("y", ours.y, y)):
        assert (mine == known).all() and (theirs[name].to_numpy() == known).all()
    assert (ours.p == p).all() and ((theirs["polarity"].to_numpy() > 0) == p).all()
    assert (ours.t == t).all()
    assert (theirs["t"].dt.total_microseconds().to_numpy() == t).all()
