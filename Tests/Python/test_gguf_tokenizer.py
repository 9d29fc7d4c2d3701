"""A GGUF file's own tokenizer: ids of the one it was made from, here and in transformers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf_files
import pytest
import torch
from chat_templates import CHATML, CONVERSATIONS
from gguf_tokenizers import (
    BYTE_LEVEL,
    MARKED,
    Source,
    byte_level,
    prefixed,
    sentence_piece,
    texts,
    word_piece,
)
from smollm2 import find_gguf
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

import lorasc

S = lorasc.Status
KINDS = (*BYTE_LEVEL, "uncased", "cased", "sentencepiece")
FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


def small(architecture: str, rows: int) -> torch.nn.Module:
    """A random model with a vocabulary of so many rows."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "vocab_size": rows,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 64,
    }
    if architecture == "gpt2":
        return GPT2LMHeadModel(
            GPT2Config(vocab_size=rows, n_embd=32, n_inner=64, n_layer=1, n_head=2, n_positions=64)
        )
    if architecture == "bert":
        return BertModel(BertConfig(**sizes))
    if architecture == "qwen2":
        return Qwen2ForCausalLM(Qwen2Config(**sizes, num_key_value_heads=1))
    return LlamaForCausalLM(LlamaConfig(**sizes, num_key_value_heads=1))


def write(path: Path, source: Source, **metadata: Any) -> Path:
    """A small model with this tokenizer; keys of tokenizer.ggml to change, None: to leave out."""
    changed = {f"tokenizer.ggml.{key}": value for key, value in metadata.items()}
    model = small(source.architecture, source.size)
    gguf_files.write(path, model, metadata=source.metadata | changed)
    return path


@pytest.fixture(scope="module")
def source_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Source]:
    """Makes each tokenizer once."""
    made: dict[str, Source] = {}

    def make(name: str) -> Source:
        if name not in made:
            if name in BYTE_LEVEL:
                made[name] = byte_level(name)
            elif name == "sentencepiece":
                made[name] = sentence_piece(tmp_path_factory.mktemp(name))
            else:
                made[name] = word_piece(name)
        return made[name]

    return make


@pytest.mark.parametrize("name", KINDS)
def test_ids_are_those_of_the_source(
    name: str, source_of: Callable[[str], Source], tmp_path: Path
) -> None:
    """In the engine, and in transformers from the merged folder."""
    source = source_of(name)
    with lorasc.Model(write(tmp_path / "model.gguf", source)) as model:
        head = "embedding" if source.architecture == "bert" else "lm"
        lorasc.Adapter(model, head=head).merge(tmp_path / "merged")
        ours = model.tokenizer
        peer = AutoTokenizer.from_pretrained(tmp_path / "merged")
        known = {ours.id_to_token(index) for index in range(source.size)} - {None}
        assert known == set(peer.get_vocab()), "transformers adds tokens of its own"
        for text in [*texts(), *source.marked]:
            expected = source.encode(text)
            assert ours.encode(text, add_special_tokens=False).ids == expected, text
            assert peer(text, add_special_tokens=False)["input_ids"] == expected, text
        pair = ours.encode("one", "two")
        there = peer("one", "two")
        assert there["input_ids"] == pair.ids
        assert ("token_type_ids" in there) == (source.architecture == "bert")
        if "token_type_ids" in there:
            assert there["token_type_ids"] == pair.type_ids
        assert peer.model_max_length == 64
        assert (tmp_path / "merged" / "generation_config.json").is_file() == (head == "lm")
        for file in FILES:
            assert model.file(file) == (tmp_path / "merged" / file).read_text(encoding="utf-8")


def test_special_tokens_around_texts(source_of: Callable[[str], Source], tmp_path: Path) -> None:
    def ids(source: Source, *pair: str, **metadata: Any) -> list[int]:
        with lorasc.Model(write(tmp_path / "model.gguf", source, **metadata)) as model:
            return model.tokenizer.encode(*pair).ids

    pieces, bert = source_of("sentencepiece"), source_of("uncased")
    (one, two), bos, eos = map(pieces.encode, ("one", "two")), 1, 2
    assert ids(pieces, "one", "two") == [bos, *one, bos, *two]
    assert ids(pieces, "one", add_bos_token=None) == [bos, *one]
    assert ids(pieces, "one", add_bos_token=False) == one
    assert ids(pieces, "one", add_eos_token=True) == [bos, *one, eos]
    cls, sep = 2, 3
    (one, two) = map(bert.encode, ("one", "two"))
    assert ids(bert, "one", "two") == [cls, *one, sep, *two, sep]
    for name, begins in (("llama-bpe", True), ("gpt-2", False), ("qwen2", False)):
        source = source_of(name)
        first = [source.metadata["tokenizer.ggml.bos_token_id"]] if begins else []
        assert ids(source, "one") == [*first, *source.encode("one")]
        assert ids(source, "one", add_bos_token=False) == source.encode("one")


def test_words_that_are_tokens_whatever_the_merges(
    source_of: Callable[[str], Source], tmp_path: Path
) -> None:
    source = source_of("llama-bpe")
    with lorasc.Model(write(tmp_path / "model.gguf", source)) as model:
        token = source.metadata["tokenizer.ggml.tokens"].index("Ġzzyzx")
        assert source.encode("a zzyzx")[-1] == token
        assert model.tokenizer.encode("a zzyzx").ids[-1] == token


