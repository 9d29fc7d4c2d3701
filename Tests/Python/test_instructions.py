"""Prompts and completions as batches: tokens, labels, cutting, and what is refused."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chat_models import SPECIAL, byte_tokenizer, make_chat_model, piece_tokenizer
from chat_templates import CHATML, CHATML_GENERATION, CONVERSATIONS, TOOL, said
from programs import run_example
from transformers import AutoTokenizer

import lorasc
from lorasc import IGNORED
from lorasc.instructions import label_tokens

S = lorasc.Status


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[lorasc.Model]:
    """Byte-level tokens, a template with {% generation %}, 96 positions."""
    folder = tmp_path_factory.mktemp("chat")
    with lorasc.Model(make_chat_model(folder, byte_tokenizer(), CHATML_GENERATION)) as model:
        yield model


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> Iterator[lorasc.Model]:
    """Words that begin with ▁, <s> before every text, no template."""
    folder = tmp_path_factory.mktemp("pieces")
    with lorasc.Model(make_chat_model(folder, piece_tokenizer())) as model:
        yield model


def learned(model: lorasc.Model, batch: lorasc.Batch, row: int = 0) -> str:
    """The text of a row's tokens with a loss, which must be their own labels."""
    span = slice(batch.offsets[row], batch.offsets[row + 1])
    ids, labels = batch.tokens[span], batch.token_labels[span]
    kept = labels != IGNORED
    assert (ids[kept] == labels[kept]).all()
    return model.tokenizer.decode(ids[kept].tolist(), skip_special_tokens=False)


def named(*tokens: str) -> list[int]:
    return [SPECIAL.index(token) for token in tokens]


# ---- Texts ----------------------------------------------------------------------------


def test_a_completion_carries_the_loss_and_ends(chat: lorasc.Model) -> None:
    row = {"prompt": "Who are you?", "completion": " A model.", "source": "ignored"}
    batch = chat.encode_instructions([row])
    asked = chat.tokenizer.encode(row["prompt"]).ids
    assert batch.tokens[: len(asked)].tolist() == asked
    assert (batch.token_labels[: len(asked)] == IGNORED).all()
    assert (batch.token_labels[len(asked) :] == batch.tokens[len(asked) :]).all()
    assert learned(chat, batch) == " A model.</s>"
    assert learned(chat, chat.encode_instructions([row], add_eos=False)) == " A model."
    apart = chat.encode_instructions([row], separator="\n-> ")
    assert learned(chat, apart) == " A model.</s>"
    whole = chat.tokenizer.decode(apart.tokens.tolist(), skip_special_tokens=False)
    assert whole == "Who are you?\n->  A model.</s>"


def test_tokens_of_the_prompt_are_those_it_has_alone(chat: lorasc.Model) -> None:
    """A prompt that ends within what would be one token, and characters of several tokens."""
    tokenizer = chat.tokenizer
    joined = tokenizer.encode(" answers").ids
    assert len(joined) < len(tokenizer.encode(" ans").ids) + len(tokenizer.encode("wers").ids)
    for prompt, completion in (
        (" ans", "wers"),
        ("It is ", "four"),
        ("模", "型🙂 é"),
        ("", "four"),
    ):
        ids, labels = label_tokens(
            tokenizer, prompt + completion, [(len(prompt), len(prompt + completion))]
        )
        asked = tokenizer.encode(prompt).ids
        assert ids[: len(asked)] == asked
        assert labels == [IGNORED] * len(asked) + ids[len(asked) :]
        assert tokenizer.decode(ids[len(asked) :]) == completion
        assert tokenizer.decode(ids) == prompt + completion


def test_special_tokens_are_not_doubled(pieces: lorasc.Model) -> None:
    start, end = named("<s>", "</s>")
    plain = {"prompt": "Who are you?", "completion": "A model"}
    written = {"prompt": "<s>Who are you?", "completion": "A model</s>"}
    for row in (plain, written):
        ids = pieces.encode_instructions([row]).tokens.tolist()
        assert (ids.count(start), ids.count(end)) == (1, 1)
        assert (ids[0], ids[-1]) == (start, end)
    with_space = pieces.encode_instructions([plain | {"completion": " A model"}])
    assert with_space.row(0).tolist() == [*pieces.tokenizer.encode("Who are you? A model").ids, end]
    assert learned(pieces, with_space) == "A model</s>"


