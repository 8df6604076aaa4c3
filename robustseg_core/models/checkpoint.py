"""A checkpoint is one safetensors file that needs no configuration beside it, and runs no code.

The weights are the tensors; the metadata holds the format version, the form of the head and the
`ModelSpec` as JSON. Loading is strict: a tensor too many, too few, of another shape or with a value
that is not finite is an error, and nothing is allocated that the file does not hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from robustseg_core.config import parse
from robustseg_core.errors import RobustsegError
from robustseg_core.modalities import channels_of, usable
from robustseg_core.modalities import load as load_modality
from robustseg_core.models import architectures
from robustseg_core.models.calibration import unpromised
from robustseg_core.models.classes import CITYSCAPES
from robustseg_core.models.files import expect_checkpoint
from robustseg_core.models.network import Network
from robustseg_core.storage import tensor_file
from robustseg_core.types import CHANNELS, ModelSpec

FORMAT = "robustseg/1"

EXPORTED = ".rseg"
"""Ending of what `robustseg export` makes of a checkpoint."""

SHIPPED = Path(__file__).resolve().parent.parent / "weights" / "street.safetensors"
"""The student that comes with the package; how it was made is in the .json beside it."""

_LONGEST_SPEC = 1 << 20
"""Characters of a spec as JSON."""
_HALF = torch.finfo(torch.float16).max

_SHAPING = (
    "modalities",
    "architecture",
    "options",
    "backbone",
    "fusion",
    "head_width",
    "stem",
    "norm",
    "channels",
)
"""Fields of the spec that a network is built from; the others may change after training."""


def save(
    path: Path | str,
    model: Network,
    spec: ModelSpec | None = None,
    *,
    half: bool = False,
) -> None:
    """Write `model` to `path`, which is replaced in one piece or not at all.

    Args:
        path: ends in .safetensors by convention.
        model: in either form of its head.
        spec: what to store instead of `model.spec`, e.g. with another provenance.
        half: store floats as float16, which halves the file; `load` gives float32 back. A tensor
            with a value beyond float16 stays as it is.

    Raises:
        RobustsegError: the spec belongs to another network, a weight is not finite, or the file
            cannot be written.
    """
    spec = model.spec if spec is None else spec
    for field in _SHAPING:
        if getattr(spec, field) != getattr(model.spec, field):
            raise RobustsegError(
                f"spec says {field} {getattr(spec, field)!r}, but the network was built with "
                f"{getattr(model.spec, field)!r}; save it with its own spec"
            )
    expect_classes(spec, model.spec.classes, source="spec", expected="the network")
    metadata = {"format": FORMAT, "head": model.head_form, "spec": spec.model_dump_json()}
    if len(metadata["spec"]) > _LONGEST_SPEC:
        raise RobustsegError(
            f"the spec has {len(metadata['spec'])} characters as JSON, and a checkpoint holds at "
            f"most {_LONGEST_SPEC}; calibrate for fewer alphas"
        )
    tensors = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    path = Path(path)
    expect_finite(tensors, source="the network", way_out=f"{path} is left as it was; train again")
    if half:
        tensors = {k: _halved(v) if v.is_floating_point() else v for k, v in tensors.items()}
    tensor_file.save(path, lambda file: save_file(tensors, file, metadata=metadata))


def load(
    path: Path | str,
    *,
    device: torch.device | str = "cpu",
    classes: Sequence[str] | None = None,
    size: tuple[int, int] | None = None,
) -> Network:
    """The network in `path`, in eval mode, float32 whatever the file holds, with its `.spec`.

    Args:
        path: a file that `save` wrote.
        device: where the weights go.
        classes: if given, the class names that it must have.
        size: (H, W) of its input, if not that of the file: as `resized`.

    Raises:
        RobustsegError: no such file, not safetensors or cut short, not from robustseg, another
            version, a spec that no network can have, tensors that do not fit it or are not finite,
            other classes than expected, or a size that no network takes.
    """
    path = Path(path)
    spec, head, tensors = _read(path, classes)
    model = untrained(resized(spec, size), head=head)
    for name, like in model.state_dict().items():
        if tensors[name].dtype != like.dtype:
            raise RobustsegError(
                f"{path} has {name} of {_kind(tensors[name])}, its network needs {_kind(like)}; "
                f"{_AGAIN}"
            )
    expect_finite(tensors, source=str(path), way_out=_AGAIN)
    model.load_state_dict(tensors)
    return model.to(device)


def resized(spec: ModelSpec, size: tuple[int, int] | None) -> ModelSpec:
    """The spec of the same network at (H, W), or as it is where that is its size, or None.

    What its calibration promises (`alpha`) and how the pictures look that it knows were measured at
    its own size, and go; its temperatures stay.

    Raises:
        RobustsegError: a size that no network takes.
    """
    if size is None or tuple(size) == spec.size:
        return spec
    fields: dict[str, Any] = spec.model_dump() | {"size": size, "references": {}}
    if spec.calibration is not None:
        fields["calibration"] = unpromised(spec.calibration).model_dump()
    return parse(ModelSpec, fields, where="the network's input")


def spec_of(path: Path | str) -> ModelSpec:
    """The spec in `path`, without its weights.

    Raises:
        RobustsegError: as `load`, of what comes before the weights.
    """
    path = Path(path)
    expect_checkpoint(path)
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return _spec(path, file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from None


def is_half(path: Path | str) -> bool:
    """Whether floats are float16 in a checkpoint that `load` reads, as `save` can store them."""
    with safe_open(path, framework="pt", device="cpu") as file:
        names = list(file.keys())
        return any(file.get_slice(name).get_dtype() == "F16" for name in names)


def expect_finite(tensors: Mapping[str, Tensor], *, source: str, way_out: str) -> None:
    """Nothing, if all values of a network are finite, and its variances not negative.

    Args:
        tensors: name -> weights or buffers, as `state_dict` names them.
        source: what has them: the beginning of the sentence.
        way_out: its end.

    Raises:
        RobustsegError: names the first tensor that is otherwise, and how much of it is.
    """
    for name, tensor in tensors.items():
        finite = torch.isfinite(tensor)
        if not finite.all():
            bad = tensor[~finite].flatten()
            raise RobustsegError(
                f"{source} has {name} with {len(bad)} of {tensor.numel()} values not finite (the "
                f"first is {bad[0].item()}); {way_out}"
            )
        if name.endswith("running_var") and tensor.numel() and tensor.min() < 0:
            raise RobustsegError(
                f"{source} has {name} with {tensor.min().item():g} in it, and a variance is never "
                f"negative; {way_out}"
            )


def expect_classes(
    spec: ModelSpec,
    classes: Sequence[str],
    *,
    source: str = "checkpoint",
    expected: str = "the data",
) -> None:
    """Nothing, if `spec` has exactly these classes in this order.

    Raises:
        RobustsegError: says how many each has, and the first that differs.
    """
    have, want = tuple(spec.classes), tuple(classes)
    if have == want:
        return
    both = zip(have, want, strict=False)
    at = next((i for i, (a, b) in enumerate(both) if a != b), min(len(have), len(want)))
    raise RobustsegError(
        f"{source} has {len(have)} classes ({_few(have)}) but {expected} {len(want)} "
        f"({_few(want)}); they first differ at id {at} ({_at(have, at)}, {_at(want, at)}); "
        "use weights and labels of the same class list"
    )


def default_spec(modalities: Sequence[str] | None = None, **fields: object) -> ModelSpec:
    """The plumbing network: `tiny`, Cityscapes' classes, each modality's default encoding.

    One stem serves all sensors, unless their channels differ in number.

    Args:
        modalities: columns of `alive`; None: all that there are, by rank.
        fields: any other field of `ModelSpec`, to differ from that.

    Raises:
        RobustsegError: no such modality, or a field that does not fit.
    """
    names = tuple(usable()) if modalities is None else tuple(modalities)
    usual = {name: load_modality(name).Encoding().model_dump(mode="json") for name in names}
    told = fields.get("encodings")
    encodings = {**usual, **(told if isinstance(told, Mapping) else {})}  # else refused below
    channels = channel_numbers(names, encodings)
    mixed = len({channels.get(name, CHANNELS) for name in names}) > 1
    values = {
        "modalities": names,
        "classes": CITYSCAPES.names,
        "palette": CITYSCAPES.palette,
        "backbone": "tiny",
        "head_width": 64,
        "size": (192, 256),  # live on two cores, beside everything else
        "stem": "per_modality" if mixed else "shared",
        "encodings": usual,
        "channels": channels,
    }
    return make_spec(values | fields, source="spec of a network")


def channel_numbers(
    modalities: Iterable[str], encodings: Mapping[str, Mapping[str, Any]]
) -> dict[str, int]:
    """`ModelSpec.channels` of images that are encoded so."""
    found = {name: channels_of(name, encodings.get(name, {})) for name in modalities}
    return {name: count for name, count in found.items() if count != CHANNELS}


def make_spec(values: Mapping[str, Any], *, source: str) -> ModelSpec:
    """A spec of these fields.

    Raises:
        RobustsegError: one that does not fit; the text begins with `source`.
    """
    try:
        return ModelSpec.model_validate(values)
    except RobustsegError as error:
        raise RobustsegError(f"{source}: {error}") from None


def untrained(
    spec: ModelSpec, *, seed: int = 0, head: str = "published", **dropouts: float
) -> Network:
    """A network with random weights, the same ones for the same seed; eval mode.

    The global random state is left as it was. `dropouts` are as `Network` takes them.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return architectures.load(spec.architecture)(spec, head=head, **dropouts).eval()


