"""Public MiT and SegFormer weights to ours: the namings, one table, nothing left over in silence.

The file comes from the user and is never executed: safetensors, or PyTorch's format read with
`weights_only`. Each tensor is used, or known to be of no use here, or an error; and the network is
changed only when everything fits.
"""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from robustseg_core.errors import RobustsegError, did_you_mean
from robustseg_core.models import checkpoint, hub, layouts
from robustseg_core.models.checkpoint import FORMAT, expect_finite
from robustseg_core.models.head import AllMLPHead, FoldedHead
from robustseg_core.models.mit import BACKBONES, MiT
from robustseg_core.models.network import Network
from robustseg_core.storage.budget import check_zip
from robustseg_core.storage.digest import sha256
from robustseg_core.text import visible
from robustseg_core.types import CHANNELS

NAMINGS = ("NVlabs", "transformers")
"""NVlabs: `mit_b0.pth`, what mmseg 0.x trains from it, and the any-modality systems' M-SegFormer,
whose head is called `decoder`. transformers: files on the hub."""

# {s} counts stages from 0, {S} from 1, {b} blocks from 0; names joined by + are stacked.
_BLOCK = ("stages.{s}.blocks.{b}.", "block{S}.{b}.", "block.{s}.{b}.")
_ENCODER = (
    # ours                      NVlabs                 transformers
    ("stages.{s}.embed.proj", "patch_embed{S}.proj", "patch_embeddings.{s}.proj"),
    ("stages.{s}.embed.norm", "patch_embed{S}.norm", "patch_embeddings.{s}.layer_norm"),
    ("stages.{s}.norm", "norm{S}", "layer_norm.{s}"),
)
_IN_BLOCK = (
    ("norm1", "norm1", "layer_norm_1"),
    ("attention.query", "attn.q", "attention.self.query"),
    ("attention.key_value", "attn.kv", "attention.self.key+attention.self.value"),
    ("attention.reduce", "attn.sr", "attention.self.sr"),
    ("attention.reduce_norm", "attn.norm", "attention.self.layer_norm"),
    ("attention.output", "attn.proj", "attention.output.dense"),
    ("norm2", "norm2", "layer_norm_2"),
    ("mlp.expand", "mlp.fc1", "mlp.dense1"),
    ("mlp.depthwise", "mlp.dwconv.dwconv", "mlp.dwconv.dwconv"),
    ("mlp.contract", "mlp.fc2", "mlp.dense2"),
)
_HEAD = (
    ("linears.{s}", "decode_head.linear_c{S}.proj", "decode_head.linear_c.{s}.proj"),
    ("fuse", "decode_head.linear_fuse.conv", "decode_head.linear_fuse"),
    ("norm", "decode_head.linear_fuse.bn", "decode_head.batch_norm"),
    ("classifier", "decode_head.linear_pred", "decode_head.classifier"),
)
_PREFIXES = ("module.", "model.", "segformer.", "backbone.", "encoder.")
_HEAD_PREFIX = "decode_head."
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_NO_USE = re.compile(
    r"^(head|classifier)\."  # ImageNet's 1000 classes; AnySeg's stage-4 classifier, never called
    r"|^decode_head\.conv_seg\.|^auxiliary_head\."  # mmseg's base class; training only
    r"|\.num_batches_tracked$"  # only counts
)


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What became of a file's tensors."""

    layout: str
    """One of `NAMINGS`."""
    used: tuple[str, ...]
    unused: tuple[str, ...]
    """Names, as in the file, of tensors that are known to be of no use here."""
    head: str
    """"imported", or why not."""

    def __str__(self) -> str:
        return (
            f"{self.layout} weights: {len(self.used)} tensors used, {len(self.unused)} of no use "
            f"here; head: {self.head}"
        )