def test_the_end_token_of_config_json(tmp_path: Path) -> None:
    folder = make_chat_model(tmp_path, byte_tokenizer())
    (folder / "tokenizer_config.json").unlink()
    config = json.loads((folder / "config.json").read_text())
    row = {"prompt": "a", "completion": "b"}
    for given in (4, [4, 2]):
        (folder / "config.json").write_text(json.dumps(config | {"eos_token_id": given}))
        with lorasc.Model(folder) as model:
            assert model.encode_instructions([row]).tokens[-1] == 4
    (folder / "config.json").write_text(json.dumps(config | {"eos_token_id": None}))
    with lorasc.Model(folder) as model:
        with pytest.raises(lorasc.NotFoundError, match="add_eos=False"):
            model.encode_instructions([row])
        assert len(model.encode_instructions([row], add_eos=False).tokens) == 2


# ---- Conversations --------------------------------------------------------------------


def test_every_answer_of_a_conversation_is_learned(chat: lorasc.Model) -> None:
    peer = AutoTokenizer.from_pretrained(chat.path)
    names = ("answer", "system", "turns", "signs")
    batch = chat.encode_instructions({"messages": CONVERSATIONS[name]} for name in names)
    for row, name in enumerate(names):
        expected = peer.apply_chat_template(
            CONVERSATIONS[name], return_dict=True, return_assistant_tokens_mask=True
        )
        assert batch.row(row).tolist() == expected["input_ids"]
        span = slice(batch.offsets[row], batch.offsets[row + 1])
        mask = (batch.token_labels[span] != IGNORED).astype(int).tolist()
        assert mask == expected["assistant_masks"]


def test_a_template_without_marks_gives_the_same(tmp_path: Path, chat: lorasc.Model) -> None:
    rows = [{"messages": CONVERSATIONS[name]} for name in ("answer", "system", "turns", "signs")]
    expected = chat.encode_instructions(rows)
    with lorasc.Model(make_chat_model(tmp_path, byte_tokenizer(), CHATML)) as model:
        found = model.encode_instructions(rows)
    assert found.tokens.tolist() == expected.tokens.tolist()
    assert found.token_labels.tolist() == expected.token_labels.tolist()


def test_texts_and_messages_as_chat_are_the_same(chat: lorasc.Model) -> None:
    question, answer = "Who are you?", "A model."
    texts = chat.encode_instructions([{"prompt": question, "completion": answer}], as_chat=True)
    asked, answered = said(("user", question), ("assistant", answer))
    for row in ({"prompt": [asked], "completion": [answered]}, {"messages": [asked, answered]}):
        batch = chat.encode_instructions([row])
        assert batch.tokens.tolist() == texts.tokens.tolist()
        assert batch.token_labels.tolist() == texts.token_labels.tolist()
    assert learned(chat, texts) == "A model.<|im_end|>\n"
    asking = chat.encode_chat([asked], add_generation_prompt=True).tokens
    assert texts.tokens[: len(asking)].tolist() == asking.tolist()
    assert (texts.token_labels != IGNORED).nonzero()[0][0] == len(asking)


def test_only_the_completion_of_a_conversation_is_learned(chat: lorasc.Model) -> None:
    turns = CONVERSATIONS["turns"]
    batch = chat.encode_instructions([{"prompt": turns[:3], "completion": turns[3:]}])
    assert learned(chat, batch) == "A model.<|im_end|>\n"


def test_tools_of_a_row_reach_the_template(tmp_path: Path) -> None:
    template = "{{ tools | length if tools else 'none' }}" + CHATML_GENERATION
    with lorasc.Model(make_chat_model(tmp_path, byte_tokenizer(), template)) as model:
        row = {"messages": CONVERSATIONS["answer"]}
        texts = [
            model.tokenizer.decode(model.encode_instructions([each]).tokens.tolist())
            for each in (row, row | {"tools": [TOOL]})
        ]
    assert texts[0].startswith("none")
    assert texts[1].startswith("1")


