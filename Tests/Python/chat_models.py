"""Small decoders with a tokenizer, in folders as transformers writes and reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM

SPECIAL = ("<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|end|>")
TEXTS = (
    "What is two and two? It is four, and that is that.",
    "Who are you? A model that answers in one sentence, briefly.",
    "Will it rain there now? Yes, with wind, and the sky is grey.",
)


def byte_tokenizer() -> Tokenizer:
    """A byte-level BPE as GPT-2's and SmolLM2's; adds no special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    train(tokenizer, pre_tokenizers.ByteLevel.alphabet())
    return tokenizer


def piece_tokenizer() -> Tokenizer:
    """A BPE on text whose words begin with ▁, as Llama 2's; puts <s> before a text."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    train(tokenizer, [*map(chr, range(33, 127)), "\n", "▁"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    return tokenizer


def train(tokenizer: Tokenizer, alphabet: list[str]) -> None:
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        initial_alphabet=alphabet,
        special_tokens=[AddedToken(token, special=True) for token in SPECIAL],
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS * 3, trainer)


def make_chat_model(
    folder: Path,
    tokenizer: Tokenizer,
    chat_template: Any = None,
    positions: int = 96,
    **described: Any,
) -> Path:
    """Saves a small random Llama with this tokenizer and tokenizer_config.json."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=positions,
        bos_token_id=tokenizer.token_to_id("<s>"),
        eos_token_id=tokenizer.token_to_id("</s>"),
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    write_tokenizer(folder, tokenizer, chat_template, **described)
    return folder


def write_tokenizer(
    folder: Path, tokenizer: Tokenizer, chat_template: Any = None, **described: Any
) -> None:
    """Saves tokenizer.json and tokenizer_config.json."""
    tokenizer.save(str(folder / "tokenizer.json"))
    values = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": {"__type": "AddedToken", "content": "</s>", "special": True},
        "unk_token": "<unk>",
    } | described
    if chat_template is not None:
        values["chat_template"] = chat_template
    (folder / "tokenizer_config.json").write_text(json.dumps(values))
