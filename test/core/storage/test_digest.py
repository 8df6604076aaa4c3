"""The digest of a file, whatever its size."""

from __future__ import annotations

import hashlib
import tracemalloc

import pytest

from robustseg_core.storage.digest import sha256


@pytest.mark.parametrize("content", [b"", b"robustseg", bytes(range(256)) * 9000])
def test_it_is_that_of_all_bytes(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    assert sha256(tmp_path / "file").hexdigest() == hashlib.sha256(content).hexdigest()


def test_a_file_is_never_in_memory_as_a_whole(tmp_path):
    with (tmp_path / "file").open("wb") as file:
        file.truncate(1 << 26)
    tracemalloc.start()
    sha256(tmp_path / "file")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 23
