"""Classes are matched by name, by synonym and by hand, and what is left is said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustseg_core.errors import RobustsegError
from robustseg_core.extraction.class_names import SYNONYMS, distinct, load_by_hand, match, plain
from robustseg_core.models.classes import CITYSCAPES, DELIVER
from robustseg_core.types import IGNORE

OURS = CITYSCAPES.names


def test_every_list_is_itself():
    for names in (CITYSCAPES.names, DELIVER.names):
        found = match(names, names)
        assert found.table.tolist() == list(range(len(names))) and not found.unknown
        assert found.notice(names) == ""


@pytest.mark.parametrize(
    "theirs, ours",
    [
        ("tree", "vegetation"),
        ("sidewalk, pavement", "sidewalk"),
        ("Traffic_Light", "traffic light"),
        ("traffic sign (front)", "traffic sign"),
        ("Lane Marking - General", "road"),
        ("wall-brick", "wall"),
        ("skyscraper", "building"),
        ("Pedestrian", "person"),
        ("person;individual;someone", "person"),
        ("grass", "terrain"),
        ("cars", "car"),
    ],
)
def test_what_others_call_it(theirs, ours):
    assert match([theirs], OURS).pairs == {theirs: ours}


def test_a_list_that_has_both_keeps_both():
    wanted = ("tree", "vegetation", "plant")
    found = match(["tree", "vegetation", "bush", "plant"], wanted)
    assert found.table.tolist() == [0, 1, 1, 2]


def test_what_is_unknown_is_ignored_and_said_with_what_may_be_meant():
    found = match(["road", "windowpane", "vegetatoin"], OURS)
    assert found.table.tolist() == [0, IGNORE, IGNORE]
    assert found.unknown == ("windowpane", "vegetatoin")
    text = found.notice(OURS)
    assert "windowpane, vegetatoin (vegetation?)" in text and "--class-map" in text


def test_no_class_at_all_is_a_sentence():
    with pytest.raises(RobustsegError, match=r"none of the teacher's 2 classes .*LABEL_0.*map"):
        match(["LABEL_0", "LABEL_1"], OURS)


def test_by_hand_wins(tmp_path):
    path = tmp_path / "map.yaml"
    path.write_text("tree: ignore\nwindowpane: building\n2: 13\n")
    found = match(["road", "tree", "thing", "windowpane"], OURS, load_by_hand(path))
    assert found.table.tolist() == [0, IGNORE, 13, 2] and not found.unknown
    path.write_text("ids: {0: 8}\n")
    assert match(["road"], OURS, load_by_hand(path)).table.tolist() == [8]


@pytest.mark.parametrize(
    "text, said",
    [
        ("treee: vegetation", "names 'treee', .* the teacher's 2 .*did you mean 'tree'"),
        ("tree: vegetatoin", "names 'vegetatoin', .* the student's 19 .*'vegetation'"),
        ("7: vegetation", "names 7, .* give 0 to 1"),
        ("tree: [1]", r"maps 'tree' to \[1\]"),
        ("tree: true", "maps 'tree' to True"),
    ],
)
def test_a_map_that_names_nothing_is_a_sentence(tmp_path, text, said):
    path = tmp_path / "map.yaml"
    path.write_text(text)
    with pytest.raises(RobustsegError, match=said):
        match(["road", "tree"], OURS, load_by_hand(path))


def test_names_that_are_there_twice_are_told_apart():
    assert distinct(["screen", "road", "screen"]) == ("screen", "road", "screen (2)")
    assert match(["road", "road (1)"], OURS).table.tolist() == [0, 0]


def test_no_synonym_means_two_things():
    words = [word for name, others in SYNONYMS.items() for word in (name, *others)]
    assert len(words) == len(set(words)) and all(plain(word) == word for word in words)
    assert set(SYNONYMS) == set(OURS)


@given(st.lists(st.text(min_size=1), min_size=1, max_size=8))
def test_whatever_the_names_are_they_are_matched_or_refused(names):
    try:
        found = match(names, OURS)
    except RobustsegError:
        return
    assert len(found.table) == len(names)
    assert all(i == IGNORE or i < len(OURS) for i in found.table)
    found.notice(OURS)
