"""Recipes: YAML over YAML, words over all; and by what the best weights are chosen."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustseg_core.config import parse
from robustseg_core.errors import RobustsegError
from robustseg_core.learn.recipe import Recipe, ValidationRecipe, known_recipes, load_recipe
from robustseg_core.learn.validate import Picked, judge
from robustseg_core.models.subsets import short, subsets
from support.eval_samples import NAMES, InMemory, network, random_samples
from support.junk import JUNK


def test_later_files_lie_over_earlier_ones_and_words_over_all(tmp_path):
    below, above = tmp_path / "below.yaml", tmp_path / "above.yaml"
    below.write_text("system: mine\noptim: {lr: 0.1, batch: 2}\ndistill: {prediction: {weight: 3}}")
    above.write_text("optim: {lr: 0.2}\ndistill: {hpdm: {pairing: same}}")
    recipe = load_recipe([str(below), str(above)], ["optim.batch=7", "seed=5"])
    assert (recipe.optim.lr, recipe.optim.batch, recipe.seed) == (0.2, 7, 5)
    assert recipe.distill == {"prediction": {"weight": 3}, "hpdm": {"pairing": "same"}}
    assert recipe.system == "mine"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("optim: {rate: 1}", "unknown key 'optim.rate'"),
        ("optim: {lr: -1}", "optim.lr is -1"),
        ("distill: {prediction: {weight: -1}}", "distill.prediction.weight is -1"),
        ("validate: {rule: best}", "validate.rule is 'best'"),
    ],
)
def test_a_mistake_in_a_recipe_is_named(text, complaint, tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text(text)
    with pytest.raises(RobustsegError, match=complaint):
        load_recipe([str(file)])


LAYERS = (
    """\
system: mine
optim:
  lr: 0.1
  batch: 0        # below
distill:
  prediction: {weight: 3}
student: {dropout: all}
""",
    """\
optim: {batch: 2,
        lr: fast}
distill:
  hpdm:
    pairing: twice
  magic: {}
student:
  fragile: [1, -1]
data:
  kind: shards
  options: {complet: true}