def test_smollm2_is_as_its_folder(smollm2: lorasc.Model) -> None:
    """The real file: ids, and the chat template with its special tokens."""
    peer = AutoTokenizer.from_pretrained(smollm2.path)
    with lorasc.Model(find_gguf()) as model:
        for text in [*texts(), *MARKED]:
            expected = peer(text, add_special_tokens=False)["input_ids"]
            assert model.tokenizer.encode(text, add_special_tokens=False).ids == expected, text
        assert model.chat_template.templates == smollm2.chat_template.templates
        for conversation in CONVERSATIONS.values():
            if all(isinstance(message["content"], str) for message in conversation):
                assert model.encode_chat(conversation).tokens.tolist() == (
                    smollm2.encode_chat(conversation).tokens.tolist()
                )
        row = {"prompt": "Who are you?", "completion": "A model."}
        ours, theirs = (m.encode_instructions([row]) for m in (model, smollm2))
        assert ours.tokens.tolist() == theirs.tokens.tolist()
        assert ours.token_labels.tolist() == theirs.token_labels.tolist()


def test_chat_templates_by_name(source_of: Callable[[str], Source], tmp_path: Path) -> None:
    source = source_of("smollm")
    named = {
        "tokenizer.chat_template": CHATML,
        "tokenizer.chat_templates": ["rag"],
        "tokenizer.chat_template.rag": "rag:{{ bos_token }}",
    }
    gguf_files.write(
        tmp_path / "model.gguf", small("llama", source.size), metadata=source.metadata | named
    )
    question = CONVERSATIONS["question"]
    with lorasc.Model(tmp_path / "model.gguf") as model:
        lorasc.Adapter(model, head="lm").merge(tmp_path / "merged")
        assert model.file("chat_template.jinja") == CHATML
        peer = AutoTokenizer.from_pretrained(tmp_path / "merged")
        for name in ("default", "rag"):
            expected = peer.apply_chat_template(question, chat_template=name, tokenize=False)
            assert model.apply_chat_template(question, template=name) == expected
        assert model.apply_chat_template(question, template="rag") == "rag:<|endoftext|>"


def test_files_of_a_folder_are_its_own(tiny: lorasc.Model) -> None:
    for path in sorted(tiny.path.glob("*.json")):
        assert tiny.file(path.name) == path.read_text(encoding="utf-8")
    assert json.loads(tiny.file("config.json")) == tiny.config
    for name in ("../config.json", "/etc/hostname", "..", "", "a/b"):
        with pytest.raises(lorasc.ArgumentError) as caught:
            tiny.file(name)
        assert caught.value.subject == name
    with pytest.raises(lorasc.NotFoundError, match=r"tokenizer\.json"):
        tiny.file("tokenizer.json")
    with pytest.raises(lorasc.NotFoundError, match="texts cannot be encoded"):
        tiny.encode(["a"])


def test_tokenizers_that_are_not_offered(
    source_of: Callable[[str], Source], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Models open and merge all the same; their texts are refused."""
    source = source_of("smollm")
    for metadata, status, words in (
        ({"pre": "falcon"}, S.UNSUPPORTED, '"falcon"'),
        ({"pre": None}, S.UNSUPPORTED, '"default"'),
        ({"model": "t5"}, S.UNSUPPORTED, '"t5"'),
        ({"merges": ["a"]}, S.FORMAT, "no space"),
        ({"bos_token_id": 999_999}, S.FORMAT, "999999"),
    ):
        with lorasc.Model(write(tmp_path / "model.gguf", source, **metadata)) as model:
            with pytest.raises(lorasc.FormatError, match=words) as caught:
                model.encode(["a"])
            assert caught.value.status == status
            caplog.clear()
            lorasc.log_to()
            lorasc.Adapter(model, head="lm").merge(tmp_path / "merged")
            lorasc.log_off()
            assert not (tmp_path / "merged" / "tokenizer.json").exists()
            assert words in caplog.text
    nothing = write(tmp_path / "model.gguf", source, model=None)
    cannot = pytest.raises(lorasc.NotFoundError, match="texts cannot be encoded")
    with lorasc.Model(nothing) as model, cannot:
        model.encode(["a"])


def test_a_large_vocabulary_in_time(source_of: Callable[[str], Source], tmp_path: Path) -> None:
    """150,000 tokens and 234,000 merges in less than a second of this process."""
    source = source_of("smollm")
    letters = source.metadata["tokenizer.ggml.tokens"][:256]
    pairs = [a + b for a in letters for b in letters]
    triples = [pair + letter for pair in pairs for letter in letters][: 150_000 - 256 - len(pairs)]
    merges = [" ".join(pair) for pair in pairs]
    merges += [f"{token[:2]} {token[2]}" for token in triples]
    merges += [f"{token[0]} {token[1:]}" for token in triples]
    large = Source(
        source.encode,
        source.metadata | prefixed({"tokens": letters + pairs + triples, "merges": merges}),
    )
    path = write(tmp_path / "model.gguf", large, token_type=None)
    with lorasc.Model(path) as model:
        start = time.process_time()
        model.file("tokenizer.json")
        assert (time.process_time() - start) / 2 < 1, "asked for its size, then for the text"
        assert model.tokenizer.get_vocab_size() == 150_000
        assert model.tokenizer.encode('!"#').tokens == ['!"#']