# ---- Long rows ------------------------------------------------------------------------


def test_long_rows_are_refused_or_cut_with_a_warning(chat: lorasc.Model) -> None:
    short = {"prompt": "a", "completion": "b"}
    long = {"prompt": "Who?", "completion": " four" * 200}
    with pytest.raises(lorasc.DataError, match=r"row 1: \d+ tokens, the model has 96") as caught:
        chat.encode_instructions([short, long])
    assert (caught.value.status, caught.value.subject) == (S.LIMIT, "row 1")
    for options, length in (({"truncate": True}, 96), ({"max_length": 12}, 12)):
        with pytest.warns(UserWarning, match=f"1 of 2 rows were cut to {length} tokens"):
            batch = chat.encode_instructions([short, long], **options)
        assert len(batch.row(1)) == length
        assert "</s>" not in learned(chat, batch, 1)
    with pytest.raises(lorasc.DataError, match="max_length 97"):
        chat.encode_instructions([short], max_length=97)


@pytest.mark.parametrize("options", [{}, {"truncate": True}, {"max_length": 5}], ids=str)
@pytest.mark.parametrize("as_chat", [False, True])
def test_a_prompt_that_fills_the_row_is_refused(
    options: dict[str, Any], as_chat: bool, chat: lorasc.Model
) -> None:
    row = {"prompt": "Why? " * 100, "completion": "So."}
    with pytest.raises(lorasc.DataError, match=r"row 0: \d+ tokens of the prompt alone") as caught:
        chat.encode_instructions([row], as_chat=as_chat, **options)
    assert caught.value.status is S.LIMIT


# ---- Bad rows -------------------------------------------------------------------------

