"""Folders of models: where they are, in the hub's cache or fetched, and whether they are safe."""

from __future__ import annotations

import json
import os
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from relspace._core.arguments import name_some
from relspace.errors import FileFormatError, InvalidInputError
from relspace.features.models.foreign import explained, import_package

_SAFE_FILES = ["*.json", "*.safetensors", "*.txt", "*.model"]
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_SECONDS_TO_ANSWER = 3.0
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


def find_folder(name: str | Path, *, revision: str | None, allow_pickle: bool) -> Path:
    """Return the folder of a model: itself, in the hub's cache, or downloaded to it."""
    try:
        local = Path(name).expanduser()
    except RuntimeError as error:
        raise InvalidInputError(f"there is no folder {name} ({error}).") from error
    if local.is_dir():
        if not any((local / index).is_file() for index in ("config.json", "model_index.json")):
            raise InvalidInputError(
                f"the folder {local} holds no config.json and no model_index.json, so it is no "
                "model that transformers or diffusers saved."
            )
        _check_weights(local, allow_pickle)
        return local
    text = str(name)
    looks_like_a_path = text.startswith((".", "/", "~")) or text.count("/") > 1 or "\\" in text
    if looks_like_a_path:
        raise InvalidInputError(f"there is no folder {text}.")
    hub: Any = import_package("huggingface_hub")
    patterns = _SAFE_FILES + (list(_PICKLED) if allow_pickle else [])
    options: dict[str, Any] = {"revision": revision, "allow_patterns": patterns}
    errors: Any = import_package("huggingface_hub.errors")
    try:
        cached = Path(hub.snapshot_download(text, local_files_only=True, **options))
        if _has_weights(cached):
            return cached
    except errors.LocalEntryNotFoundError:
        pass
    except errors.HFValidationError as error:
        raise InvalidInputError(
            f"there is no folder {text}, and it is no name on the hub, which are of the form "
            "owner/model."
        ) from error
    if not hub_is_reachable():
        raise InvalidInputError(
            f"there is no folder {text}, it is not in the hub's cache, and the hub can't be "
            "reached: give the folder of a model, or fetch it where there is a network (hf "
            f"download {text})."
        )
    with explained(
        lambda reason: InvalidInputError(f"{text} can't be fetched from the hub ({reason}).")
    ):
        folder = Path(hub.snapshot_download(text, **options))
    _check_weights(folder, allow_pickle)
    return folder


def hub_is_reachable() -> bool:
    """Whether the hub answers within a few seconds, and may be asked."""
    if any(os.environ.get(name, "0").lower() not in ("", "0", "false", "no") for name in _OFFLINE):
        return False
    return is_reachable(import_package("huggingface_hub.constants").ENDPOINT)


def is_reachable(url: str) -> bool:
    """Whether a server answers within a few seconds."""
    answers: list[bool] = []

    def ask() -> None:
        try:
            request = urllib.request.Request(url, method="HEAD")
            urllib.request.urlopen(request, timeout=_SECONDS_TO_ANSWER).close()
            answers.append(True)
        except urllib.error.HTTPError:
            # A refusal is an answer too.
            answers.append(True)
        except (OSError, ValueError):
            answers.append(False)

    # In a thread, because looking up the address has no time limit of its own.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_SECONDS_TO_ANSWER)
    return bool(answers and answers[0])


def _has_weights(folder: Path) -> bool:
    return any(folder.rglob("*.safetensors"))


def _check_weights(folder: Path, allow_pickle: bool) -> None:
    for index in sorted(folder.rglob("*.index.json")):
        parts = read_json(index).get("weight_map")
        names = set(map(str, parts.values())) if isinstance(parts, dict) else set()
        outside = sorted(name for name in names if Path(name).name != name)
        if outside:
            raise FileFormatError(
                f"{index} names weights that are not beside it: {name_some(outside)}."
            )
    if _has_weights(folder):
        return
    pickled = [path.name for pattern in _PICKLED for path in folder.rglob(pattern)]
    if not pickled:
        raise InvalidInputError(f"{folder} holds no weights (*.safetensors).")
    if not allow_pickle:
        raise InvalidInputError(
            f"{folder} holds its weights as pickle only ({name_some(pickled)}), which can run code "
            "when it is loaded.",
            ways_out=["convert them to safetensors", "allow it with {allow_pickle=True}"],
        )


def read_json(path: Path) -> dict[str, Any]:
    """Read a configuration, a mapping in JSON."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise FileFormatError(f"{path} can't be read as JSON ({error}).") from error
    if not isinstance(config, dict):
        raise FileFormatError(f"{path} holds no configuration.")
    return config
