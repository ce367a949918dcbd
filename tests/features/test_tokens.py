"""Tokens and words of texts: the model's own states, and the same words in every model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import relspace
from relspace.errors import InvalidInputError, InvalidTypeError, ItemMismatchError
from relspace.features import FeatureSet, token_features
from relspace.features.models.text import TextModel

TEXTS = ["the red house stands", "a bird sings over the river", "trees fall", "small birds run"]
Saved = Callable[[str], Path]


def load(saved: Saved, kind: str) -> TextModel:
    model = relspace.load_model(saved(kind), device="cpu")
    assert isinstance(model, TextModel)
    return model


@pytest.fixture(scope="module")
def byte_model() -> TextModel:
    """A decoder whose tokens are letters and pairs of them, with the space before a word."""
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=270, initial_alphabet=alphabet)
    )
    torch.manual_seed(0)
    module = transformers.GPT2Model(
        transformers.GPT2Config(vocab_size=270, n_positions=64, n_embd=16, n_layer=2, n_head=2)
    )
    wrapped = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="!", model_max_length=64
    )
    return TextModel(
        "bytes", module, wrapped, device=torch.device("cpu"), dtype=torch.float32
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_tokens_are_the_states_of_each_text_alone(saved: Saved, kind: str) -> None:
    model = load(saved, kind)
    found = token_features(model, TEXTS, batch_size=2, ids=["w", "x", "y", "z"])
    row = 0
    for name, text in zip("wxyz", TEXTS, strict=True):
        tokens = torch.from_numpy(model.prepare(text)[0])
        with torch.no_grad():
            states = model.module(input_ids=tokens[None], output_hidden_states=True).hidden_states
        rows = slice(row, row + len(tokens))
        assert found.ids is not None
        assert found.ids[rows] == tuple(f"{name}:{i}" for i in range(len(tokens)))
        for layer in ("layer_0", "layer_2"):
            direct = states[int(layer[-1])][0]
            torch.testing.assert_close(found.tokens(layer=layer)[rows], direct)
        row = rows.stop
    assert len(found) == row


def test_means_of_tokens_are_what_extraction_stores(saved: Saved, tmp_path: Path) -> None:
    model = load(saved, "bert")
    found = token_features(model, TEXTS, layers=[2])
    stored = relspace.extract(model, TEXTS, tmp_path / "a.zarr", layers=[2], store_dtype="float32")
    assert isinstance(stored, FeatureSet)
    texts = [one.split(":")[0] for one in found.ids or ()]
    own = torch.tensor([list(dict.fromkeys(texts)).index(one) for one in texts])
    means = [found.tokens()[own == i].mean(dim=0) for i in range(len(TEXTS))]
    torch.testing.assert_close(torch.stack(means), stored.tokens())


def test_words_are_the_same_items_however_texts_are_cut(
    saved: Saved, byte_model: TextModel
) -> None:
    ids = tuple(
        f"{text}:{word}" for text, one in enumerate(TEXTS) for word in range(len(one.split()))
    )
    called = [str(number) for number in range(len(TEXTS))]
    whole = token_features(load(saved, "bert"), TEXTS, by="word", ids=called)
    parts = token_features(byte_model, TEXTS, by="word", batch_size=2, ids=called)
    assert whole.ids == parts.ids == ids
    # More tokens than words, whose means the rows are.
    tokens = token_features(byte_model, TEXTS[:1], layers="last")
    assert len(tokens) > 4
    spelled = [TEXTS[0][start:stop] for start, stop in byte_model.spans(TEXTS[0])]
    first = next(i for i, one in enumerate(spelled) if "".join(spelled[: i + 1]).strip() == "the")
    torch.testing.assert_close(
        parts.tokens(layer="layer_2")[0], tokens.tokens()[: first + 1].mean(dim=0)
    )
    groups = [one.rpartition(":")[0] for one in ids]
    compared = relspace.compare_layers(whole, parts, groups=groups, n_permutations=0)
    assert compared.matched_by == "ids"
    assert (compared.n_items, compared.n_units) == (len(ids), len(TEXTS))


def test_words_of_other_texts_are_not_matched_because_they_were_counted(saved: Saved) -> None:
    model = load(saved, "bert")
    here = token_features(model, TEXTS, by="word")
    turned = token_features(model, TEXTS[::-1], by="word")
    assert here.ids is not None
    assert len({one.partition(":")[0] for one in map(str, here.ids)}) == len(TEXTS)
    compared = relspace.compare(here["layer_2"], turned["layer_2"], measure="cka")
    assert compared.matched_by == "ids"
    assert compared.value == pytest.approx(1, abs=1e-4)
    other = token_features(model, [text.replace("the", "a") for text in TEXTS], by="word")
    with pytest.raises(ItemMismatchError, match="Y lacks"):
        relspace.compare(here["layer_2"], other["layer_2"], measure="cka")
    twice = token_features(model, TEXTS + TEXTS[:1], by="word")
    assert len(twice) == len(here) + len(TEXTS[0].split())


def test_what_is_no_text_is_refused(saved: Saved) -> None:
    with pytest.raises(InvalidTypeError, match="is no text model"):
        token_features(relspace.load_model(saved("vit"), device="cpu"), TEXTS)
    model = load(saved, "bert")
    with pytest.raises(InvalidInputError, match="a list of one text or more"):
        token_features(model, "one text")
    with pytest.raises(InvalidInputError, match="texts must not be empty"):
        token_features(model, ["a house", " "])
    with pytest.raises(InvalidInputError, match="by"):
        token_features(model, TEXTS, by="letter")
