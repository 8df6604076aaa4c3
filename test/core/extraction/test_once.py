"""Long work is complete or not there, whoever is killed and whoever else wants it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from robustseg_core.extraction.once import once
from robustseg_core.storage.output_folder import META
from support import ROOT


@pytest.mark.slow
def test_killed_in_the_middle_nothing_half_is_left_and_the_next_run_finishes(tmp_path):
    program = (
        "import sys, time; from pathlib import Path\n"
        "from robustseg_core.extraction.once import once\n"
        "def make(f): (f / 'half').write_text('x'); print('going', flush=True); time.sleep(600)\n"
        "once(Path(sys.argv[1]), {'a': 1}, make, command='extract', account='account.json')"
    )
    folder = tmp_path / "result"
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(folder)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    with process:
        assert process.stdout.readline() == b"going\n"
        process.kill()
    assert [path.name for path in folder.iterdir()] == [META]

    def make(partial):
        assert not list(partial.iterdir())
        (partial / "account.json").write_text('{"recipe": {"a": 1}}')

    made = once(folder, {"a": 1}, make, command="extract", account="account.json")
    assert made == ({"recipe": {"a": 1}}, True)
    assert {path.name for path in folder.iterdir()} == {META, "account.json"}


def test_what_a_kill_has_mixed_with_an_earlier_result_is_made_anew(tmp_path, monkeypatch):
    folder = tmp_path / "result"

    def want(number):
        def make(partial):
            (partial / "data").write_text(str(number))
            (partial / "account.json").write_text(json.dumps({"recipe": {"a": number}}))

        recipe, words = {"a": number}, {"command": "label", "account": "account.json"}
        return once(folder, recipe, make, overwrite=True, **words)

    def interrupted(path, target):
        if target.name == "account.json":
            raise KeyboardInterrupt
        return original(path, target)

    original = Path.replace
    want(1)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            want(2)
    assert (folder / "data").read_text() == "2", "beside the account of 1"
    assert want(1)[1] and (folder / "data").read_text() == "1"
    assert not want(1)[1]


def test_of_many_that_want_the_same_one_makes_it_and_the_others_wait(tmp_path):
    folder, made = tmp_path / "result", []

    def make(partial):
        made.append(partial)
        (partial / "account.json").write_text('{"recipe": {"a": 1}}')

    def want(_):
        return once(folder, {"a": 1}, make, command="extract", account="account.json")

    with ThreadPoolExecutor(8) as pool:  # a lock of the file system does not care who it is
        results = list(pool.map(want, range(8)))
    assert sum(now for _, now in results) == len(made) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["result"]
