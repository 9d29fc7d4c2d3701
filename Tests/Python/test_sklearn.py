"""LoRASCClassifier as scikit-learn uses it: its protocol, model selection, pickles, bad input."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import lorasc
from lorasc.sklearn import LoRASCClassifier

import fortunes

TOPICS = ("computers", "definitions")
SMALL = {"r": 4, "epochs": 2, "batch_size": 8, "learning_rate": 1e-2, "max_length": 24}


@pytest.fixture(scope="module")
def quotations() -> tuple[list[str], list[str]]:
    """24 texts of each topic, and their topics."""
    part = fortunes.load()["train"]
    texts: list[str] = []
    for topic in TOPICS:
        label = fortunes.TOPICS.index(topic)
        texts += [text for text, own in zip(part.texts, part.labels, strict=True) if own == label][
            :24
        ]
    return texts, [topic for topic in TOPICS for _ in range(24)]


@pytest.fixture
def classifier(minilm_path: Path) -> LoRASCClassifier:
    return LoRASCClassifier(str(minilm_path), **SMALL)


def test_fit_and_predict(
    classifier: LoRASCClassifier, quotations: tuple[list[str], list[str]]
) -> None:
    texts, topics = quotations
    assert classifier.fit(texts, topics) is classifier
    assert classifier.classes_.tolist() == sorted(TOPICS)
    assert classifier.history_.loss[-1] < classifier.history_.loss[0]
    assert classifier.score(texts, topics) > 0.8
    probabilities = classifier.predict_proba(texts)
    assert probabilities.shape == (48, 2)
    assert np.allclose(probabilities.sum(1), 1)
    predicted = classifier.predict(np.array(texts, dtype=object))
    assert predicted.tolist() == classifier.classes_[probabilities.argmax(1)].tolist()
    decision = classifier.decision_function(texts)
    assert ((decision > 0) == (predicted == classifier.classes_[1])).all()
    again = clone(classifier).fit(texts, topics)
    assert np.array_equal(again.decision_function(texts), decision)
    other = clone(classifier).set_params(random_state=1).fit(texts, topics)
    assert not np.array_equal(other.decision_function(texts), decision)


def test_more_classes_that_are_numbers(
    classifier: LoRASCClassifier, quotations: tuple[list[str], list[str]]
) -> None:
    texts, labels = quotations[0][:12], np.array([30, 10, 20] * 4)
    classifier.fit(texts, labels)
    assert classifier.classes_.tolist() == [10, 20, 30]
    assert classifier.decision_function(texts).shape == (12, 3)
    assert set(classifier.predict(texts)) <= {10, 20, 30}


def test_parameters(classifier: LoRASCClassifier) -> None:
    given = classifier.get_params()
    assert given["r"] == 4
    copied = clone(classifier)
    assert copied.get_params() == given
    assert copied is not classifier
    assert copied.set_params(r=2, method="lora").get_params() == given | {"r": 2, "method": "lora"}
    with pytest.raises(ValueError, match="rank"):
        copied.set_params(rank=3)


def test_pickled(classifier: LoRASCClassifier, quotations: tuple[list[str], list[str]]) -> None:
    texts, topics = quotations
    empty = pickle.loads(pickle.dumps(classifier))
    assert empty.get_params() == classifier.get_params()
    expected = classifier.fit(texts, topics).predict_proba(texts)
    content = pickle.dumps(classifier)
    del classifier
    again = pickle.loads(content)
    assert np.abs(again.predict_proba(texts) - expected).max() < 1e-5
    assert again.classes_.tolist() == sorted(TOPICS)
    twice = pickle.loads(pickle.dumps(again))
    assert np.array_equal(twice.predict_proba(texts), again.predict_proba(texts))


def test_saved_model(
    classifier: LoRASCClassifier, quotations: tuple[list[str], list[str]], tmp_path: Path
) -> None:
    texts, topics = quotations
    classifier.fit(texts, topics).save(str(tmp_path / "merged"))
    with lorasc.Model(tmp_path / "merged") as model:
        logits = model.predict(model.encode(texts, SMALL["max_length"]))
    found = logits[:, 1] - logits[:, 0]
    assert np.abs(found - classifier.decision_function(texts)).max() < 1e-4


def test_model_selection(
    classifier: LoRASCClassifier, quotations: tuple[list[str], list[str]]
) -> None:
    scores = cross_val_score(classifier, *quotations, cv=3)
    assert scores.shape == (3,)
    assert scores.mean() > 0.6
    search = GridSearchCV(classifier, {"method": ["lora", "lorasc"], "r": [2]}, cv=2)
    search.fit(*quotations)
    assert search.best_params_["method"] in ("lora", "lorasc")
    assert search.predict(quotations[0]).shape == (48,)


def test_in_a_pipeline(
    classifier: LoRASCClassifier, quotations: tuple[list[str], list[str]]
) -> None:
    def lower(texts: Sequence[str]) -> list[str]:
        return [text.lower() for text in texts]

    chain = make_pipeline(FunctionTransformer(lower), classifier).fit(*quotations)
    assert chain.score(*quotations) > 0.6


def test_refused(classifier: LoRASCClassifier, quotations: tuple[list[str], list[str]]) -> None:
    texts, topics = quotations
    with pytest.raises(NotFittedError):
        classifier.predict(texts)
    with pytest.raises(ValueError, match="48 texts and 47 labels"):
        classifier.fit(texts, topics[:-1])
    with pytest.raises(ValueError, match="1 class"):
        classifier.fit(texts, ["a"] * 48)
    with pytest.raises(TypeError, match="texts"):
        classifier.fit([1, 2], ["a", "b"])
    for changes, error in (
        ({"model": "/absent"}, lorasc.NotFoundError),
        ({"method": "loraX"}, lorasc.OptionError),
        ({"r": 0}, lorasc.OptionError),
        ({"options": {"nothing": 1}}, lorasc.OptionError),
    ):
        with pytest.raises(error):
            clone(classifier).set_params(**changes).fit(texts, topics)
    classifier.fit(texts, topics)
    before = classifier.predict_proba(texts)
    with pytest.raises(ValueError, match="1 class"):
        classifier.fit(texts, ["a"] * 48)
    assert np.array_equal(classifier.predict_proba(texts), before)
