"""One rule: whatever a model is made from, it is a model or one sentence."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, ValidationError, model_validator

from robustseg_core import config, datasets, distill, modalities
from robustseg_core.errors import RobustsegError
from robustseg_core.learn.augment import AugmentConfig
from robustseg_core.learn.corrupt import CorruptConfig
from robustseg_core.learn.recipe import Recipe
from robustseg_core.models.checkpoint import default_spec
from robustseg_core.robot.config import RobotConfig
from robustseg_core.strict import Misfit, Strict, within
from robustseg_core.types import ModelSpec
from support import ROOT
from support.junk import JUNK

pytestmark = pytest.mark.slow


class Inner(Strict):
    count: int = Field(1, ge=1)


class Chosen(Strict):
    mode: str = Field("auto", pattern="^(off|auto|dead)$")
    device: str = Field("cpu", pattern=r"^(cpu|cuda(:\d+)?)$")


class Outer(Strict):
    inner: Inner = Field(default_factory=Inner)
    named: dict[str, dict[str, Any]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _fits(self) -> Outer:
        for name, options in self.named.items():
            if not name.isidentifier():
                with within("named", name):
                    raise RobustsegError(f"no plug-in called {name!r}")
            config.parse(Inner, options, where=f"named.{name}")
        return self


MAKERS: dict[str, Callable[[], Strict]] = {
    "constructor": lambda: Outer(inner={"count": 0}),
    "model_validate": lambda: Outer.model_validate({"inner": {"count": 0}}),
    "model_validate_json": lambda: Outer.model_validate_json('{"inner": {"count": 0}}'),
    "parse": lambda: config.parse(Outer, {"inner": {"count": 0}}),
}


@pytest.mark.parametrize("how", MAKERS)
def test_however_a_model_is_made_its_error_is_one_sentence_with_the_whole_path(how):
    with pytest.raises(RobustsegError) as caught:
        MAKERS[how]()
    assert str(caught.value).startswith("inner.count is 0: input should be greater than")
    assert caught.value.path == ("inner", "count")
    assert not isinstance(caught.value.__cause__, ValidationError)


def test_one_of_some_words_is_told_the_words_and_not_a_pattern():
    for value, told in (
        ("ded", "mode is 'ded'; did you mean 'dead'?"),
        ("maybe", "mode is 'maybe'; have ['auto', 'dead', 'off']"),
    ):
        with pytest.raises(Misfit) as caught:
            Chosen(mode=value)
        assert str(caught.value) == told
    with pytest.raises(Misfit, match="device is 'tpu': string should match pattern"):
        Chosen(device="tpu")


def test_a_validator_that_parses_further_keeps_the_path():
    for tree, path, said in (
        ({"named": {"a": {"count": 0}}}, ("named", "a", "count"), "named.a.count is 0"),
        ({"named": {"a b": {}}}, ("named", "a b"), "no plug-in called 'a b'"),
        ({"named": {"a": {"\n": 0}}}, ("named", "a", "\n"), r"unknown key .named.a.\\n."),
    ):
        with pytest.raises(Misfit, match=said) as caught:
            config.parse(Outer, tree)
        assert caught.value.path == path


def test_an_error_survives_its_way_from_another_process():
    error = Misfit("x is 3", ("x",), "robot.yaml:7")
    for same in (pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301
        assert str(same) == "robot.yaml:7: x is 3"
        assert (same.text, same.path, same.place) == (error.text, error.path, error.place)


def test_nobody_makes_models_that_raise_anything_else():
    for path in sorted((ROOT / "robustseg_core").rglob("*.py")):
        text = path.read_text()
        if path.name != "strict.py":
            assert not re.search(r"class \w+\((pydantic\.)?BaseModel", text), path
            assert not re.search(r"pydantic\.dataclasses|validate_call", text), path


MODELS = [
    Recipe,
    RobotConfig,
    ModelSpec,
    AugmentConfig,
    CorruptConfig,
    *(datasets.load(name).Options for name in datasets.available()),
    *(distill.load(name).Options for name in distill.available()),
    *(modalities.load(name).Encoding for name in modalities.available()),
    *(modalities.load(name).Limits for name in modalities.available()),
]


@settings(max_examples=100)
@given(data=st.data())
def test_any_value_of_any_field_fits_or_is_a_sentence(data):
    model = data.draw(st.sampled_from(MODELS))
    names = [field.alias or name for name, field in model.model_fields.items()]
    fields = data.draw(st.dictionaries(st.sampled_from(names), JUNK, max_size=3))
    try:
        model(**fields)
    except RobustsegError as error:
        assert "pydantic" not in str(error) and "\n" not in str(error)


@settings(max_examples=50)
@given(
    fields=st.dictionaries(
        st.sampled_from([n for n in ModelSpec.model_fields if n != "modalities"]), JUNK, max_size=2
    ),
    names=st.none() | st.lists(st.sampled_from([*modalities.available(), "sonar"]), max_size=3),
)
def test_any_field_of_a_default_spec_fits_or_is_a_sentence(fields, names):
    try:
        default_spec(names, **fields)
    except RobustsegError as error:
        assert "pydantic" not in str(error) and "\n" not in str(error)
