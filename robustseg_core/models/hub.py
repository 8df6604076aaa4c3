"""Where public weights lie: a file, or a repository on the Hugging Face hub."""

from __future__ import annotations

import re
from pathlib import Path

from robustseg_core.errors import RobustsegError, not_installed

FILES = ("model.safetensors", "pytorch_model.bin")
"""What a repository's weights are called, the first that there is."""
_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?")
_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")


def locate(name: Path | str) -> Path:
    """The file that is meant: a path, or OWNER/NAME[@REVISION] on the hub, e.g. nvidia/mit-b0.

    A path wins over a repository of the same name. What was fetched once stays in
    `huggingface_hub`'s cache and needs no network again.

    Raises:
        RobustsegError: a repository without weights, or that cannot be reached; or
            `huggingface_hub` is not installed.
    """
    text = str(name)
    if Path(text).exists() or not _ID.fullmatch(text) or text.endswith(_SUFFIXES):
        return Path(text)
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
    except ImportError:
        raise RobustsegError(
            f"{text} is no file here, and to fetch it from the hub: "
            f"{not_installed('huggingface_hub')}"
        ) from None
    repository, _, revision = text.partition("@")
    for file in FILES:
        try:
            return Path(hf_hub_download(repository, file, revision=revision or None))
        except LocalEntryNotFoundError as error:
            if file == FILES[-1]:
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
