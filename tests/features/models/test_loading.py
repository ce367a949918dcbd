"""Finding models: folders first, no waiting for a network, nothing unpickled unless asked for."""

from __future__ import annotations

import json
import shutil
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import relspace
from relspace.errors import FileFormatError, InvalidInputError, InvalidTypeError
from relspace.features import Preprocessing
from relspace.features.models import hub

Saved = Callable[[str], Path]


@pytest.fixture
def model(saved: Saved, tmp_path: Path) -> Path:
    """A copy of a model's folder that may be damaged."""
    return shutil.copytree(saved("dinov2"), tmp_path / "model")


@pytest.fixture(autouse=True)
def no_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))


def test_a_name_without_network_says_so_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def connect(*_: object) -> None:
        pytest.fail("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", connect)
    with pytest.raises(
        InvalidInputError, match=r"hub can't be reached: give the folder.*hf download"
    ):
        relspace.load_model("facebook/dinov2-base")


def test_the_hub_is_asked_for_a_few_seconds_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in hub._OFFLINE:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(hub, "_SECONDS_TO_ANSWER", 0.1)
    over, answered = threading.Event(), threading.Event()

    def hang(*_: object, **__: object) -> None:
        over.wait(60)
        answered.set()
        raise OSError("nobody waits for this answer")

    monkeypatch.setattr(hub.urllib.request, "urlopen", hang)
    assert hub.hub_is_reachable() is False
    assert not answered.is_set()
    over.set()


def test_answers_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in hub._OFFLINE:
        monkeypatch.delenv(name, raising=False)

    def refuse(*_: object, **__: object) -> None:
        raise hub.urllib.error.HTTPError("hub", 404, "not found", None, None)  # type: ignore[arg-type]

    monkeypatch.setattr(hub.urllib.request, "urlopen", refuse)
    assert hub.hub_is_reachable() is True

    def unknown(*_: object, **__: object) -> None:
        raise OSError("name or service not known")

    monkeypatch.setattr(hub.urllib.request, "urlopen", unknown)
    assert hub.hub_is_reachable() is False


@pytest.mark.parametrize("name", ["./missing", "/missing/model", "a/b/c", "~/missing"])
def test_a_mistyped_path_is_no_name(name: str) -> None:
    with pytest.raises(InvalidInputError, match="there is no folder"):
        relspace.load_model(name)


def test_a_name_that_can_be_none_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="no name on the hub"):
        relspace.load_model("not a model!")


@pytest.mark.parametrize("name", [None, float("nan"), b"model", 3])
def test_what_is_no_name_is_refused(name: object) -> None:
    with pytest.raises(InvalidTypeError, match="name is of type"):
        relspace.load_model(name)  # type: ignore[arg-type]


def test_a_model_in_the_cache_needs_no_network(
    saved: Saved, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", lambda name, **options: str(saved("vit"))
    )
    monkeypatch.setattr(hub, "hub_is_reachable", lambda: pytest.fail("asked the network"))
    assert relspace.load_model("owner/model", device="cpu").name == "owner/model"


def test_pickled_weights_need_permission(model: Path) -> None:
    module = relspace.load_model(model, device="cpu").module
    torch.save(module.state_dict(), model / "pytorch_model.bin")
    (model / "model.safetensors").unlink()
    with pytest.raises(InvalidInputError, match=r"as pickle only \('pytorch_model\.bin'\)"):
        relspace.load_model(model)
    again = relspace.load_model(model, device="cpu", allow_pickle=True)
    assert (
        again.fingerprint()
        == relspace.load_model(model, device="cpu", allow_pickle=True).fingerprint()
    )
    (model / "pytorch_model.bin").unlink()
    with pytest.raises(InvalidInputError, match="holds no weights"):
        relspace.load_model(model)


def test_code_beside_a_model_is_never_run(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "evil.py").write_text(f"open({str(model / 'ran')!r}, 'w')\nclass Model: pass\n")
    config |= {"model_type": "evil", "auto_map": {"AutoModel": "evil.Model"}}
    (model / "config.json").write_text(json.dumps(config))
    with pytest.raises(InvalidInputError, match="is a model of type 'evil'; known are"):
        relspace.load_model(model)
    (model / "tokenizer_config.json").write_text("{}")
    with pytest.raises((FileFormatError, InvalidInputError, ValueError)):
        relspace.load_model(model)
    assert not (model / "ran").exists()


