"""One rule for everything that is read into a model: it fits, or one sentence says why not.

Configuration, checkpoints, indexes and results come from outside. Pydantic's own error is a page
of text and a traceback to whoever forgets to catch it, so no model here ever raises it.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from robustseg_core.errors import RobustsegError, did_you_mean
from robustseg_core.text import visible

if TYPE_CHECKING:
    from typing_extensions import Self

SHORT = reprlib.Repr()
"""Shows values in error texts."""
SHORT.maxstring = SHORT.maxother = 100


_WORDS = re.compile(r"\^\((\w+(?:\|\w+)*)\)\$")
"""The pattern of a field that is one of some words."""


class Misfit(RobustsegError):
    """A value that its model does not take.

    Args:
        text: the sentence.
        path: the value's keys, from the outermost mapping that whoever raises this knows of.
        place: where the value was written, e.g. `robot.yaml:3`; put before the sentence.
    """

    def __init__(self, text: str, path: tuple[str, ...] = (), place: str = "") -> None:
        super().__init__(f"{place}: {text}" if place else text)
        self.text, self.path, self.place = text, path, place


class Strict(BaseModel):
    """Base of every model: frozen, deaf to no typo, and without infinite numbers.

    However one is made, what does not fit is a `Misfit`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, /, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise misfit(type(self), error) from None

    # As pydantic marks its own: models within models are made without it, so that the outermost
    # one knows the whole path of what does not fit.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @classmethod
    def model_validate(cls, obj: Any, **how: Any) -> Self:
        """Pydantic's; what does not fit is a `Misfit`."""
        try:
            return super().model_validate(obj, **how)
        except ValidationError as error:
            raise misfit(cls, error) from None

    @classmethod
    def model_validate_json(cls, json_data: str | bytes | bytearray, **how: Any) -> Self:
        """Pydantic's; what does not fit is a `Misfit`."""
        try:
            return super().model_validate_json(json_data, **how)
        except ValidationError as error:
            raise misfit(cls, error) from None


@contextmanager
def within(*path: str) -> Iterator[None]:
    """For validators: what goes wrong in here is wrong with the value at `path`."""
    try:
        yield
    except Misfit:
        raise
    except RobustsegError as error:
        raise Misfit(str(error), path) from None


def misfit(model: type[Strict], error: ValidationError, above: tuple[str, ...] = ()) -> Misfit:
    """The first thing that pydantic found; keys begin with `above`."""
    found = error.errors()
    # A misspelt key is also a missing one: what was written says more than what was not
    first = next((e for e in found if e["type"] == "extra_forbidden"), found[0])
    path = tuple(str(part) for part in first["loc"])
    dotted = visible(".".join((*above, *path)))
    text = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        said = f"unknown key '{dotted}'; {did_you_mean(path[-1], _keys_at(model, path[:-1]))}"
    elif first["type"] == "missing":
        said = f"{dotted} is missing"
    elif first["type"] == "value_error":
        said = f"{dotted}: {text}" if dotted else text
    elif words := _WORDS.fullmatch(first.get("ctx", {}).get("pattern", "")):
        value, choice = first["input"], words[1].split("|")
        said = f"{dotted} is {SHORT.repr(value)}; {did_you_mean(value, choice)}"
    else:
        value = SHORT.repr(first["input"])
        text = f"{text[0].lower()}{text[1:]}"
        said = f"{dotted} is {value}: {text}" if dotted else f"{value}: {text}"
    return Misfit(said, (*above, *path))


def _keys_at(model: type[BaseModel], path: tuple[str, ...]) -> list[str]:
    """Keys, as they are written, of the group that `path` leads to, below `model`."""
    for name in path:
        field = _fields(model).get(name)
        if field is None:  # a key of a mapping, as in streams.<modality>
            continue
        kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
        groups = [k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)]
        if groups:
            model = groups[0]
    return list(_fields(model))


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """key -> field: a field that has an alias is written by it alone."""
    return {field.alias or name: field for name, field in model.model_fields.items()}