""",
)


@pytest.mark.parametrize(
    ("words", "place", "said"),
    [
        ([], "above.yaml:2", "optim.lr is 'fast'"),
        (["optim.lr=1"], "above.yaml:8", "student.fragile.1 is -1"),
        (["optim.lr=1", "student.fragile=[1]"], "", "student.fragile has weights, but"),
        (["optim.lr=1", "student={}"], "above.yaml:5", "distill.hpdm.pairing is 'twice'"),
        (["optim.lr=1", "student={}", "distill.hpdm={}"], "above.yaml:6", "no Distiller called"),
        (["optim.lr=1", "student={}", "distill={}"], "above.yaml:11", "unknown key 'data.options."),
        (["optim.lr=1", "student={}", "distill={}", "data.kind=shard"], "", "no Dataset called"),
        (["optim={lr: 1, bach: 2}"], "", "unknown key 'optim.bach'; did you mean 'batch'"),
        (["optim={lr: 1, batch: 0}", "student={}"], "", "optim.batch is 0"),
    ],
)
def test_a_mistake_names_the_layer_and_line_that_it_stands_in(words, place, said, tmp_path):
    files = [tmp_path / "below.yaml", tmp_path / "above.yaml"]
    for file, text in zip(files, LAYERS, strict=True):
        file.write_text(text)
    with pytest.raises(RobustsegError) as caught:
        load_recipe(list(map(str, files)), words)
    place = f"{tmp_path / place}: " if place else ""
    assert str(caught.value).startswith(f"{place}{said}")


def test_what_a_layer_replaces_is_not_complained_about(tmp_path):
    below, above = tmp_path / "below.yaml", tmp_path / "above.yaml"
    below.write_text("optim: 3\nstudent: {fragile: [-1]}\n")
    above.write_text("optim: {lr: 1}\nstudent: {fragile: []}\n")
    assert load_recipe([str(below), str(above)]).optim.lr == 1
    with pytest.raises(RobustsegError, match=r"below\.yaml:1: optim is 3"):
        load_recipe([str(above), str(below)])


@pytest.mark.slow  # Lightning takes seconds to import
@pytest.mark.parametrize(
    ("rule", "names"),
    [
        ("full", ["RDEL"]),
        ("four", ["R", "RD", "EL", "RDEL"]),
        ("mean", [short(subset) for subset in subsets(NAMES)]),
    ],
)
def test_the_rule_says_which_subsets_count(rule, names):
    from lightning.fabric import Fabric

    model = network().train()
    data = InMemory(random_samples(3))
    found = judge(
        model, data, ValidationRecipe(rule=rule), Fabric(accelerator="cpu", devices=1)
    ).figures
    assert found["val"] == pytest.approx(np.mean([found[f"val/{name}"] for name in names]))
    assert model.training


@pytest.mark.parametrize(("count", "picked"), [(0, 9), (3, 3), (50, 9)])
def test_validation_takes_samples_from_all_over_the_split(count, picked):
    part = Picked(InMemory(random_samples(9)), count)
    ids = [part[k].id for k in range(len(part))]
    assert len(ids) == len(set(ids)) == picked
    assert (ids[0], ids[-1]) == ("f0", "f8")


WRONG = [
    ("optim=3", "optim is 3"),
    ("optim.lr=.inf", "optim.lr is inf"),
    ("optim.lr=.nan", "optim.lr is nan"),
    ("optim.lr=fast", "optim.lr is 'fast'"),
    ("optim.batch=1000000000", "optim.batch is 1000000000.*65536"),
    ("optim.batch=2.5", "optim.batch is 2.5"),
    ("optim.precision=8", "optim.precision is 8"),
    ("optim.presicion=32-true", "unknown key 'optim.presicion'; did you mean 'precision'"),
    ("network.head_width=1000000", "network.head_width is 1000000.*4096"),
    ("network.stem=both", "network.stem is 'both'"),
    ("seed=1180591620717411303424", "seed is 1180591620717411303424"),
    ("data.train=shards", "data.train is 'shards'"),
    ("data.size=[32]", "data.size"),
    ("data.size=32", "data.size is 32"),
    ("student.fragile=[1,-1]", "student.fragile.1 is -1"),
    ("student.fragile=[1,1]", "student.fragile has weights, but student.dropout is 'all'"),
    ("distill=prediction", "distill is 'prediction'"),
    ("distill.predicton={}", "no Distiller called 'predicton'; did you mean 'prediction'"),
    ("distill.prediction=3", "distill.prediction is 3"),
    ("corrupt.faults=[nonsense]", "no corruption called 'nonsense'"),
    ("augment.scale=[2,1]", "augment.scale: 2 to 1 is no range"),
    ("validate=never", "validate is 'never'"),
    ("validate_={}", "unknown key 'validate_'; did you mean 'validate'[?]"),
    ("validat={}", "unknown key 'validat'; did you mean 'validate'[?]"),
    ("validate.rul=mean", "unknown key 'validate.rul'; did you mean 'rule'[?]"),
    ("save_every=0", "save_every is 0"),
    ("=3", "is not an override"),
]


@pytest.mark.parametrize(("word", "complaint"), WRONG)
def test_a_word_that_no_recipe_takes_is_a_sentence(word, complaint):
    with pytest.raises(RobustsegError, match=complaint) as caught:
        load_recipe(["teacher"], [word])
    assert "\n" not in str(caught.value) and "pydantic" not in str(caught.value)


@pytest.mark.parametrize("data", ["deliver", "mcubes", "muses"])
def test_a_system_keeps_its_network_on_public_data(data):
    assert load_recipe(["anyseg", data]).network.backbone == "b0"
    network = load_recipe(["cmnext", data]).network
    assert (network.architecture, network.backbone, network.head_width) == ("cmnext", "b2", 512)
    assert load_recipe(["cmnext", "sim"]).network.backbone == "tiny"


def test_a_network_that_is_none_is_a_sentence():
    for word, said in (
        ("network.architecture=cmnxt", "no Network called 'cmnxt'; did you mean 'cmnext'"),
        ("network.options.legacy_scrambel=true", "did you mean 'legacy_scramble'"),
        ("network.options.without_first=guess", "network.options.without_first is 'guess'"),
    ):
        with pytest.raises(RobustsegError, match=said):
            load_recipe(["cmnext"], [word])


def test_a_recipe_that_is_none_is_a_sentence(tmp_path):
    for name, said in (
        ("teachr", "no recipe and no file called 'teachr'; did you mean 'teacher'.$"),
        (str(tmp_path), "no recipe and no file called .*; have "),
    ):
        with pytest.raises(RobustsegError, match=said):
            load_recipe([name])


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_value_anywhere_is_a_recipe_or_a_sentence(data):
    tree = Recipe().model_dump(mode="json", by_alias=True)
    branch = tree
    key = data.draw(st.sampled_from(sorted(branch)))
    while isinstance(branch[key], dict) and branch[key] and data.draw(st.booleans()):
        branch = branch[key]
        key = data.draw(st.sampled_from(sorted(branch)))
    branch[key] = data.draw(JUNK)
    try:
        parse(Recipe, tree)
    except RobustsegError as error:
        assert "pydantic" not in str(error)


@pytest.mark.parametrize(
    ("recipe", "words", "said"),
    [
        ("teacher", ["feedback={}"], "feedback is set, but nothing is distilled"),
        ("any2seg", ["feedback={}"], "feedback is set, but distill has only lscd, which asks no"),
        ("rmmss", ["stages.final.distill.crossmodal={}"], "select and distill.crossmodal do not"),
        ("rmmss", ["stages.final.distill.lscd={}"], "select and distill.lscd do not go together"),
        (
            "rmmss",
            ["stages.final.distill.ifv.maps=others"],
            "select and distill.ifv.maps=others do not go together",
        ),
    ],
)
def test_words_that_teach_nothing_together_are_told_when_they_are_read(recipe, words, said):
    with pytest.raises(RobustsegError, match=said):
        load_recipe([recipe], words)


def test_nothing_is_varied_where_augment_is_null():
    """As AnySeg and RobustSeg trained on MUSES: the words in its recipe."""
    text = next(p for n, p in known_recipes().items() if n == "muses").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("#   data.options=")]
    options, augment = line.removeprefix("#   ").rsplit(" ", 1)
    recipe = load_recipe(["anyseg", "muses"], [options, augment])
    assert recipe.augment is None and recipe.data.options["legacy_unnormalized"] == "anyseg"
    assert load_recipe(["anyseg", "muses"], []).augment is not None


def test_words_that_teach_something_together_are_not_complained_about():
    load_recipe(["any2seg"], ["feedback={}", "distill.prediction={}"])
    load_recipe(["rmmss"], ["stages.final.distill.crossmodal={legacy_code: true}"])
    load_recipe(["rmmss"], ["stages.final.distill={unimodal: {}}"])


@pytest.mark.parametrize("key", ["augment.crop", "data.size"])
def test_a_size_that_no_network_takes_is_named_before_anything_is_read(key):
    said = rf"{key} is 100x64, and a network takes sides that divide by 32; set {key}=\[128,64\]"
    with pytest.raises(RobustsegError, match=said):
        load_recipe(["teacher"], [f"{key}=[100,64]"])
    with pytest.raises(RobustsegError, match=said):  # of a stage, before the first one begins
        load_recipe(["rmmss"], [f"stages.final.{key}=[100,64]"])