GOOD = {"prompt": "a", "completion": "b"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "a", "completion": ""}, "the completion is empty"),
        ({"messages": said(("user", "a"), ("assistant", ""))}, "the completion is empty"),
        ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant"}]}, "empty"),
        ({"messages": said(("user", "a"))}, "no message to learn"),
        ({"messages": []}, "no message to learn"),
        ({"prompt": said(("user", "a")), "completion": said(("user", "b"))}, "no message to learn"),
        ({"prompt": "a"}, "keys prompt; prompt and completion, or messages, are due"),
        ({"question": "a", "answer": "b"}, "keys question, answer; prompt"),
        ({}, "no keys; prompt"),
        (GOOD | {"messages": []}, "keys prompt, completion, messages; prompt"),
        ({"prompt": "a", "completion": said(("assistant", "b"))}, "not both texts or both lists"),
        ({"prompt": "a", "completion": None}, "not both texts or both lists"),
        ({"prompt": 1, "completion": "b"}, "not both texts or both lists"),
        ({"messages": "a"}, "not both texts or both lists"),
        ({"messages": ["a"]}, "no message to learn"),
        ({"messages": [7, *said(("assistant", "b"))]}, "message 0 is no mapping with a role"),
        ("a text", "a str, not a mapping"),
        (["a", "b"], "a list, not a mapping"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_rows(row: Any, message: str, chat: lorasc.Model) -> None:
    with pytest.raises(lorasc.DataError, match=message) as caught:
        chat.encode_instructions([GOOD, row])
    assert caught.value.subject == "row 1"
    assert str(caught.value).startswith("row 1")


def test_nothing_to_learn(chat: lorasc.Model) -> None:
    with pytest.raises(lorasc.DataError, match="there are no rows"):
        chat.encode_instructions(iter([]))
    with pytest.raises(lorasc.DataError, match="row 0: no token is left to learn") as caught:
        chat.encode_instructions([{"prompt": "", "completion": "b"}], add_eos=False)
    assert caught.value.status is S.NO_LOSS


def test_a_folder_without_a_template(pieces: lorasc.Model) -> None:
    assert len(pieces.encode_instructions([GOOD]))
    for rows, options in (
        ([GOOD], {"as_chat": True}),
        ([{"messages": CONVERSATIONS["answer"]}], {}),
    ):
        with pytest.raises(lorasc.NotFoundError, match=r"tokenizer_config\.json: no chat_template"):
            pieces.encode_instructions(rows, **options)


def test_json_lines(tmp_path: Path, chat: lorasc.Model) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(
        '{"prompt": "a", "completion": "ä\\u2028"}\n\n{"prompt": "b", "completion": "c"}'
    )
    rows = lorasc.read_jsonl(file)
    assert next(rows) == {"prompt": "a", "completion": "ä\u2028"}
    assert len(chat.encode_instructions(rows)) == 1
    for bad in ("[1]", "{", "nonsense"):
        file.write_text("{}\n" + bad + "\n")
        with pytest.raises(lorasc.FormatError, match="line 2"):
            list(lorasc.read_jsonl(file))
    with pytest.raises(FileNotFoundError):
        list(lorasc.read_jsonl(tmp_path / "nowhere"))


# ---- Training -------------------------------------------------------------------------

ROWS = [
    {"prompt": f"What is {name}?", "completion": f" {name} is {value}."}
    for name, value in (("two", "four"), ("rain", "grey"), ("sky", "wind"), ("who", "a model"))
] * 4


@pytest.mark.parametrize("kind", ["texts", "as_chat", "messages"])
def test_finetune_on_instructions(kind: str, chat: lorasc.Model, tmp_path: Path) -> None:
    rows, options = ROWS, {"as_chat": kind == "as_chat"}
    if kind == "messages":
        rows = [
            {"messages": said(("user", row["prompt"]), ("assistant", row["completion"]))}
            for row in ROWS
        ]
    with lorasc.finetune(
        chat.path,
        iter(rows),
        eval_texts=rows[:4],
        output_dir=tmp_path / "merged",
        progress=None,
        epochs=8,
        batch_size=4,
        learning_rate=2e-2,
        target_modules="all-linear",
        **options,
    ) as result:
        assert result.adapter.info.head == "lm"
        evaluation = result.evaluate(rows[:4])
        assert result.perplexity == pytest.approx(evaluation.perplexity, rel=1e-6)
        assert result.perplexity < 0.75 * result.before.perplexity
        assert evaluation.rows == result.before.rows
        batch = chat.encode_instructions(rows[:4], **options)
        assert evaluation.rows == (batch.token_labels != IGNORED).sum()
        expected = result.adapter.predict(batch, "token_logits")
        ids = batch.row(0)[:4]
        assert result.generate(ids, 4) == result.adapter.generate(ids, 4)
        with pytest.raises(lorasc.StateError, match="no labels"):
            result.predict(["Who?"])
    with lorasc.Model(tmp_path / "merged") as merged:
        assert np.abs(merged.predict(batch, "token_logits") - expected).max() < 1e-4
        assert merged.chat_template.templates == chat.chat_template.templates


def test_the_loss_is_that_of_transformers(chat: lorasc.Model) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    batch = chat.encode_instructions([{"messages": CONVERSATIONS["turns"]}])
    peer = AutoModelForCausalLM.from_pretrained(chat.path).eval()
    ids = torch.from_numpy(batch.tokens.astype(np.int64))[None]
    labels = torch.from_numpy(batch.token_labels.astype(np.int64))[None]
    expected = peer(input_ids=ids, labels=labels).loss.item()
    with lorasc.Adapter(chat, method="lora") as adapter, lorasc.Trainer(chat, adapter) as trainer:
        assert trainer.evaluate(batch).loss == pytest.approx(expected, rel=1e-5)


def test_mistakes_in_one_call(chat: lorasc.Model, minilm_path: Path) -> None:
    with pytest.raises(lorasc.DataError, match="row 0: a str, not a mapping"):
        lorasc.finetune(chat.path, ["a text whose label was forgotten"])
    with pytest.raises(ValueError, match="come together"):
        lorasc.finetune(chat.path, ROWS, eval_texts=ROWS, eval_labels=[1])
    with pytest.raises(lorasc.OptionError, match="needs an output layer"):
        lorasc.finetune(minilm_path, ROWS)


def test_a_bar_shows_perplexity(chat: lorasc.Model, capsys: pytest.CaptureFixture[str]) -> None:
    with lorasc.finetune(chat.path, ROWS, eval_texts=ROWS[:4], epochs=1) as result:
        shown = f"perplexity {result.perplexity:.2f}"
    assert shown in capsys.readouterr().err


# ---- Real data and the example --------------------------------------------------------


@pytest.mark.parametrize("name", ["e2e_valid", "gsm8k_test"])
def test_rows_of_real_data(name: str, smollm2: lorasc.Model, data_folder: Path) -> None:
    rows = list(itertools.islice(lorasc.read_jsonl(data_folder / f"{name}.jsonl"), 300))
    batch = smollm2.encode_instructions(rows, as_chat=True)
    plain = smollm2.encode_instructions(rows, separator="\n")
    for index, row in enumerate(rows):
        assert learned(smollm2, batch, index) == row["completion"] + "<|im_end|>\n"
        assert learned(smollm2, plain, index) == row["completion"] + "<|im_end|>"
        whole = smollm2.tokenizer.decode(plain.row(index).tolist(), skip_special_tokens=False)
        assert whole == f"{row['prompt']}\n{row['completion']}<|im_end|>"


def shown_perplexities(printed: str) -> tuple[float, float]:
    before, after = re.search(r"before ([\d.]+), after ([\d.]+)", printed).groups()
    return float(before), float(after)


def test_example_on_data_of_ones_own(repository: Path, chat: lorasc.Model, tmp_path: Path) -> None:
    texts, turns = tmp_path / "texts.jsonl", tmp_path / "turns.jsonl"
    texts.write_text("\n".join(map(json.dumps, ROWS)))
    messages = [
        {"messages": said(("user", row["prompt"]), ("assistant", row["completion"]))}
        for row in ROWS
    ]
    turns.write_text("\n".join(map(json.dumps, messages)))
    common = ("--model", chat.path, "--epochs", 4, "--max-length", 80)
    found = []
    for name, given in (("a", (texts,)), ("b", (turns,)), ("c", (texts, "--plain"))):
        output = tmp_path / name
        printed = run_example(
            repository, "instruct.py", *common, "--output", output, "--data", *given
        )
        found.append(shown_perplexities(printed))
        assert found[-1][1] < found[-1][0]
        lorasc.Model(output).close()
    assert found[0] == found[1] != found[2]


def test_example_on_smollm2(repository: Path, smollm2: lorasc.Model, tmp_path: Path) -> None:
    options = ("--rows", 24, "--epochs", 1, "--max-length", 64, "--output", tmp_path / "model")
    before, after = shown_perplexities(
        run_example(repository, "instruct.py", "--model", smollm2.path, *options)
    )
    assert after < before
    with lorasc.Model(tmp_path / "model") as model:
        assert model.chat_template.templates == smollm2.chat_template.templates


def test_files_for_programs_without_a_tokenizer(
    repository: Path, chat: lorasc.Model, tmp_path: Path
) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text("\n".join(map(json.dumps, ROWS)))
    options = ("--model", chat.path, "--max-length", 96)
    run_example(repository, "write_prompts.py", data, tmp_path, *options)
    batch = chat.encode_instructions(ROWS, as_chat=True)
    for name, first, count in (("dev", 0, 3), ("train", 3, 13)):
        lines = (tmp_path / f"{name}.prompts").read_text().splitlines()
        assert lines[0] == f"lorasc-prompts 1 {count}"
        assert len(lines) == 1 + count
        for row, line in enumerate(lines[1:], start=first):
            length, prompt, *ids = map(int, line.split())
            assert ids == batch.row(row).tolist()
            labels = batch[row : row + 1].token_labels
            assert (length, prompt) == (len(ids), (labels == IGNORED).sum())