def import_weights(
    source: Path | str | PublicWeights, model: Network, *, head: str = "auto"
) -> ImportReport:
    """Fill `model` with public weights; stems and norms per modality all start from the public one.

    A stem for images of other than three channels stays as it was.

    Args:
        source: .safetensors, .pth or .pt, of MiT alone, with a SegFormer head, or of all of CMNeXt;
            `backbone.`, `decode_head.`, `encoder.`, `decoder.` before names and `state_dict` around
            them are understood. Or what was read of such a file.
        model: of the same backbone; a folded head receives the folded public one. Of what has more
            than MiT and head, the rest stays as it was where the file has nothing of it.
        head: "auto" imports a head of the model's width and classes and leaves any other;
            "need" insists on it, and on all the rest; "skip" never imports it.

    Raises:
        RobustsegError: unreadable file, unknown naming, another backbone, a tensor that is missing,
            misshapen, unknown or not finite; the model is then unchanged.
    """
    if head not in ("auto", "need", "skip"):
        raise RobustsegError(f"head is {head!r}; {did_you_mean(head, ('auto', 'need', 'skip'))}")
    file = source if isinstance(source, PublicWeights) else PublicWeights(Path(source))
    file.expect_backbone(model.spec.backbone)
    if model.trunk is None:
        raise RobustsegError(
            f"a network of architecture {model.spec.architecture!r} has no Mix Transformer that "
            f"{file.path} could fill; train it from random weights"
        )
    for ours, theirs in _rows(model.trunk, file.column):
        file.fill(model.trunk, ours, theirs)
    file.fill_beside(model, needed=head == "need")

    assert isinstance(model.head, AllMLPHead | FoldedHead)  # beside every Mix Transformer
    public = model.head if isinstance(model.head, AllMLPHead) else _unfolded(model.head)
    outcome = file.head_outcome(public) if head != "skip" else "left as it was, as asked"
    if outcome == "imported":
        for ours, theirs in _head_rows(public, file.column):
            file.fill(public, ours, theirs)
    elif head == "need":
        raise RobustsegError(
            f"{file.path}: head {outcome}; give such a file or import with head='auto'"
        )

    unused = file.leftovers(head_too=outcome != "imported")
    file.commit()
    if public is not model.head and outcome == "imported":
        model.head.load_state_dict(public.fold().state_dict())
    return ImportReport(NAMINGS[file.column - 1], tuple(sorted(file.used)), unused, outcome)


@dataclass(frozen=True, slots=True)
class Beginning:
    """The weights that a network began with."""

    name: str
    """As people know it: of a file, without its folder; or OWNER/NAME on the hub."""
    sha256: str
    """The first digits."""
    took: str
    """What was taken of it."""

    @property
    def source(self) -> str:
        """Where they are from."""
        return f"{self.name} (SHA-256 {self.sha256})"

    def __str__(self) -> str:
        return f"{self.source}: {self.took}"


def beginning(path: Path, took: str, *, name: str = "") -> Beginning:
    """What was taken of the file at `path`, which people know as `name`."""
    digest = sha256(path).hexdigest()[:16]
    return Beginning(visible(name or path.name), digest, took)


def initialize(name: str, model: Network) -> Beginning:
    """Begin `model` with the weights that a recipe names; says what they were.

    Args:
        name: a checkpoint of ours, a file of public weights, OWNER/NAME on the hub (`hub`), or a
            name that the architecture knows.
        model: changed only if all fits; a public head of other classes or width stays out.

    Raises:
        RobustsegError: they cannot be had, or do not fit.
    """
    if public := model.begin_public(name):
        return beginning(*public)
    path = hub.locate(name)
    if is_ours(path):
        took = begin_as(checkpoint.load(path), model, source=str(path))
    else:
        took = str(import_weights(path, model))
    return beginning(path, took, name="" if path == Path(name) else name)


def begin_as(ours: Network, model: Network, *, source: str) -> str:
    """Begin `model` with the weights of another network of ours; says what they were.

    Args:
        ours: the other network.
        model: changed only if all fits.
        source: what the other network is called.

    Raises:
        RobustsegError: it is of another form.
    """
    tensors = ours.state_dict()
    want = {key: value.shape for key, value in model.state_dict().items()}
    have = {key: value.shape for key, value in tensors.items()}
    if have != want:
        odd = next(key for key in [*want, *have] if have.get(key) != want.get(key))
        raise RobustsegError(
            f"{source} is of another network: its {odd} is {_size(have.get(odd))}, this one's "
            f"{_size(want.get(odd))}; take the recipe's network from it, or begin with other "
            "weights"
        )
    model.load_state_dict(tensors)
    return f"all {len(tensors)} tensors"


