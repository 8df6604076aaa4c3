"""A recipe: everything that a training run depends on, as YAML files laid over one another.

`config/train/` holds systems (how is learned: teacher, anyseg, ...) and the data that they are
trained on (sim, deliver, ...); `robustseg train anyseg muses` lays one over the other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from robustseg_core import config, datasets, distill
from robustseg_core.config import Strict, parse
from robustseg_core.errors import RobustsegError, did_you_mean
from robustseg_core.learn.augment import AugmentConfig
from robustseg_core.learn.corrupt import CorruptConfig
from robustseg_core.learn.shipped import HELD_OUT, find_recipe, held_out, known_recipes
from robustseg_core.models import architectures
from robustseg_core.models.subsets import LAWS
from robustseg_core.strict import Misfit, within
from robustseg_core.types import WIDEST_HEAD, network_size

STAGE = "stage:"
"""In the place of a checkpoint: that of an earlier stage of the recipe."""


class DataRecipe(Strict):
    """What is learned from."""

    kind: str = Field("shards", description="A data set, as `robustseg list` names them.")
    train: tuple[str, ...] = Field((), description="Folders or recordings to train on.")
    val: tuple[str, ...] = Field(
        (), description="... to choose the best weights by; empty: the last step is kept."
    )
    size: tuple[int, int] | None = Field(None, description="(H, W) of samples; null: their own.")
    modalities: tuple[str, ...] = Field((), description="Sensors to use; empty: all there are.")
    options: dict[str, Any] = Field(default_factory=dict, description="Options of the data set.")
    embeddings: str = Field(
        "", description="File of `robustseg embed`, made of `train`, for distillers that use it."
    )
    workers: int = Field(2, ge=0, le=256, description="Processes that load.")
    cache: bool = Field(default=False, description="Keep samples in memory once they are read.")


class NetworkRecipe(Strict):
    """What is trained."""

    architecture: str = Field(
        "m_segformer", description="An architecture, as `robustseg list` names them."
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="Options of the architecture (docs/specs/network.md)."
    )
    backbone: str = Field("b0", description="A backbone, as `robustseg list` names them.")
    head: str = Field(
        "published", pattern="^(published|folded)$", description="Form of the head in training."
    )
    head_width: int = Field(768, gt=0, le=WIDEST_HEAD, description="Embedding width of the head.")
    fusion: str = Field("mean", description="A fusion, as `robustseg list` names them.")
    stem: str = Field("shared", pattern="^(shared|per_modality)$", description="Patch embedding.")
    norm: str = Field("shared", pattern="^(shared|per_modality)$", description="LayerNorms.")
    drop_path: float = Field(0.1, ge=0, lt=1, description="Chance of skipping the last block.")
    dropout: float = Field(0.1, ge=0, lt=1, description="Of the head's channels.")
    init: str = Field(
        "",
        description="Weights to begin with: a checkpoint of ours of the same network, a file of "
        "public MiT or SegFormer weights, or their name on the Hugging Face hub (nvidia/mit-b0, "
        "extra `hub`); `imagenet`, for architecture swift; empty: random.",
    )


class OptimRecipe(Strict):
    """How it is trained; the defaults are the published ones (docs/specs/network.md)."""

    epochs: int = Field(200, gt=0, description="Passes over the data; `steps` replaces it.")
    steps: int = Field(0, ge=0, description="Optimizer steps; 0: as many as `epochs` make.")
    batch: int = Field(
        8,
        gt=0,
        le=65_536,
        description="Samples per step and process; a run that goes on in another number of "
        "processes keeps what all of them together had.",
    )
    accumulate: int = Field(1, gt=0, le=65_536, description="Batches that make one step.")
    lr: float = Field(6e-5, gt=0, description="Peak learning rate of AdamW.")
    weight_decay: float = Field(0.01, ge=0, description="Not applied to 1-D parameters.")
    warmup: float = Field(0.05, ge=0, lt=1, description="Share of the steps that warm up,")
    warmup_from: float = Field(0.1, gt=0, le=1, description="from this share of `lr`.")
    power: float = Field(
        0.9,
        ge=0,
        description="Of the polynomial decay that follows; it ends an epoch after the last, or one "
        "step after the last where `steps` are given.",
    )
    clip_norm: float = Field(0.0, ge=0, description="Largest gradient norm; 0: no clipping.")
    ema: float = Field(
        0.0, ge=0, lt=1, description="Decay of averaged weights, which are then validated and kept."
    )
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = Field(
        "32-true", description="As Fabric names it."
    )
    tf32: bool = Field(
        default=True,
        description="On a GPU, products of float32 in TensorFloat-32: faster, coarser.",
    )
    head_lr: float = Field(
        1.0, gt=0, le=1000, description="Learning rate of the head over that of all else; often 10."
    )
    sync_batchnorm: bool = Field(
        default=False, description="On several GPUs, BatchNorm counts the samples of all of them."
    )


class SoloRecipe(Strict):
    """A pass of the student with one sensor by itself, the weaker the more often.

    The solo branch of SGMA (arXiv 2603.02505) and CHARM (arXiv 2508.03060). How robustness is
    measured is RECONSTRUCTED: by the running mean of the cross-entropy that the sensor reaches
    alone; a sensor is drawn in proportion to it (`learn/solo.py`).
    """

    weight: float = Field(1.0, gt=0, description="Factor of its cross-entropy,")
    fused_weight: float = Field(
        2.0, gt=0, description="and of the cross-entropy of the passes with several sensors."
    )
    memory: float = Field(
        0.9, ge=0, lt=1, description="Share of the old mean, each time that a sensor was drawn."
    )


class StudentRecipe(Strict):
    """Which sensors the student sees."""

    dropout: str = Field("all", description=f"Law of the subsets: {', '.join(LAWS)}.")
    per_batch: bool = Field(
        default=False, description="One subset for the whole batch, as published."
    )
    missing: str = Field(
        "skip", pattern="^(skip|zero)$", description="Not encoded at all, or a zero image."
    )
    fragile: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (), description="Weights of being kept, for `fragile`."
    )
    with_full: bool = Field(
        default=False,
        description="A second pass with all sensors: cross-entropy, and the distillers that have a "
        "`full_weight`.",
    )
    together: bool = Field(
        default=False,
        description="All passes of a step as one batch: a sensor is encoded once, and every "
        "BatchNorm sees all subsets at once. For networks that encode each sensor by itself.",
    )
    solo: SoloRecipe | None = Field(
        None, description="Another pass, with one sensor by itself; null: none, {}: as published."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> StudentRecipe:
        law = self.dropout
        if law not in LAWS:
            raise Misfit(
                f"student.dropout is {law!r}; {did_you_mean(law, LAWS)}", ("student", "dropout")
            )
        if self.together and self.missing != "skip":
            raise Misfit(
                f"student.together encodes a sensor once for all passes, but student.missing is "
                f"{self.missing!r}; set student.missing=skip, or leave it out",
                ("student", "together"),
            )
        if self.fragile and law != "fragile":
            raise Misfit(
                f"student.fragile has weights, but student.dropout is {law!r}; "
                "set student.dropout=fragile, or leave them out",
                ("student", "fragile"),
            )
        return self


class SelectRecipe(Strict):
    """RMMSS, second stage: the distillers learn from what is selected of two frozen networks.

    At inference the selection is not there. The module was released; how it is trained is
    RECONSTRUCTED: CE(z*, y) + CE(head of the robust model (F*), y), F* and z* being the fused maps
    and the logits that it selects, which the student takes as they are (arXiv 2505.12861v2).
    """

    robust: str = Field("", description="Checkpoint of the robust model, beside `teacher`.")
    robust_sees: Literal["full", "dropped"] = Field(
        "full", description="Shown to the robust model: all sensors, or what the student sees."
    )
    lr: float = Field(
        1.0, gt=0, le=1000, description="Learning rate of the selection over that of all else."
    )
    temperature: float = Field(
        0.2, gt=0, description="Of the softmax of the two scores; small ones select harder."
    )
    legacy_argmax: bool = Field(
        default=False,
        description="Take the greater element of the two, as released; nothing learns to select.",
    )


class FeedbackRecipe(Strict):
    """RobustSeg, 2026 form: the teacher learns, too, from labels and from its student.

    RECONSTRUCTED: CE + IFV on the sensors that are not dominant to the teacher, with the student as
    target; the rows of those that are, and the fusion, pass no gradient on (arXiv 2505.12861).
    """

    lr: float = Field(
        0.1, gt=0, le=1000, description="Learning rate of the teacher over that of all else."
    )
    weight: float | None = Field(
        None, ge=0, description="Factor of IFV in the teacher's loss; null: as in `distill.ifv`."
    )
    equal_start: bool = Field(
        default=True,
        description="Both begin with the weights of `teacher`, or where none is given as "
        "`network.init` says; false: the student alone as that says.",
    )
    freeze_dominant: bool = Field(
        default=True, description="Dominant sensors and the fusion teach the teacher nothing."
    )


class LossRecipe(Strict):
    """Cross-entropy with online hard example mining, and what may come beside it."""

    ohem_threshold: float = Field(
        0.7, gt=0, le=1, description="Pixels whose true class is less probable are kept,"
    )
    ohem_share: float = Field(
        1 / 16, ge=0, le=1, description="and at least this share of the valid ones."
    )
    at: Literal["full", "head"] = Field(
        "full",
        description="Judge at the label's size, or as the head says it: cheaper, of each block of "
        "the label a pixel by turns.",
    )
    lovasz: float = Field(
        0.0,
        ge=0,
        description="Factor of the Lovasz-softmax loss beside it (arXiv 1705.08790), which small "
        "classes count in as much as large ones.",
    )
    lovasz_pixels: int = Field(
        65_536, gt=0, description="Pixels of a batch, evenly spread, that it looks at, at most."
    )


class ValidationRecipe(Strict):
    """When the weights are judged, and by what."""

    every: int = Field(0, ge=0, description="Steps between validations; 0: once per epoch.")
    rule: Literal["full", "four", "mean"] = Field(
        "four",
        description="Best by mIoU of all sensors, by the mean of four subsets (first alone, first "
        "two, last two, all), as published, or by the mean over all subsets. The first two cost "
        "four subsets, the last costs all.",
    )
    samples: int = Field(0, ge=0, description="Evenly spread over the split; 0: all.")
    batch: int = Field(8, gt=0, le=65_536, description="Samples at once, in each process.")
    calibrate: int = Field(
        200,
        ge=0,
        description="Samples of the split, evenly spread, that the confidence of the best weights "
        "is calibrated on at the end; 0: it is not.",
    )


class Recipe(Strict):
    """Everything that a run depends on."""

    system: str = Field("", description="Name of the method, for tables.")
    data: DataRecipe = Field(default_factory=DataRecipe)
    network: NetworkRecipe = Field(default_factory=NetworkRecipe)
    optim: OptimRecipe = Field(default_factory=OptimRecipe)
    student: StudentRecipe = Field(default_factory=StudentRecipe)
    loss: LossRecipe = Field(default_factory=LossRecipe)
    distill: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="distiller -> its options; empty: labels alone teach."
    )
    teacher: str = Field("", description="Checkpoint of the teacher, where anything is distilled.")
    select: SelectRecipe | None = Field(
        None, description="Learn from a selection of teacher and robust model; null: no."
    )
    feedback: FeedbackRecipe | None = Field(
        None, description="The teacher learns from the student, too; null: it is frozen."
    )
    stages: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="name -> what it lays over the rest of the recipe: trained one after the "
        "other, each in a folder of its name; `stage:NAME` is an earlier one's checkpoint.",
    )
    augment: AugmentConfig | None = Field(
        default_factory=AugmentConfig, description="How samples are varied; null: not at all."
    )
    corrupt: CorruptConfig = Field(default_factory=CorruptConfig)
    validate_: ValidationRecipe = Field(default_factory=ValidationRecipe, alias="validate")
    seed: int = Field(
        3407, ge=0, lt=1 << 63, description="Of weights, order, subsets and augmentation."
    )
    log_every: int = Field(10, gt=0, description="Steps between rows of the log.")
    save_every: int = Field(200, gt=0, description="Steps between states that can be resumed.")

    @model_validator(mode="after")
    def _fits_together(self) -> Recipe:
        for name, options in self.distill.items():
            with within("distill", name):
                parse(distill.load(name).Options, options, where=f"distill.{name}")
            if options.get("full_weight") and not self.student.with_full:
                raise Misfit(
                    f"distill.{name}.full_weight is {options['full_weight']}, but nothing passes "
                    "with all sensors; set student.with_full=true",
                    ("distill", name, "full_weight"),
                )
            self._check_own_lesson(name, options)
        with within("network", "architecture"):
            architecture = architectures.load(self.network.architecture)
        parse(architecture.Options, self.network.options, where="network.options")
        with within("data", "kind"):
            kind = datasets.load(self.data.kind)
        parse(kind.Options, self.data.options, where="data.options")
        self._check_unseen()
        self._check_sides()
        if self.stages:
            self._check_stages()
        else:
            self._check_teaching()
        return self

    def _check_unseen(self) -> None:
        faults = self.corrupt.faults
        for name in () if faults == "all" else faults:
            if name in held_out():
                raise Misfit(
                    f"corrupt.faults names {name!r}, which is held out of training "
                    f"(config/train/{HELD_OUT}.yaml); leave it out, or take it off that list",
                    ("corrupt", "faults"),
                )

    def _check_own_lesson(self, name: str, options: Mapping[str, Any]) -> None:
        if distill.load(name)(options).asks != "full":
            return
        if not self.student.with_full:
            raise Misfit(
                f"distill.{name} asks the student's own pass with all sensors, and there is none; "
                "set student.with_full=true",
                ("distill", name),
            )
        if options.get("full_weight"):
            raise Misfit(
                f"distill.{name} asks the student's own pass with all sensors, which its "
                "full_weight would compare with itself; leave full_weight out",
                ("distill", name, "full_weight"),
            )

    def _check_sides(self) -> None:
        for part, key, size in (
            ("augment", "crop", self.augment.crop if self.augment is not None else None),
            ("data", "size", self.data.size),
        ):
            if size is not None and min(size) > 0 and (up := network_size(*size)) != size:
                raise Misfit(
                    f"{part}.{key} is {size[0]}x{size[1]}, and a network takes sides that divide "
                    f"by 32; set {part}.{key}=[{up[0]},{up[1]}]",
                    (part, key),
                )

    def _check_teaching(self) -> None:
        set_ = [name for name in ("select", "feedback") if getattr(self, name) is not None]
        if len(set_) > 1:
            raise Misfit(
                "select and feedback are both set, but a teacher that is selected from is frozen; "
                "leave one out",
                ("feedback",),
            )
        if set_ and not self.distill:
            raise Misfit(
                f"{set_[0]} is set, but nothing is distilled, so the student would learn nothing "
                "from it; add distill.prediction, or leave it out",
                (set_[0],),
            )
        terms = [distill.load(name)(options) for name, options in self.distill.items()]
        if set_ and not any(term.asks == "teacher" for term in terms):
            raise Misfit(
                f"{set_[0]} is set, but distill has only {', '.join(self.distill)}, which asks no "
                f"teacher, so the student would learn nothing from it; add distill.prediction, or "
                f"leave {set_[0]} out",
                (set_[0],),
            )
        if self.select is not None and (term := next((t for t in terms if t.of_sensors), None)):
            raise Misfit(
                f"select and distill.{term.of_sensors} do not go together: the one compares a "
                "student as a whole and the other its single sensors, so nothing would be learned "
                "from the other; leave one of them out",
                ("distill", term.name),
            )

    def _check_stages(self) -> None:
        earlier: list[str] = []
        for name, stage in self.in_stages().items():
            if not re.fullmatch("[a-z][a-z0-9_]*", name):
                raise Misfit(
                    f"stages has {name!r}, which names a folder; use small letters, digits and _",
                    ("stages", name),
                )
            if stage.stages:
                raise Misfit(
                    f"stages.{name} has stages itself; write them all in one row", ("stages", name)
                )
            for key, path in stage.weights().items():
                asked = path.removeprefix(STAGE)
                if asked != path and asked not in earlier:
                    raise Misfit(
                        f"stages.{name}.{key} is {path!r}, which is no earlier stage; "
                        f"have {earlier}, or give a file",
                        ("stages", name, *key.split(".")),
                    )
            earlier.append(name)

    def in_stages(self) -> dict[str, Recipe]:
        """name -> the recipe of each stage, in their order; empty if there are none.

        Raises:
            RobustsegError: a stage that no recipe can be.
        """
        rest = self.model_dump(by_alias=True, exclude_unset=True, exclude={"stages"})
        found = {}
        for name, changes in self.stages.items():
            above = ("stages", name)
            try:
                tree = config.lay_over(rest, changes)
                found[name] = parse(Recipe, tree, where=".".join(above))
            except Misfit as error:
                if error.path[:2] == above:
                    raise
                text = f"in stage {name!r}: {error.text}"
                raise Misfit(text, (*above, *error.path)) from None
        return found

    @property
    def needs_embeddings(self) -> bool:
        """Whether anything that is distilled, in whatever stage, uses `data.embeddings`."""
        if self.stages:
            return any(stage.needs_embeddings for stage in self.in_stages().values())
        return any(distill.load(name).needs_embeddings for name in self.distill)

    def weights(self) -> dict[str, str]:
        """key -> the weights that it names, of those keys that name any."""
        named = {"teacher": self.teacher, "network.init": self.network.init}
        if self.select is not None:
            named["select.robust"] = self.select.robust
        return {key: path for key, path in named.items() if path}


def load_recipe(names: Sequence[str], words: Iterable[str] = ()) -> Recipe:
    """A recipe from YAML files, the later ones over the earlier, and `key=value` words over all.

    Args:
        names: paths, or names of files in `config/train/`.
        words: as in `config.override`.

    Raises:
        RobustsegError: no such recipe, no YAML, an unknown key or a bad value; the text begins
            with the file and the line of what is wrong in one.
    """
    tree = config.Tree()
    for name in names:
        tree = config.lay_over(tree, config.read_file(find_recipe(name)))
    words = list(words)
    recipe = parse(Recipe, config.override(tree, words))
    _expect_heard(recipe, words)
    return recipe


def _expect_heard(recipe: Recipe, words: Iterable[str]) -> None:
    """Nothing, if each of these words changes something.

    Raises:
        RobustsegError: every stage says otherwise than one of them, or nobody asks for what it
            names.
    """
    for word in words:
        key = word.partition("=")[0]
        if key == "data.embeddings" and not recipe.needs_embeddings:
            asking = " or ".join(name for name in systems() if load_recipe([name]).needs_embeddings)
            raise RobustsegError(
                f"{word!r} changes nothing, because nothing that recipe {recipe.system!r} distills "
                f"uses embeddings; leave it out, or train {asking}"
            )
        if recipe.stages and all(_settles(changes, key) for changes in recipe.stages.values()):
            each = " and ".join(f"stages.{name}.{key}" for name in recipe.stages)
            raise RobustsegError(
                f"{word!r} changes nothing, because every stage sets {key} itself; set {each}"
            )


def _settles(changes: Mapping[str, Any], key: str) -> bool:
    """Whether `changes` have a value of their own for a dotted key."""
    branch: Any = changes
    for part in key.split("."):
        branch = branch.get(part) if isinstance(branch, Mapping) else branch
    return branch is not None and not isinstance(branch, Mapping)


def systems() -> list[str]:
    """Of these, the recipes that say how is learned; the others say on what."""
    known = known_recipes()
    return sorted(name for name in known if "system" in config.read_file(known[name]))