def test_damaged_models_say_what_is_wrong(model: Path) -> None:
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(FileFormatError, match=r"can't be loaded as safetensors .*incomplete"):
        relspace.load_model(model)
    (model / "config.json").write_text("{")
    with pytest.raises(FileFormatError, match=r"config\.json can't be read as JSON"):
        relspace.load_model(model)
    (model / "config.json").unlink()
    with pytest.raises(InvalidInputError, match=r"holds no config\.json"):
        relspace.load_model(model)


def test_weights_that_are_not_there_are_not_made_up(model: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(model / "model.safetensors")
    del tensors[next(name for name in tensors if "key" in name and name.endswith("weight"))]
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(FileFormatError, match="they would be random"):
        relspace.load_model(model)


def test_preprocessing_must_be_known(model: Path) -> None:
    path = model / "preprocessor_config.json"
    config = json.loads(path.read_text())
    path.unlink()
    with pytest.raises(InvalidInputError, match="has no preprocessor_config"):
        relspace.load_model(model)
    given = relspace.load_model(model, device="cpu", preprocessing=Preprocessing(size=(32, 32)))
    assert given.settings()["preprocessing"]["size"] == [32, 32]
    # Newer processors are saved inside of one file with others.
    (model / "processor_config.json").write_text(json.dumps({"image_processor": config}))
    assert relspace.load_model(model, device="cpu").settings()["preprocessing"]["crop"] == [35, 35]
    for broken, message in [
        ({"size": {"width": 3}}, "size is"),
        ({"crop_size": None}, "has no crop_size"),
        ({"crop_size": "big"}, "must be height and width"),
    ]:
        path.write_text(json.dumps(config | broken))
        with pytest.raises(FileFormatError, match=message):
            relspace.load_model(model)
    path.write_text("{")
    with pytest.raises(FileFormatError, match="can't be read as JSON"):
        relspace.load_model(model)


@pytest.mark.parametrize(
    ("architecture", "kind"),
    [
        ("ViTForImageClassification", "vit"),
        ("ResNetForImageClassification", "resnet"),
        ("ConvNextForImageClassification", "convnext"),
        ("CLIPVisionModelWithProjection", "clip"),
        ("BertForMaskedLM", "bert"),
    ],
)
def test_checkpoints_with_heads_are_read_without(
    saved: Saved, tmp_path: Path, architecture: str, kind: str
) -> None:
    import transformers

    folder = shutil.copytree(saved(kind), tmp_path / "model")
    plain = relspace.load_model(folder, device="cpu").module
    getattr(transformers, architecture)(plain.config).save_pretrained(folder)
    assert relspace.load_model(folder, device="cpu").layers[0] == "layer_0"


def test_bad_arguments(saved: Saved) -> None:
    with pytest.raises(InvalidInputError, match="dtype is 'int8'"):
        relspace.load_model(saved("vit"), dtype="int8")
    with pytest.raises(InvalidInputError, match="one of image, text"):
        relspace.load_model(saved("vit"), modality="sound")
    with pytest.raises(InvalidInputError, match="is a model of type 'bert'"):
        relspace.load_model(saved("bert"), modality="image")
    with pytest.raises(InvalidInputError, match="one of mean, last, first"):
        relspace.load_model(saved("bert"), pooling="max")


def test_two_trainings_of_one_model_have_different_fingerprints(saved: Saved) -> None:
    first = relspace.load_model(saved("vit"), device="cpu")
    second = relspace.load_model(saved("vit"), device="cpu")
    assert first.fingerprint() == second.fingerprint()
    with torch.no_grad():
        for parameter in second.module.parameters():
            parameter.mul_(1.001)
    assert first.fingerprint() != second.fingerprint()


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("..", InvalidInputError, "holds no config.json"),
        ("owner/..", InvalidInputError, "no name on the hub"),
        ("../../etc/passwd", InvalidInputError, "there is no folder"),
        ("owner/model\0", InvalidInputError, "no name on the hub"),
        ("~nobody-of-this-name/model", InvalidInputError, "there is no folder ~nobody"),
        ("https://example.org/model", InvalidInputError, "there is no folder"),
        (7, InvalidTypeError, "name is of type int"),
    ],
)
def test_names_that_lead_nowhere(
    name: object,
    error: type[Exception],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    # Where names with ".." lead to does not depend on the folder that the tests run in.
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b" / "c")
    with pytest.raises(error, match=message):
        relspace.load_model(name)  # type: ignore[arg-type]


def test_a_folder_is_called_by_its_own_name(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "short").symlink_to(model)
    monkeypatch.chdir(model)
    for name, title in ((".", "model"), (model / ".." / "model", "model"), ("../short", "short")):
        assert relspace.load_model(name, device="cpu").name == title
    assert relspace.load_model(f"{model}/", device="cpu").name == "model"


def changed(path: Path, **entries: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


@pytest.mark.parametrize(
    "entries",
    [
        {"hidden_size": 0},
        {"hidden_size": "many"},
        {"hidden_size": 48},
        {"num_attention_heads": 0},
        {"num_hidden_layers": -1},
        {"num_hidden_layers": 10**9},
        {"patch_size": 0},
        {"patch_size": None},
        {"hidden_act": "no such function"},
        {"attn_implementation": "kernels-community/code"},
        {"_attn_implementation": {"": "owner/code"}},
        {"vision_config": {"attn_implementation": "owner/code"}},
    ],
)
def test_configurations_that_can_not_be_are_refused(model: Path, entries: dict[str, Any]) -> None:
    changed(model / "config.json", **entries)
    with pytest.raises(FileFormatError, match="model"):
        relspace.load_model(model, device="cpu")


def test_configurations_that_are_no_objects_are_refused(model: Path) -> None:
    for text in ("[]", "3", "null", "[" * 100_000, "\ufeff{", ""):
        (model / "config.json").write_text(text, encoding="utf-8")
        with pytest.raises(FileFormatError, match=r"config\.json"):
            relspace.load_model(model)


@pytest.mark.parametrize(
    "entries",
    [
        {"size": {"height": 0, "width": 3}},
        {"size": {"height": -2, "width": 3}},
        {"image_mean": 0.5},
        {"image_mean": "abc"},
        {"image_mean": [0.1, 0.2]},
        {"image_std": [0, 0, 0]},
        {"image_std": [1, float("nan"), 1]},
        {"resample": 9},
        {"resample": "cubic"},
        {"rescale_factor": None},
        {"rescale_factor": float("inf")},
        {"crop_size": {"height": 0, "width": 0}},
    ],
)
def test_preprocessing_that_can_not_be_is_refused(model: Path, entries: dict[str, Any]) -> None:
    changed(model / "preprocessor_config.json", **entries)
    with pytest.raises(FileFormatError, match=r"preprocessor_config\.json"):
        relspace.load_model(model, device="cpu")


def test_weights_beside_the_folder_are_not_read(model: Path) -> None:
    index = {"metadata": {}, "weight_map": {"a": "../model.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(FileFormatError, match=r"not beside it: '\.\./model\.safetensors'"):
        relspace.load_model(model)


def test_pickles_that_run_code_are_refused_even_with_permission(model: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (open, (str(model / "ran"), "w"))

    (model / "model.safetensors").unlink()
    torch.save({"a": Evil()}, model / "pytorch_model.bin")
    for allowed in (False, True):
        with pytest.raises(InvalidInputError, match=r"pickle only|can't be loaded"):
            relspace.load_model(model, device="cpu", allow_pickle=allowed)
    assert not (model / "ran").exists()


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("text", ["{", "[]", '{"version": 3}', ""])
def test_broken_tokenizers_are_refused(saved: Saved, tmp_path: Path, name: str, text: str) -> None:
    folder = shutil.copytree(saved("bert"), tmp_path / "text")
    (folder / name).write_text(text)
    try:
        model = relspace.load_model(folder, device="cpu")
    except FileFormatError as error:
        assert str(folder) in str(error)  # noqa: PT017
        return
    # What the configuration lacks has defaults.
    assert (name, model.modality) == ("tokenizer_config.json", "text")


def test_broken_pipelines_are_refused(saved: Saved, tmp_path: Path) -> None:
    folder = shutil.copytree(saved("diffusion"), tmp_path / "pipeline")
    for part, text in (
        ("scheduler/scheduler_config.json", "{"),
        ("unet/config.json", "[]"),
        ("vae/config.json", '{"block_out_channels": 3}'),
    ):
        own = (folder / part).read_text()
        (folder / part).write_text(text)
        with pytest.raises(FileFormatError, match="pipeline"):
            relspace.load_model(folder, device="cpu")
        (folder / part).write_text(own)
    weights = next((folder / "unet").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(FileFormatError, match="can't be loaded as Stable Diffusion"):
        relspace.load_model(folder, device="cpu")