def _size(shape: torch.Size | None) -> str:
    return "missing" if shape is None else str(tuple(shape))


class PublicWeights:
    """A file's tensors under names without prefixes, and what has been taken from them.

    Raises:
        RobustsegError: unreadable file, a checkpoint of ours, an unknown naming.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tensors: dict[str, Tensor] = {}
        self.original: dict[str, str] = {}
        for name, tensor in _read(path).items():
            plain = _plain(name)
            if plain in self.tensors:
                raise RobustsegError(
                    f"{path} has both {self.original[plain]!r} and {name!r}, which mean the same; "
                    "keep the tensors of one network"
                )
            self.tensors[plain], self.original[plain] = tensor, name
        probes = ("patch_embed1.proj.weight", "patch_embeddings.0.proj.weight")
        columns = [i + 1 for i, probe in enumerate(probes) if probe in self.tensors]
        if len(columns) != 1:
            raise RobustsegError(
                f"{path} holds neither `patch_embed1.proj.weight` (NVlabs) nor "
                "`patch_embeddings.0.proj.weight` (transformers' save_pretrained): "
                f"{layouts.told(self.original.values())}"
            )
        self.column = columns[0]
        self.used: set[str] = set()
        self.staged: list[tuple[Tensor, Tensor]] = []

    @property
    def names(self) -> list[str]:
        """The tensors' names as in the file."""
        return list(self.original.values())

    def backbone(self) -> str:
        """The backbone that the encoder is of.

        Raises:
            RobustsegError: none of ours.
        """
        width, depths = self._measures()
        if known := _backbone_of(width, depths):
            return known
        raise RobustsegError(
            f"{self.path} has a first width of {width} and depths {depths}, as no backbone here; "
            f"have {sorted(BACKBONES)}"
        )

    def expect_backbone(self, name: str) -> None:
        """Nothing, if the encoder is of this backbone.

        Raises:
            RobustsegError: it is of another.
        """
        width, depths = self._measures()
        want = BACKBONES[name]
        if (width, depths) != (want.channels[0], want.depths):
            known = _backbone_of(width, depths)
            way_out = f"use backbone {known!r}" if known else f"have {sorted(BACKBONES)}"
            raise RobustsegError(
                f"{self.path} has a first width of {width} and depths {depths}, but backbone "
                f"{name!r} has {want.channels[0]} and {want.depths}; {way_out}"
            )

    def _measures(self) -> tuple[int, tuple[int, ...]]:
        """Channels of the first stage, and blocks of each."""
        blocks = re.compile((r"block(\d+)\.(\d+)\.", r"block\.(\d+)\.(\d+)\.")[self.column - 1])
        found = {m.groups() for key in self.tensors if (m := blocks.match(key))}
        stages = sorted({stage for stage, _ in found})
        depths = tuple(sum(stage == s for s, _ in found) for stage in stages)
        probe = self.tensors[_ENCODER[0][self.column].format(s=0, S=1) + ".weight"]
        return probe.shape[0] if probe.ndim else 0, depths

    def head_size(self) -> tuple[int, int]:
        """(classes, width) of the head.

        Raises:
            RobustsegError: the file has no head.
        """
        name = _HEAD[3][self.column] + ".weight"
        classifier = self.tensors.get(name)
        if classifier is None or classifier.ndim < 2:
            raise RobustsegError(
                f"{self.path} lacks {self._as_in_file(name)}; give a file with its head"
            )
        return int(classifier.shape[0]), int(classifier.shape[1])

    def others(self) -> int:
        """How many sensors beside the first CMNeXt's tensors are for."""
        norm = re.compile(r"extra_downsample_layers\.0\.norm\.ln_(\d+)\.weight")
        return sum(norm.fullmatch(name) is not None for name in self.tensors)

    def commit(self) -> None:
        """Fill the network with what `fill` staged."""
        with torch.no_grad():
            for target, value in self.staged:
                target.copy_(value)

    def fill(self, root: nn.Module, ours: str, theirs: str) -> None:
        """Stage the tensors of module `ours` (all copies of it) from those of `theirs`."""
        module = root.get_submodule(ours)
        copies = list(module) if isinstance(module, nn.ModuleList) else [module]
        # A stem for images of other channels has no public counterpart, and stays as it is.
        copies = [c for c in copies if getattr(c, "in_channels", CHANNELS) == CHANNELS] or copies
        for leaf in copies[0].state_dict():
            names = [f"{part}.{leaf}" for part in theirs.split("+")]
            self._stage(names, [copy.state_dict()[leaf] for copy in copies])

    def fill_beside(self, model: Network, *, needed: bool) -> None:
        """Stage what a network has beside trunk and head, if the file has any of it, or it must."""
        rows = model.public_rows()
        if needed or any(theirs in self.tensors for _, theirs in rows):
            state = model.state_dict()
            for ours, theirs in rows:
                self._stage([theirs], [state[ours]])

    def _stage(self, names: Sequence[str], targets: Sequence[Tensor]) -> None:
        """Stage one tensor, the file's `names` stacked, for all targets alike."""
        missing = [name for name in names if name not in self.tensors]
        if missing and missing[0].endswith("num_batches_tracked"):
            return
        if missing:
            raise RobustsegError(
                f"{self.path} lacks {self._as_in_file(missing[0])}; give a complete file"
            )
        parts = [self.tensors[name] for name in names]
        name, value, like = self.original[names[0]], parts[0], targets[0]
        if len(parts) > 1 and value.ndim and len({part.shape[1:] for part in parts}) == 1:
            value = torch.cat(parts)
        if value.shape != like.shape:
            raise RobustsegError(
                f"{self.path} has {name} of {tuple(value.shape)}; this "
                f"network needs {tuple(like.shape)}; build it with the sizes of the file"
            )
        whole = like.is_floating_point() and not value.is_floating_point()
        if value.layout != torch.strided or value.is_complex() or whole:
            raise RobustsegError(
                f"{self.path} has {name} of {value.layout} {value.dtype}; this network needs "
                f"{like.dtype}; save plain weights"
            )
        value = value.to(like.dtype)
        expect_finite({name: value}, source=str(self.path), way_out="take it again")
        self.used |= {self.original[name] for name in names}
        self.staged += [(target, value) for target in targets]

    def _as_in_file(self, missing: str) -> str:
        """What a tensor that is not there would be called, by the names of those most like it."""
        head = missing.startswith(_HEAD_PREFIX)
        kin = [plain for plain in self.original if plain.startswith(_HEAD_PREFIX) == head]
        if not kin:
            return missing
        plain = max(kin, key=lambda name: _shared(name, missing))
        end = _shared(plain[::-1], self.original[plain][::-1])
        return self.original[plain][:-end] + missing.removeprefix(plain[:-end])

    def head_outcome(self, head: AllMLPHead) -> str:
        """What becomes of a head of this size: "imported", or why the file's is not."""
        classifier = self.tensors.get(_HEAD[3][self.column] + ".weight")
        if classifier is None:
            return "left as it was: the file has none"
        theirs, ours = tuple(classifier.shape[:2]), tuple(head.classifier.weight.shape[:2])
        if len(theirs) == 2 and theirs != ours:
            return (
                f"left as it was: the file's has {theirs[0]} classes at width {theirs[1]}, "
                f"this network's {ours[0]} at {ours[1]}"
            )
        return "imported"

    def leftovers(self, *, head_too: bool) -> tuple[str, ...]:
        """Names of what nothing took: all known to be of no use, `head_too` those of the head.

        Raises:
            RobustsegError: one is of no known use.
        """
        left = {p: name for p, name in self.original.items() if name not in self.used}
        strange = [
            name
            for plain, name in left.items()
            if not _NO_USE.search(plain) and not (head_too and plain.startswith("decode_head."))
        ]
        if strange:
            raise RobustsegError(
                f"{self.path} has {len(strange)} tensors that nothing here takes, first "
                f"{strange[0]}; remove them if the network is the same without them"
            )
        return tuple(sorted(left.values()))


