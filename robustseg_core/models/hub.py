"""Where public weights lie: a file, or a repository on the Hugging Face hub."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from robustseg_core.errors import RobustsegError, not_installed

FILES = ("model.safetensors", "pytorch_model.bin")
"""What a repository's weights are called, the first that there is."""
SETTINGS = ("config.json", "preprocessor_config.json")
"""What says of which network they are, and of which pictures."""
PATIENCE_S = 4.0
"""How long the hub may take to say whether it has a file."""
_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?")
_ENDING = re.compile(r"\.[A-Za-z]+(@.*)?")
"""Of a file, rightly spelt or not; versions of repositories have digits in them."""


def locate(name: Path | str) -> Path:
    """The file that is meant: a path, or OWNER/NAME[@REVISION] on the hub, e.g. nvidia/mit-b0.

    What looks like a path is one, whether it is there or not: it begins with . / or ~, its ending
    is that of a file, or its folder is there (for a repository that is called like a folder here,
    give the revision, too: nvidia/mit-b0@main). What was fetched once stays in `huggingface_hub`'s
    cache and is taken from there, and nobody is asked; only what is not there needs a network.

    Raises:
        RobustsegError: a repository without weights, or that cannot be reached; or
            `huggingface_hub` is not installed.
    """
    text = str(name)
    if is_path(text):
        return Path(text)
    try:
        import huggingface_hub
    except ImportError:
        raise RobustsegError(
            f"{text} is no file here, and to fetch it from the hub: "
            f"{not_installed('huggingface_hub')}"
        ) from None
    repository, _, revision = text.partition("@")
    for file in FILES:
        have = huggingface_hub.try_to_load_from_cache(repository, file, revision=revision or None)
        if isinstance(have, str):
            return Path(have)
    return _fetched(text, repository, revision or None)


def folder(name: Path | str) -> Path:
    """The folder of a checkpoint in `transformers`' layout: a folder, or OWNER/NAME[@REVISION].

    Of a repository: its weights as `locate`, and beside them `SETTINGS`, of which the first is
    needed.

    Raises:
        RobustsegError: as `locate`, or it has no settings.
    """
    text = str(name)
    if is_path(text):
        return Path(text)
    weights = locate(text)
    repository, _, revision = text.partition("@")
    for place, file in enumerate(SETTINGS):
        if not (weights.parent / file).is_file():
            _fetch_beside(text, repository, revision or None, file, needed=not place)
    return weights.parent


def _fetch_beside(
    text: str, repository: str, revision: str | None, file: str, *, needed: bool
) -> None:
    """One more file of a repository, into the folder of its weights; asked for once."""
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    have = huggingface_hub.try_to_load_from_cache(repository, file, revision=revision)
    if have is not None and not needed:  # known not to be there
        return
    try:
        url = huggingface_hub.hf_hub_url(repository, file, revision=revision)
        huggingface_hub.get_hf_file_metadata(url, timeout=PATIENCE_S)
        huggingface_hub.hf_hub_download(repository, file, revision=revision)
    except Exception as error:  # of the network, in whatever library carries it today
        if not needed:
            return
        absent = isinstance(error, EntryNotFoundError)
        if absent and not isinstance(error, LocalEntryNotFoundError):
            raise RobustsegError(
                f"{text} on the hub has no {file}; give a repository of `transformers`"
            ) from None
        raise _out_of_reach(text, error) from None


def is_path(text: str) -> bool:
    """Whether a name is a path, there or not, rather than one on the hub; see `locate`."""
    if os.path.exists(text) or not _ID.fullmatch(text):
        return True
    owner, _, rest = text.partition("/")
    ending = os.path.splitext(rest)[1]
    return bool(_ENDING.fullmatch(ending)) or ("@" not in rest and os.path.isdir(owner))


def transformers() -> Any:
    """The library `transformers`, which says nothing but errors from now on.

    Raises:
        RobustsegError: it is not installed.
    """
    try:
        library: Any = import_module("transformers")
    except ImportError:
        raise RobustsegError(not_installed("transformers")) from None
    library.utils.logging.set_verbosity_error()
    library.utils.logging.disable_progress_bar()
    return library


@contextmanager
def reading(folder: Path, what: str, way_out: str) -> Iterator[None]:
    """What `transformers` raises of a folder meanwhile becomes a sentence.

    Raises:
        RobustsegError: it raised anything at all, as these readers do of a damaged folder.
    """
    try:
        yield
    except Exception as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise RobustsegError(
            f"{folder} is no {what} that can be read ({text}); {way_out}"
        ) from None


def first_missing(said: Mapping[str, Any]) -> str:
    """The first weight that a checkpoint lacks, of what `from_pretrained` says; empty: none."""
    missing = sorted(map(str, [*said["missing_keys"], *said["mismatched_keys"]]))
    return missing[0] if missing else ""


def _fetched(text: str, repository: str, revision: str | None) -> Path:
    """The weights of a repository, fetched.

    The hub is asked first, once and for a few seconds: the download alone asks again and again.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    for file in FILES:
        try:
            url = hf_hub_url(repository, file, revision=revision)
            get_hf_file_metadata(url, timeout=PATIENCE_S)
            return Path(hf_hub_download(repository, file, revision=revision))
        except LocalEntryNotFoundError as error:  # the network went away in between
            raise _out_of_reach(text, error) from None
        except EntryNotFoundError:
            continue
        except Exception as error:  # of the network, in whatever library carries it today
            raise _out_of_reach(text, error) from None
    raise RobustsegError(
        f"{text} on the hub has none of {', '.join(FILES)}; give a repository of weights for "
        "PyTorch, or a file"
    )


def _out_of_reach(text: str, error: Exception) -> RobustsegError:
    why = (str(error).splitlines() or [""])[0][:200].rstrip(".")
    return RobustsegError(
        f"{text} is no file here, and could not be fetched from the hub ({type(error).__name__}: "
        f"{why}); check the name and the network, or give a file"
    )
