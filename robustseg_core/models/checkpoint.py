"""A checkpoint is one safetensors file that needs no configuration beside it, and runs no code.

The weights are the tensors; the metadata holds the format version, the form of the head and the
`ModelSpec` as JSON. Loading is strict: a tensor too many, too few or of another shape is an error.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from robustseg_core.classes import CITYSCAPES
from robustseg_core.errors import RobustsegError
from robustseg_core.models.anymodal import AnyModalSegmenter
from robustseg_core.types import ModelSpec

FORMAT = "robustseg/1"

SHIPPED = Path(__file__).resolve().parent.parent / "weights" / "street.safetensors"
"""The student that comes with the package; how it was made is in the .json beside it."""

_SHAPING = ("modalities", "backbone", "fusion", "head_width", "stem", "norm")
"""Fields of the spec that a network is built from; the others may change after training."""


def save(
    path: Path | str,
    model: AnyModalSegmenter,
    spec: ModelSpec | None = None,
    *,
    half: bool = False,
) -> None:
    """Write `model` to `path`, which is replaced in one piece or not at all.

    Args:
        path: ends in .safetensors by convention.
        model: in either form of its head.
        spec: what to store instead of `model.spec`, e.g. with another provenance.
        half: store floats as float16, which halves the file; `load` gives float32 back.

    Raises:
        RobustsegError: the spec belongs to another network, or the file cannot be written.
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
    tensors = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    if half:
        tensors = {k: v.half() if v.is_floating_point() else v for k, v in tensors.items()}
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        save_file(tensors, unfinished, metadata=metadata)
        unfinished.chmod(0o644)  # safetensors lets nobody else read it
        unfinished.replace(path)
    except (OSError, SafetensorError) as error:
        unfinished.unlink(missing_ok=True)
        raise RobustsegError(f"cannot write {path}: {error}; choose a writable folder") from None


def load(
    path: Path | str, *, device: torch.device | str = "cpu", classes: Sequence[str] | None = None
) -> AnyModalSegmenter:
    """The network in `path`, in eval mode, float32 whatever the file holds, with its `.spec`.

    Args:
        path: a file that `save` wrote.
        device: where the weights go.
        classes: if given, the class names that it must have.

    Raises:
        RobustsegError: no such file, not safetensors or cut short, not from robustseg, another
            version, tensors that do not fit its spec, or other classes than expected.
    """
    metadata, tensors = _read(Path(path))
    spec = _spec(path, metadata)
    if classes is not None:
        expect_classes(spec, classes, source=f"checkpoint {path}")
    model = untrained(spec, head=metadata["head"])
    _fit(path, model.state_dict(), tensors)
    model.load_state_dict(tensors)
    return model.to(device)


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


def default_spec(
    modalities: Sequence[str] = ("rgb", "depth", "event", "lidar"), **fields: object
) -> ModelSpec:
    """The plumbing network: `tiny`, Cityscapes' classes, each modality's default encoding.

    Args:
        modalities: columns of `alive`.
        fields: any other field of `ModelSpec`, to differ from that.

    Raises:
        RobustsegError: no such modality, or a field that does not fit.
    """
    from robustseg_core.modalities import load as load_modality  # plug-ins are looked up late

    values = {
        "modalities": tuple(modalities),
        "classes": CITYSCAPES.names,
        "palette": CITYSCAPES.palette,
        "backbone": "tiny",
        "head_width": 64,
        "size": (192, 256),  # live on two cores, beside everything else
        "encodings": {
            name: load_modality(name).Encoding().model_dump(mode="json") for name in modalities
        },
    }
    try:
        return ModelSpec.model_validate(values | fields)
    except ValidationError as error:
        raise RobustsegError(f"spec of a network: {_first(error)}") from None


def untrained(
    spec: ModelSpec, *, seed: int = 0, head: str = "published", **dropouts: float
) -> AnyModalSegmenter:
    """A network with random weights, the same ones for the same seed; eval mode.

    The global random state is left as it was. `dropouts` are as `AnyModalSegmenter` takes them.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AnyModalSegmenter(spec, head=head, **dropouts).eval()


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata, and tensors on the CPU with floats as float32."""
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise RobustsegError(
            f"{path} {what}; give a checkpoint (.safetensors) of `robustseg train`"
        )
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise RobustsegError(
            f"{path} is not a safetensors file, or is cut short ({error}); copy it again, and "
            "import public .pth weights with `robustseg_core.models.weights.import_weights`"
        ) from None
    return metadata, {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}


def _spec(path: Path | str, metadata: dict[str, str]) -> ModelSpec:
    if not {"format", "head", "spec"} <= set(metadata):
        raise RobustsegError(
            f"{path} has no robustseg metadata, so it is no checkpoint of this package; import "
            "public MiT or SegFormer weights with `robustseg_core.models.weights.import_weights`"
        )
    if metadata["format"] != FORMAT:
        raise RobustsegError(
            f"{path} is of format {metadata['format']!r}; this version reads {FORMAT!r}; "
            "install the version of robustseg that wrote it, or train again"
        )
    try:
        return ModelSpec.model_validate_json(metadata["spec"])
    except ValidationError as error:
        raise RobustsegError(
            f"{path} has a spec that this version cannot read: {_first(error)}; "
            "install the version of robustseg that wrote it"
        ) from None


def _fit(path: Path | str, model: dict[str, Tensor], file: dict[str, Tensor]) -> None:
    problems = [f"lacks {name}" for name in model if name not in file]
    problems += [f"has {name}, which its spec does not" for name in file if name not in model]
    problems += [
        f"has {name} of {tuple(file[name].shape)} where its spec says {tuple(model[name].shape)}"
        for name in model
        if name in file and file[name].shape != model[name].shape
    ]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise RobustsegError(
            f"{path} does not fit its own spec: it {problems[0]}{more}; "
            "the file was edited or damaged; take it again from where it was made"
        )


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    text = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        text = "unknown field"
    return f"{where}: {text}" if where else text


def _few(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{names[0]}, {names[1]}, ..., {names[-1]}"


def _at(names: Sequence[str], index: int) -> str:
    return repr(names[index]) if index < len(names) else "none"