def _read(path: Path, classes: Sequence[str] | None) -> tuple[ModelSpec, str, dict[str, Tensor]]:
    """Spec, form of the head, and the tensors that belong to them, with floats as float32."""
    expect_checkpoint(path)
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            spec = _spec(path, metadata)
            if classes is not None:
                expect_classes(spec, classes, source=f"checkpoint {path}")
            shapes = {k: tuple(file.get_slice(k).get_shape()) for k in file.keys()}  # noqa: SIM118
            _expect_shapes(path, spec, metadata["head"], shapes)
            tensors = {name: file.get_tensor(name) for name in shapes}
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from None
    floats = {k: v.float() for k, v in tensors.items() if v.is_floating_point()}
    return spec, metadata["head"], tensors | floats


def _unreadable(path: Path, error: Exception) -> RobustsegError:
    """The sentence about a file that is no safetensors."""
    if path.suffix == EXPORTED:
        return RobustsegError(
            f"{path} is a network exported for an engine, for robots; give the checkpoint "
            "(.safetensors) that it was made of"
        )
    if path.suffix in (".pth", ".pt", ".bin", ".ckpt") or _is_pytorch(path):
        return RobustsegError(
            f"{path} is no checkpoint of robustseg; official weights of PyTorch are imported with "
            f"{_importing(path)}"
        )
    return RobustsegError(
        f"{path} is not a safetensors file, or is cut short ({error}); copy it again"
    )