def _shared(one: str, other: str) -> int:
    """How many characters both begin with."""
    return next(
        (at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
        min(len(one), len(other)),
    )


def _backbone_of(width: int, depths: tuple[int, ...]) -> str:
    """The backbone whose first stage has so many channels; empty: there is none."""
    return next(
        (k for k, b in BACKBONES.items() if (b.channels[0], b.depths) == (width, depths)), ""
    )


def _plain(name: str) -> str:
    """`name` without what wraps the network; tensors of a head begin with `decode_head.`."""
    while prefix := next((p for p in _PREFIXES if name.startswith(p)), ""):
        name = name.removeprefix(prefix)
    if name.startswith("decoder."):  # M-SegFormer's head
        name = name.removeprefix("decoder.")
    return f"{_HEAD_PREFIX}{name}" if name.startswith("linear_") else name


def _rows(encoder: MiT, column: int) -> list[tuple[str, str]]:
    """Our module's name and theirs, for every module of the encoder that has weights."""
    there = dict(encoder.named_modules())
    rows = []
    for s, stage in enumerate(encoder.stages):
        for row in _ENCODER:
            rows.append((row[0].format(s=s, S=s + 1), row[column].format(s=s, S=s + 1)))
        for b in range(len(stage.blocks)):
            ours, theirs = (_BLOCK[i].format(s=s, S=s + 1, b=b) for i in (0, column))
            for row in _IN_BLOCK:
                parts = (theirs + part for part in row[column].split("+"))
                rows.append((ours + row[0], "+".join(parts)))
    return [row for row in rows if row[0] in there]


def _head_rows(head: AllMLPHead, column: int) -> list[tuple[str, str]]:
    linears, *others = _HEAD
    rows = [
        (linears[0].format(s=s), linears[column].format(s=s, S=s + 1))
        for s in range(len(head.linears))
    ]
    return rows + [(row[0], row[column]) for row in others]


def _unfolded(head: FoldedHead) -> AllMLPHead:
    """A published head of the same sizes."""
    channels = [project.in_channels for project in head.projects]
    width, classes = head.classifier.in_channels, head.classifier.out_channels
    return AllMLPHead(channels, width, classes, head.dropout.p).to(head.classifier.weight)


def is_ours(path: Path) -> bool:
    """Whether a file is a checkpoint of robustseg, of whatever version."""
    try:
        with safe_open(path, framework="pt") as file:
            form = (file.metadata() or {}).get("format", "")
    except (SafetensorError, OSError):
        return False
    return bool(form.startswith(FORMAT.partition("/")[0] + "/"))


def _is_safetensors(path: Path) -> bool:
    """Whether its content begins as safetensors does: a length, and an object of JSON."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise RobustsegError(f"{path} is not a file; give .safetensors, .pth or .pt weights")
    try:
        if path.suffix == ".safetensors" or _is_safetensors(path):
            if is_ours(path):
                raise RobustsegError(
                    f"{path} is a checkpoint of robustseg already; use it as it is "
                    "(`robustseg eval`, `run --weights`)"
                )
            return load_file(path)
        if zipfile.is_zipfile(path):
            check_zip(path)
        with warnings.catch_warnings():  # what PyTorch thinks of a pickle is no user's matter
            warnings.simplefilter("ignore")
            tree = torch.load(path, map_location="cpu", weights_only=True)
    except RobustsegError:
        raise
    except pickle.UnpicklingError:  # its own text advises to run the file's code
        raise RobustsegError(
            f"{path} holds more than tensors, or is cut short, or is no PyTorch file; code from a "
            "file is never run; copy it again, or have its state_dict alone saved as .safetensors "
            "where it was made"
        ) from None
    except Exception as error:  # a damaged pickle may raise anything at all
        raise RobustsegError(
            f"{path} cannot be read, or is cut short ({type(error).__name__}); copy it again"
        ) from None
    return _named_tensors(path, tree)


def _named_tensors(path: Path, tree: object) -> dict[str, Tensor]:
    """The tensors of a file, unwrapped.

    Raises:
        RobustsegError: something else is among them.
    """
    while isinstance(tree, Mapping) and (key := next((k for k in _WRAPPERS if k in tree), "")):
        tree = tree[key]
    wrong = "no mapping" if not isinstance(tree, Mapping) else ""
    tensors: dict[str, Tensor] = {}
    for name, value in tree.items() if isinstance(tree, Mapping) else ():
        if isinstance(name, str) and isinstance(value, Tensor):
            tensors[name] = value
        else:
            wrong = f"{name!r}, a {type(value).__name__},"
    if wrong:
        raise RobustsegError(f"{path} holds {wrong} where names and tensors should be; save those")
    return tensors
