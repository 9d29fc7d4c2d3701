"""Options: the table, conversion from Python, and refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest

import lorasc

TABLE = lorasc.options()


def test_table_is_complete_and_prints() -> None:
    assert len(TABLE) == len({option.key for option in TABLE})
    text = str(TABLE)
    for option in TABLE:
        assert option.type in {"integer", "number", "boolean", "choice", "text", "list"}
        assert option.scope in {"model", "adapter", "trainer"}
        assert option.help.endswith(".")
        assert option.key in text
        assert option.help in text


@pytest.mark.parametrize("option", TABLE, ids=lambda option: option.key)
def test_default_is_what_get_gives_and_set_takes(option: lorasc.OptionInfo) -> None:
    with lorasc.Options() as options:
        value = options.get(option.key)
        assert same_text(value, option.default)
        options.set(option.key, option.default)
        assert same_text(options.get(option.key), value)


@pytest.mark.parametrize("option", TABLE, ids=lambda option: option.key)
def test_bounds_hold(option: lorasc.OptionInfo) -> None:
    with lorasc.Options() as options:
        for text, outward in ((option.minimum, -math.inf), (option.maximum, math.inf)):
            if text == "":
                continue
            whole = option.type == "integer"
            bound = int(float(text)) if whole else float(text)
            options.set(option.key, bound)
            assert float(options.get(option.key)) == bound
            step = math.copysign(max(1, abs(bound) * 1e-3), outward)
            before = options.get(option.key)
            with pytest.raises(lorasc.OptionError) as caught:
                options.set(option.key, int(bound + step) if whole else bound + step)
            assert caught.value.subject == option.key
            assert caught.value.status is lorasc.Status.OPTION
            assert options.get(option.key) == before


@pytest.mark.parametrize("option", [o for o in TABLE if o.choices], ids=lambda option: option.key)
def test_choices(option: lorasc.OptionInfo) -> None:
    with lorasc.Options() as options:
        for choice in option.choices:
            options.set(option.key, choice)
            assert options.get(option.key) == choice
        with pytest.raises(lorasc.OptionError):
            options.set(option.key, "no such word")


@pytest.mark.parametrize(
    "option",
    [o for o in TABLE if o.type in ("integer", "number", "boolean")],
    ids=lambda option: option.key,
)
@pytest.mark.parametrize("bad", ["", "abc", "1 2", "nan", "inf", "0x10", "1e400"])
def test_malformed_values(option: lorasc.OptionInfo, bad: str) -> None:
    with lorasc.Options() as options, pytest.raises(lorasc.OptionError) as caught:
        options.set(option.key, bad)
    assert caught.value.subject == option.key


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("use_rslora", True, "true"),
        ("use_rslora", np.bool_(False), "false"),
        ("r", np.int64(5), "5"),
        ("learning_rate", np.float32(0.5), "0.5"),
        ("target_modules", ["query", "key"], "query,key"),
        ("class_weights", np.array([1.0, 2.5]), "1.0,2.5"),
        ("cascade_list", (3, 4), "3,4"),
        ("id2label", {1: "b", 0: "a"}, "a,b"),
        ("id2label", {"10": "k", "9": "j"}, "j,k"),
        ("target_modules", r".*\.(query|key)", r".*\.(query|key)"),
    ],
)
def test_python_values(key: str, value: object, text: str) -> None:
    with lorasc.Options({key: value}) as options:
        assert options.get(key) == text


def test_none_leaves_the_default() -> None:
    with lorasc.Options({"r": None}) as options:
        assert options.get("r") == "8"


def test_values_that_no_option_has() -> None:
    with pytest.raises(TypeError, match="r: "):
        lorasc.Options({"r": object()})
    with pytest.raises(lorasc.OptionError, match="comma"):
        lorasc.Options({"id2label": ["a,b", "c"]})
    with pytest.raises(lorasc.ArgumentError, match="NUL"):
        lorasc.Options({"target_modules": "query\0value"})


def test_unknown_option_is_named(tiny: lorasc.Model) -> None:
    with pytest.raises(lorasc.OptionError) as caught:
        lorasc.Options({"rank": 8})
    assert caught.value.subject == "rank"
    with pytest.raises(ValueError, match="rank"):
        lorasc.Adapter(tiny, rank=8)


def test_option_at_the_wrong_place_is_refused(tiny: lorasc.Model) -> None:
    with pytest.raises(lorasc.OptionError, match="trainer"):
        lorasc.Adapter(tiny, epochs=3)
    adapter = lorasc.Adapter(tiny)
    with pytest.raises(lorasc.OptionError, match="adapter"):
        lorasc.Trainer(tiny, adapter, r=4)
    with pytest.raises(lorasc.OptionError, match="adapter"):
        lorasc.Model(tiny.path, r=4)


def test_json_is_all_or_nothing() -> None:
    with lorasc.Options() as options:
        options.load_json('{"r": 4, "use_rslora": true, "class_weights": [1, 2], "seed": null}')
        assert options.get("r") == "4"
        assert options.get("use_rslora") == "true"
        assert [float(w) for w in options.get("class_weights").split(",")] == [1, 2]
        assert options.get("seed") == "0"
        with pytest.raises(lorasc.OptionError) as caught:
            options.load_json('{"r": 16, "no_such": 1}')
        assert caught.value.subject == "no_such"
        assert options.get("r") == "4"
        for bad in ("", "[]", "{", '{"r": 4, "r": 5}', '{"r": {"a": 1}}', "{" * 100000):
            with pytest.raises(lorasc.LorascError):
                options.load_json(bad)
        assert options.get("r") == "4"


def same_text(value: str, other: str) -> bool:
    """Equal, or the same number."""
    try:
        return value == other or float(value) == float(other)
    except ValueError:
        return False