def _is_pytorch(path: Path) -> bool:
    """Whether it begins as `torch.save` does: a zip archive, or a pickle of old."""
    try:
        with path.open("rb") as file:
            return file.read(4).startswith((b"PK\x03\x04", b"\x80"))
    except OSError:
        return False


def _importing(path: Path) -> str:
    """The command that makes a checkpoint of official weights."""
    stem = f"{path.stem}_imported" if path.suffix == ".safetensors" else path.stem
    return (
        f"`robustseg import {path} --as SYSTEM --kind DATASET --out {stem}.safetensors` "
        "(`robustseg import --help` names the systems)"
    )


def _spec(path: Path, metadata: dict[str, str]) -> ModelSpec:
    if not {"format", "head", "spec"} <= set(metadata):
        raise RobustsegError(
            f"{path} has no robustseg metadata, so it is no checkpoint of this package; import "
            f"official weights with {_importing(path)}"
        )
    if metadata["format"] != FORMAT:
        raise RobustsegError(
            f"{path} is of format {metadata['format']!r}; this version reads {FORMAT!r}; "
            "install the version of robustseg that wrote it, or train again"
        )
    if len(metadata["spec"]) > _LONGEST_SPEC:
        raise RobustsegError(
            f"{path} has a spec of {len(metadata['spec'])} characters; expected at most "
            f"{_LONGEST_SPEC}; {_AGAIN}"
        )
    try:
        return ModelSpec.model_validate_json(metadata["spec"])
    except RobustsegError as error:
        raise RobustsegError(
            f"{path} has a spec that this version cannot read: {error}; "
            "install the version of robustseg that wrote it"
        ) from None


def _expect_shapes(
    path: Path, spec: ModelSpec, head: str, have: Mapping[str, tuple[int, ...]]
) -> None:
    """Nothing, if the tensors of a file are those of its network, of which none is allocated."""
    with torch.device("meta"):
        model = architectures.load(spec.architecture)(spec, head=head)
    want = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    problems = [f"lacks {name}" for name in want if name not in have]
    problems += [f"has {name}, which its spec does not" for name in have if name not in want]
    problems += [
        f"has {name} of {have[name]} where its spec says {shape}"
        for name, shape in want.items()
        if name in have and have[name] != shape
    ]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise RobustsegError(f"{path} does not fit its own spec: it {problems[0]}{more}; {_AGAIN}")


_AGAIN = "the file was edited or damaged; take it again from where it was made"


def _halved(tensor: Tensor) -> Tensor:
    """float16, if that holds all values."""
    return tensor.half() if tensor.numel() == 0 or tensor.abs().max() <= _HALF else tensor


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _few(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{names[0]}, {names[1]}, ..., {names[-1]}"


def _at(names: Sequence[str], index: int) -> str:
    return repr(names[index]) if index < len(names) else "none"
