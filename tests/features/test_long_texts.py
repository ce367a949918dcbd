"""Texts longer than a model takes: cut where its positions end, counted, and said."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from relspace.errors import InvalidInputError, InvalidTypeError
from relspace.features import TruncatedTextWarning, extract, token_features
from relspace.features.models.text import TextModel, longest_text

transformers = pytest.importorskip("transformers", reason="transformers is not installed")

Saved = Callable[[str], Path]
SIZES = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 20,
}
GPT = {"vocab_size": 40, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 20}
OPT = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}

# The configuration, and how many tokens its network takes.
LIMITS: dict[str, tuple[dict[str, Any], int]] = {
    "BertConfig": (SIZES, 20),
    "ElectraConfig": ({**SIZES, "embedding_size": 16}, 20),
    "DebertaV2Config": (SIZES, 20),
    "RobertaConfig": (SIZES, 18),
    "XLMRobertaConfig": (SIZES, 18),
    "CamembertConfig": (SIZES, 18),
    "MPNetConfig": (SIZES, 18),
    "Data2VecTextConfig": (SIZES, 18),
    "EsmConfig": ({**SIZES, "position_embedding_type": "absolute", "pad_token_id": 1}, 18),
    "IBertConfig": (SIZES, 18),
    "DistilBertConfig": (
        {"vocab_size": 40, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 16}
        | {"max_position_embeddings": 20},
        20,
    ),
    "GPT2Config": (GPT, 20),
    "OpenAIGPTConfig": (GPT, 20),
    "OPTConfig": (
        {**OPT, "ffn_dim": 16, "word_embed_proj_dim": 16, "max_position_embeddings": 20},
        20,
    ),
    "BioGptConfig": (SIZES, 20),
    "RoFormerConfig": ({**SIZES, "embedding_size": 16}, 20),
}


def tokenizer(longest: float = 1e30) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["<pad>", "<unk>", "a", "b", "c", "d"]
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="<unk>", pad_token="<pad>", model_max_length=int(longest)
    )


def text_model(kind: str, **changes: Any) -> TextModel:
    torch.manual_seed(0)
    sizes, _ = LIMITS[kind]
    module = transformers.AutoModel.from_config(getattr(transformers, kind)(**(sizes | changes)))
    return TextModel(
        "tiny", module, tokenizer(), device=torch.device("cpu"), dtype=torch.float32
    )  # fmt: skip


@pytest.mark.parametrize("kind", list(LIMITS))
def test_texts_are_cut_where_the_positions_end(kind: str) -> None:
    model, longest = text_model(kind), LIMITS[kind][1]
    assert longest_text(model.module, tokenizer()) == longest
    assert longest_text(model.module, tokenizer(7)) == 7
    assert model.settings()["max_tokens"] == longest
    text = "a b c d " * 10
    tokens, _ = model.prepare(text)
    assert len(tokens) == longest
    names = model.names_of("all")
    found = model.forward([tokens, tokens[:3]], names)
    alone = model.forward([tokens[:3]], names)
    for name in names:
        assert torch.isfinite(found[name]).all()
        torch.testing.assert_close(found[name][1:], alone[name])


@pytest.mark.parametrize("kind", [one for one, (_, longest) in LIMITS.items() if longest == 18])
def test_one_token_more_is_too_many(kind: str) -> None:
    model = text_model(kind)
    tokens = torch.full((1, 19), 2)
    with pytest.raises((IndexError, RuntimeError)), torch.no_grad():
        model.module.eval()(input_ids=tokens, attention_mask=torch.ones_like(tokens))


def test_a_network_without_a_limit_takes_all() -> None:
    sizes = {"vocab_size": 40, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 2}
    module = transformers.T5EncoderModel(transformers.T5Config(**sizes, num_heads=2))
    model = TextModel("t5", module, tokenizer(), device=torch.device("cpu"), dtype=torch.float32)
    assert longest_text(module, tokenizer()) is None
    assert len(model.prepare("a b c d " * 300)[0]) == 1200
    assert model.describe_truncated(["a b c d " * 300], ["0"]) == {"n_truncated": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(token_features(model, ["a b " * 400])) == 800


def test_truncated_texts_are_counted_and_named() -> None:
    model = text_model("RobertaConfig")
    texts = ["a b c", "a " * 25, "b " * 18, "c " * 19]
    assert model.find_truncated(iter(texts)) == {1: 25, 3: 19}
    message = (
        r"2 of 4 texts are longer than the 18 tokens that tiny takes, and are cut there: "
        r"'x', 'z'\. "
        r"The longest has 25 tokens; 8 of all tokens are left out: split long texts first\."
    )
    with pytest.warns(TruncatedTextWarning, match=message):
        found = token_features(model, texts, ids=["w", "x", "y", "z"], batch_size=3)
    assert len(found) == 3 + 18 + 18 + 18
    said = {key: found.metadata[key] for key in ("n_truncated", "n_tokens_cut", "truncated")}
    assert said == {"n_truncated": 2, "n_tokens_cut": 8, "truncated": ["x", "z"]}
    short = token_features(model, texts[:1])
    assert short.metadata["n_truncated"] == 0
    assert "truncated" not in short.metadata


def test_extraction_says_what_was_cut(tmp_path: Path) -> None:
    model, texts = text_model("RobertaConfig"), ["a b c", "a " * 25, "b " * 18]
    for _ in range(2):  # extracted, and opened again
        with pytest.warns(TruncatedTextWarning, match="1 of 3 texts .* cut there: 'y'"):
            found = extract(model, texts, tmp_path / "a.zarr", ids=["x", "y", "z"])
        said = {key: found.metadata[key] for key in ("n_truncated", "n_tokens_cut", "truncated")}
        assert said == {"n_truncated": 1, "n_tokens_cut": 7, "truncated": ["y"]}
    assert extract(model, texts[:1], tmp_path / "b.zarr").metadata["n_truncated"] == 0


def test_many_texts_are_counted_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relspace.features.models.text._TOKENIZED_AT_ONCE", 3)
    model = text_model("BertConfig")
    texts = ["a " * (30 if i % 4 == 1 else 5) for i in range(11)]
    assert model.find_truncated(texts) == {1: 30, 5: 30, 9: 30}


def test_what_is_no_text_is_named(tmp_path: Path) -> None:
    model = text_model("BertConfig")
    with pytest.raises(InvalidTypeError, match=r"a text is of type float \(nan\)"):
        token_features(model, ["a", float("nan")])
    with pytest.raises(InvalidInputError, match="texts must not be empty"):
        token_features(model, ["a", "  "])
    for run in (token_features, lambda *one: extract(*one, tmp_path / "a.zarr")):
        with pytest.raises(InvalidInputError, match=r"text 'a .*' holds halves of characters"):
            run(model, ["b", "a \udce9"])


def test_images_given_for_texts_are_called_so(tmp_path: Path) -> None:
    model = text_model("BertConfig")
    image = tmp_path / "cat.jpg"
    Image.new("RGB", (8, 8)).save(image)
    for given, message in (
        ([str(image)], r"names of image files, '.*cat\.jpg'; images are for models of images"),
        (image, r"cat\.jpg is no text in UTF-8"),
        (tmp_path, "is a folder; a text model takes"),
        ([Image.open(image)], "a text model takes a list of strings"),
        (torch.zeros(1, 3, 8, 8), "a text model takes a list of strings"),
    ):
        with pytest.raises((InvalidInputError, InvalidTypeError), match=message):
            extract(model, given, tmp_path / "a.zarr")
        assert not (tmp_path / "a.zarr").exists()


def test_a_tokenizer_of_another_model_is_refused() -> None:
    model = text_model("BertConfig", vocab_size=4)
    with pytest.raises(InvalidInputError, match="tokens up to number 5, and the network knows 4"):
        token_features(model, ["a b c d"])
