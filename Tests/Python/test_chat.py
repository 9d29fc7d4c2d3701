"""Chat templates: the same text and tokens as transformers' apply_chat_template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chat_models import byte_tokenizer, make_chat_model, piece_tokenizer, write_tokenizer
from chat_templates import CHATML, CHATML_GENERATION, CONVERSATIONS, TEMPLATES, TOOL, said
from transformers import AutoTokenizer

import lorasc
from lorasc.chat import ChatTemplate

S = lorasc.Status


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer's folder with all templates, by their names."""
    folder = tmp_path_factory.mktemp("chat")
    named = [{"name": name, "template": text} for name, text in TEMPLATES.items()]
    write_tokenizer(folder, byte_tokenizer(), named)
    return folder


@pytest.fixture(scope="module")
def peer(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("options", [{}, {"tools": [TOOL]}, {"enable_thinking": False}], ids=str)
@pytest.mark.parametrize("name", TEMPLATES)
def test_texts_are_those_of_transformers(
    name: str, options: dict[str, Any], folder: Path, peer: Any
) -> None:
    ours, refused = ChatTemplate(folder), 0
    for conversation in CONVERSATIONS.values():
        for asks in (False, True):
            given = options | {"add_generation_prompt": asks}
            try:
                expected = peer.apply_chat_template(
                    conversation, chat_template=name, tokenize=False, **given
                )
            except Exception:
                refused += 1
                with pytest.raises(lorasc.DataError, match="does not take the conversation"):
                    ours.render(conversation, template=name, **given)
            else:
                assert ours.render(conversation, template=name, **given) == expected
    assert refused < 2 * len(CONVERSATIONS) * 0.6


def test_documents_and_templates_given_as_text(folder: Path, peer: Any) -> None:
    documents = [{"title": "sky", "text": "It is <blue>."}, {"title": "sea", "text": "Ähnlich"}]
    for template in ("macros", TEMPLATES["macros"], "{{ documents | tojson }}{{ messages[0].x }}"):
        ours = ChatTemplate(folder).render(
            CONVERSATIONS["answer"], template=template, documents=documents
        )
        assert ours == peer.apply_chat_template(
            CONVERSATIONS["answer"], chat_template=template, documents=documents, tokenize=False
        )


def test_templates_in_files_come_first(folder: Path, tmp_path: Path) -> None:
    write_tokenizer(tmp_path, byte_tokenizer(), "from tokenizer_config.json")
    question = CONVERSATIONS["question"]
    assert ChatTemplate(tmp_path).render(question) == "from tokenizer_config.json"
    (tmp_path / "chat_template.jinja").write_text("from a file\n")
    more = tmp_path / "additional_chat_templates"
    for names in ((), ("tool_use", "rag")):
        for name in names:
            more.mkdir(exist_ok=True)
            (more / f"{name}.jinja").write_text(f"for {name}")
        ours, peer = ChatTemplate(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
        for options in ({}, {"tools": [TOOL]}):
            expected = peer.apply_chat_template(question, tokenize=False, **options)
            assert ours.render(question, **options) == expected
    assert ours.render(question, template="rag") == "for rag"


def test_special_tokens_of_old_files(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, byte_tokenizer(), "{{ bos_token }}|{{ eos_token }}|{{ pad_token }}")
    question = CONVERSATIONS["question"]
    (tmp_path / "special_tokens_map.json").write_text(
        json.dumps({"bos_token": "<|im_start|>", "pad_token": {"content": "<unk>"}})
    )
    expected = AutoTokenizer.from_pretrained(tmp_path).apply_chat_template(question, tokenize=False)
    assert ChatTemplate(tmp_path).render(question) == expected == "<|im_start|>|</s>|<unk>"


@pytest.mark.parametrize("tokenizer", [byte_tokenizer, piece_tokenizer])
@pytest.mark.parametrize("name", ["chatml", "brackets", "headers"])
def test_tokens_are_those_of_transformers(tokenizer: Any, name: str, tmp_path: Path) -> None:
    make_chat_model(tmp_path, tokenizer(), TEMPLATES[name], positions=512)
    peer = AutoTokenizer.from_pretrained(tmp_path)
    with lorasc.Model(tmp_path) as model:
        kept = [CONVERSATIONS[each] for each in ("answer", "system", "turns")]
        for asks in (False, True):
            batch = model.encode_chat(kept, add_generation_prompt=asks)
            expected = peer.apply_chat_template(kept, add_generation_prompt=asks)["input_ids"]
            assert [batch.row(row).tolist() for row in range(len(batch))] == expected
        alone = model.encode_chat(kept[0])
        assert alone.tokens.tolist() == peer.apply_chat_template(kept[0])["input_ids"]
        assert np.isfinite(model.predict(alone)).all()
        with pytest.raises(lorasc.DataError, match=r"conversation 0 has .* tokens"):
            model.encode_chat(said(("user", "word " * 600)))
        cut = model.encode_chat(said(("user", "word " * 600)), max_length=8)
        assert len(cut.tokens) == 8


def test_smollm2(smollm2: lorasc.Model) -> None:
    """The template and tokenizer of a real model."""
    peer = AutoTokenizer.from_pretrained(smollm2.path)
    for conversation in CONVERSATIONS.values():
        if all(isinstance(message["content"], str) for message in conversation):
            for asks in (False, True):
                given = {"add_generation_prompt": asks}
                expected = peer.apply_chat_template(conversation, tokenize=False, **given)
                assert smollm2.apply_chat_template(conversation, **given) == expected
                ids = peer.apply_chat_template(conversation, **given)["input_ids"]
                assert smollm2.encode_chat(conversation, **given).tokens.tolist() == ids


# ---- Where the answers are ------------------------------------------------------------


@pytest.mark.parametrize("conversation", ["answer", "system", "turns", "signs", "specials"])
def test_answers_are_found_with_and_without_generation_marks(conversation: str) -> None:
    messages = CONVERSATIONS[conversation]
    plain = render_turns(CHATML, messages)
    assert plain == render_turns(CHATML_GENERATION, messages)
    text, spans = plain
    answers = [each["content"] for each in messages if each["role"] == "assistant"]
    assert [text[start:end] for start, end in spans] == [f"{each}<|im_end|>\n" for each in answers]


def render_turns(template: str, messages: Any, **options: Any) -> Any:
    form = ChatTemplate.__new__(ChatTemplate)
    form.templates, form.special_tokens, form._source = {"default": template}, {}, "a test"
    return form.render_turns(messages, **options)


@pytest.mark.parametrize("name", ["brackets", "headers", "turns"])
def test_answers_of_other_templates(name: str, folder: Path) -> None:
    text, spans = ChatTemplate(folder).render_turns(CONVERSATIONS["turns"], template=name)
    found = [text[start:end] for start, end in spans]
    end = {"brackets": " </s>", "headers": "<|im_end|>", "turns": "<end_of_turn>\n"}[name]
    first = " " if name == "brackets" else ""
    assert found == [f"{first}Hi.{end}", f"{first}A model.{end}"]


def test_only_answers_after_the_prompt_count() -> None:
    for template in (CHATML, CHATML_GENERATION):
        text, [span] = render_turns(template, CONVERSATIONS["turns"], first=2)
        assert text[slice(*span)] == "A model.<|im_end|>\n"


def test_a_template_that_rewrites_earlier_turns_is_refused(folder: Path) -> None:
    thought = CONVERSATIONS["thought"] + said(("assistant", "Now too"))
    with pytest.raises(lorasc.DataError, match="message 1 is written in another way"):
        ChatTemplate(folder).render_turns(thought, template="thinking")
    text, [span] = ChatTemplate(folder).render_turns(thought, first=3, template="thinking")
    assert text[slice(*span)].endswith("</think>\n\nNow too<|im_end|>\n")
    with pytest.raises(lorasc.DataError, match="message 0 is the assistant's"):
        render_turns(CHATML, said(("assistant", "Hello")))


def test_text_that_holds_the_marks_is_refused() -> None:
    with pytest.raises(lorasc.DataError, match="U\\+FDD0"):
        render_turns(CHATML_GENERATION, said(("user", "a"), ("assistant", "b\ufdd0c")))


# ---- Bad input ------------------------------------------------------------------------


def test_no_template(tmp_path: Path) -> None:
    make_chat_model(tmp_path, byte_tokenizer())
    with lorasc.Model(tmp_path) as model:
        for call in (model.apply_chat_template, model.encode_chat):
            with pytest.raises(lorasc.NotFoundError, match="no chat_template") as caught:
                call(CONVERSATIONS["question"])
            assert str(tmp_path / "tokenizer_config.json") in str(caught.value)
        (tmp_path / "tokenizer_config.json").unlink()
        with pytest.raises(lorasc.NotFoundError, match=r"tokenizer_config\.json"):
            model.encode_chat(CONVERSATIONS["question"])


@pytest.mark.parametrize("given", [7, [7], [{"name": "a"}], {"a": 1}], ids=str)
def test_templates_of_other_types(given: Any, tmp_path: Path) -> None:
    write_tokenizer(tmp_path, byte_tokenizer(), given)
    with pytest.raises(lorasc.FormatError, match="neither a text nor named texts"):
        ChatTemplate(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{", "\xff", "[" * 100_000])
def test_a_damaged_tokenizer_config(text: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(lorasc.FormatError, match=r"tokenizer_config\.json"):
        ChatTemplate(tmp_path)


@pytest.mark.parametrize(
    ("template", "error", "message"),
    [
        ("{% for %}", lorasc.FormatError, "line 1"),
        ("a\n\n{% endif %}", lorasc.FormatError, "line 3"),
        ("{{ x | no_such_filter }}", lorasc.FormatError, "no_such_filter"),
        ("{{ raise_exception('not so') }}", lorasc.DataError, "not so"),
        ("{{ messages[9].content }}", lorasc.DataError, "no element 9"),
        ("{{ messages[0].content + 1 }}", lorasc.DataError, "str"),
        ("{{ 1 / 0 }}", lorasc.DataError, "ZeroDivision"),
        ("{{ messages.append(1) }}", lorasc.DataError, "append"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", lorasc.DataError, "__class__"),
        ("{% for x in range(999999999) %}{% endfor %}", lorasc.DataError, "Range too big"),
    ],
)
def test_bad_templates(template: str, error: type, message: str, folder: Path) -> None:
    with pytest.raises(error, match=message):
        ChatTemplate(folder).render(CONVERSATIONS["question"], template=template + "{# #}")


@pytest.mark.parametrize(
    "template",
    [
        "{{ '' | attr('__class__') }}",
        "{{ raise_exception.__globals__ }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ ('%s' | format(1)).__class__ }}",
        "{{ '{0.__class__}'.format(1) }}",
        "{{ self.__init__ }}",
    ],
)
def test_templates_see_nothing_of_python(template: str, folder: Path) -> None:
    try:
        assert ChatTemplate(folder).render(CONVERSATIONS["question"], template=template) == ""
    except lorasc.DataError as error:
        assert "unsafe" in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    "messages",
    [
        [],
        ["user: hello"],
        [{"content": "no role"}],
        [{"role": 1, "content": "x"}],
        [{"from": "human", "value": "x"}],
        [{"role": "user", "content": b"bytes"}],
        [{"role": "user", "content": {1, 2}}],
    ],
    ids=str,
)
def test_bad_conversations(messages: Any, folder: Path) -> None:
    with pytest.raises(lorasc.DataError, match="does not take the conversation") as caught:
        ChatTemplate(folder).render(messages, template="chatml")
    assert caught.value.status is S.SHAPE


def test_unknown_names_of_templates(folder: Path) -> None:
    for options in ({"template": "no_such"}, {}):
        with pytest.raises(lorasc.NotFoundError, match="brackets, chatml"):
            ChatTemplate(folder).render(CONVERSATIONS["question"], **options)
