"""Nobody else's file is ever touched, whoever is killed, and a result is whole or not there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from robustseg_core.errors import RobustsegError
from robustseg_core.storage.output_folder import (
    META,
    check_apart,
    claimed,
    place,
    replacing,
    staged,
)
from support import ROOT

pytestmark = pytest.mark.slow


def write(folder, *, command="run", **files):
    with staged(folder, command=command) as partial:
        for name, text in files.items():
            path = partial / name.replace("__", "/").replace("_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


def content(folder):
    """Visible files and their text."""
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and META not in path.parts
    }


def test_a_result_is_replaced_by_the_next_one_and_what_it_no_longer_has_goes(tmp_path):
    out = tmp_path / "new" / "out"
    write(out, result_json="1", masks__a_png="a", masks__b_png="b", deep__er__c_png="c")
    write(out, result_json="2", masks__a_png="A")
    assert content(out) == {"result.json": "2", "masks/a.png": "A"}
    assert not (out / "deep").exists()


def test_files_of_others_in_it_stay(tmp_path):
    out = tmp_path / "out"
    write(out, masks__a_png="a", masks__b_png="b")
    (out / "masks" / "mine.png").write_text("annotated for a week")
    (out / "notes.txt").write_text("notes")
    write(out, masks__a_png="A")
    assert content(out) == {
        "masks/a.png": "A",
        "masks/mine.png": "annotated for a week",
        "notes.txt": "notes",
    }


@pytest.mark.parametrize("name", ["masks/0.png", "result.json", "notes.txt", ".hidden"])
def test_a_folder_that_others_filled_is_refused_and_left_without_a_mark(tmp_path, name):
    theirs = tmp_path / "ds" / name
    theirs.parent.mkdir(parents=True)
    theirs.write_text("theirs")
    with pytest.raises(RobustsegError, match=r"holds .*, which robustseg did not write; choose"):
        write(tmp_path / "ds", result_json="1")
    with (
        pytest.raises(RobustsegError, match="did not write"),
        claimed(tmp_path / "ds", command="train"),
    ):
        pass
    assert theirs.read_text() == "theirs"
    assert not (tmp_path / "ds" / META).exists()


def test_what_somebody_changed_is_not_replaced(tmp_path):
    out = tmp_path / "out"
    write(out, masks__a_png="a", result_json="1")
    (out / "masks" / "a.png").write_text("painted over by hand")
    with pytest.raises(RobustsegError, match=r"a\.png was changed since robustseg wrote it; move"):
        write(out, masks__a_png="A", result_json="2")
    assert content(out) == {"masks/a.png": "painted over by hand", "result.json": "1"}


@pytest.mark.parametrize("link", ["result.json", "masks"])
def test_a_link_is_never_followed(tmp_path, link):
    out, precious = tmp_path / "out", tmp_path / "precious"
    write(out, masks__a_png="a", result_json="1")
    (out / link).rename(precious)
    (out / link).symlink_to(precious)
    before = precious.read_text() if precious.is_file() else content(precious)
    with pytest.raises(RobustsegError, match="was changed since"):
        write(out, masks__a_png="A", result_json="2")
    assert before == (precious.read_text() if precious.is_file() else content(precious))


def test_a_file_that_appears_while_we_work_is_not_replaced_and_the_result_is_kept(tmp_path):
    out = tmp_path / "out"
    with (
        pytest.raises(RobustsegError, match=r"result\.json is not robustseg's.*is in "),
        staged(out, command="run") as partial,
    ):
        (partial / "result.json").write_text("ours")
        (out / "result.json").write_text("theirs")
    assert content(out) == {"result.json": "theirs"}
    assert (out / META / "unpublished-1" / "result.json").read_text() == "ours"


def test_another_commands_results_are_refused(tmp_path):
    write(tmp_path / "runs", command="train", best_safetensors="weights")
    with pytest.raises(RobustsegError, match=r"results of `robustseg train`, which `run` does not"):
        write(tmp_path / "runs", result_json="1")
    assert content(tmp_path / "runs") == {"best.safetensors": "weights"}


def test_a_failure_leaves_what_was_there(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(ZeroDivisionError), staged(out, command="run") as partial:
        (partial / "half").write_text("x")
        raise ZeroDivisionError
    assert not out.exists()
    write(out, result_json="1")
    with pytest.raises(KeyboardInterrupt), staged(out, command="run") as partial:
        (partial / "result.json").write_text("2")
        raise KeyboardInterrupt
    assert content(out) == {"result.json": "1"}
    with pytest.raises(FileNotFoundError), staged(out, command="run"):
        (tmp_path / "no such input").read_text()  # not of our writing: it is not called a full disk
    assert [p.name for p in (out / META).iterdir()] == ["manifest.json"]


@pytest.mark.parametrize("inside", ["", "mcap", "a/b/c.mcap"])
def test_an_output_that_is_or_contains_an_input_is_refused(tmp_path, inside):
    proj = tmp_path / "proj"
    bag = proj / inside
    bag.parent.mkdir(parents=True, exist_ok=True)
    bag.mkdir() if not bag.suffix else bag.write_text("bag")
    link = tmp_path / "link"
    link.symlink_to(proj)
    what = "contains" if inside else "is"
    for out, given_ in [(proj, bag), (link, bag), (proj, link / inside), (proj / "x" / "..", bag)]:
        (proj / "x").mkdir(exist_ok=True)
        with pytest.raises(RobustsegError, match=f"{what} the input"):
            check_apart(out, [tmp_path / "other", given_])
    check_apart(tmp_path / "elsewhere", [bag])
    check_apart(proj / "result", [proj])  # beside the recording, inside its folder: nothing is lost


def test_a_linked_input_in_the_output_is_an_input(tmp_path):
    (tmp_path / "far.mcap").write_text("bag")
    out = tmp_path / "out"
    out.mkdir()
    (out / "near.mcap").symlink_to(tmp_path / "far.mcap")
    with pytest.raises(RobustsegError, match="contains the input"):
        check_apart(out, [out / "near.mcap"])


def program(folder, body, command="run"):
    """A process that holds `folder`, says so, and then sleeps."""
    text = (
        "import sys, time, os; from pathlib import Path\n"
        "from robustseg_core.storage.output_folder import staged\n"
        "def stop(): print('going', flush=True); time.sleep(600)\n"
        f"with staged(Path(sys.argv[1]), command={command!r}) as partial:\n    {body}\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", text, str(folder)], stdout=subprocess.PIPE, env=environment
    )


def test_two_at_once_the_second_is_refused(tmp_path):
    with program(tmp_path / "out", "stop()") as process:
        assert process.stdout.readline() == b"going\n"
        with pytest.raises(RobustsegError, match="another robustseg is writing to"):
            write(tmp_path / "out", result_json="2")
        process.kill()
    write(tmp_path / "out", result_json="2")
    assert content(tmp_path / "out") == {"result.json": "2"}


def test_killed_before_it_is_done_nothing_shows_and_the_next_run_is_whole(tmp_path):
    out = tmp_path / "out"
    with program(out, "(partial / 'half.txt').write_text('x'); stop()") as process:
        assert process.stdout.readline() == b"going\n"
        process.kill()
    assert content(out) == {}
    write(out, result_json="1")
    assert content(out) == {"result.json": "1"}
    assert [p.name for p in (out / META).iterdir()] == ["manifest.json"]


@pytest.mark.parametrize("moved", range(4))
def test_killed_while_publishing_the_next_run_is_whole(tmp_path, moved):
    out = tmp_path / "out"
    write(out, masks__a_png="a", masks__old_png="old", result_json="1")
    (out / "mine.txt").write_text("mine")
    body = (
        "[(partial / n).write_text('new') for n in ('b.png', 'c.png', 'result.json')]\n"
        f"    count = [0]; real = Path.replace\n"
        "    def slow(self, target):\n"
        "        if self.parent.name == 'partial':\n"
        "            count[0] += 1\n"
        f"            if count[0] > {moved}: stop()\n"
        "        return real(self, target)\n"
        "    Path.replace = slow\n"
    ) + ("" if moved < 3 else "    import shutil; shutil.rmtree = lambda *a, **k: stop()\n")
    with program(out, body) as process:
        assert process.stdout.readline() == b"going\n"
        process.kill()
    assert (out / "mine.txt").read_text() == "mine"
    write(out, masks__a_png="A", result_json="3")
    assert content(out) == {"masks/a.png": "A", "result.json": "3", "mine.txt": "mine"}


def test_work_in_place_is_held_and_marked(tmp_path):
    out = tmp_path / "runs"
    with claimed(out, command="train") as held:
        held.open()
        (out / "state").write_text("1")
        with (
            pytest.raises(RobustsegError, match="another robustseg"),
            claimed(out, command="train"),
        ):
            pass
    with claimed(out, command="train"):  # goes on
        assert (out / "state").read_text() == "1"
    with pytest.raises(RobustsegError, match="results of `robustseg train`"):
        write(out, result_json="1")


def test_a_damaged_manifest_is_refused(tmp_path):
    out = tmp_path / "out"
    write(out, result_json="1")
    for text in ("", "[]", "{}", '{"command": "run", "files": 3}', "[" * 100_000):
        (out / META / "manifest.json").write_text(text)
        with pytest.raises(RobustsegError, match=r"manifest\.json is damaged"):
            write(out, result_json="2")
    assert content(out) == {"result.json": "1"}


@pytest.mark.parametrize("kind", ["file", "dangling", "readonly", "under a file"])
def test_what_cannot_be_a_folder_is_said(tmp_path, kind):
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("x")
    elif kind == "dangling":
        out.symlink_to(tmp_path / "nowhere")
    elif kind == "under a file":
        out.write_text("x")
        out = out / "below"
    else:
        out = Path("/proc/robustseg")
    with pytest.raises(RobustsegError, match=r"is no folder|cannot write"):
        write(out, result_json="1")


def test_a_file_is_placed_only_where_nothing_is(tmp_path):
    for name in ("new", "theirs"):
        (tmp_path / name).write_text(name)
    with pytest.raises(RobustsegError, match="theirs is there already"):
        place(tmp_path / "new", tmp_path / "theirs")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(RobustsegError, match="link is there already"):
        place(tmp_path / "new", tmp_path / "link")
    place(tmp_path / "new", tmp_path / "free")
    assert (tmp_path / "free").read_text() == "new" and not (tmp_path / "new").exists()
    assert (tmp_path / "theirs").read_text() == "theirs"


def test_replacing_is_all_or_nothing(tmp_path):
    path = tmp_path / "state"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(path) as part:
        part.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    with replacing(path) as part:
        part.write_text("new")
    assert path.read_text() == "new" and [p.name for p in tmp_path.iterdir()] == ["state"]


NAMES = st.sampled_from(["a", "b", "m/a", "m/b", "m/n/c"])
ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("run"), st.frozensets(NAMES, min_size=1)),
        st.tuples(st.just("theirs"), NAMES),
        st.tuples(st.just("fail"), st.frozensets(NAMES, min_size=1)),
    ),
    max_size=8,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(ACTS)
def test_whatever_happens_their_files_are_as_they_left_them(tmp_path_factory, acts):
    out = tmp_path_factory.mktemp("x") / "out"
    theirs, ours, turn = {}, {}, 0
    for act, what in acts:
        turn += 1
        if act == "theirs":
            path = out / what
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"theirs, in turn {turn} of them")
            theirs[what] = path.read_text()
            ours.pop(what, None)
            continue
        try:
            with staged(out, command="run") as partial:
                for name in what:
                    (partial / name).parent.mkdir(parents=True, exist_ok=True)
                    (partial / name).write_text(f"ours {turn}")
                if act == "fail":
                    raise ZeroDivisionError
            ours = dict.fromkeys(what, f"ours {turn}")
        except (RobustsegError, ZeroDivisionError):
            pass
        found = content(out) if out.exists() else {}
        assert found == {**ours, **theirs}


def test_the_manifest_lists_what_was_written(tmp_path):
    write(tmp_path / "out", result_json="1", masks__a_png="abc")
    manifest = json.loads((tmp_path / "out" / META / "manifest.json").read_text())
    assert (manifest["command"], manifest["state"]) == ("run", "done")
    assert {name: stamps[0][0] for name, stamps in manifest["files"].items()} == {
        "result.json": 1,
        "masks/a.png": 3,
    }
