"""Teaches a smaller adapter what a fine-tuned model knows: its outputs are the loss.

    python examples/python/finetune.py --output teacher
    python examples/python/distill.py --teacher teacher --output student

The texts need no labels: of each row the loss knows the number, and looks the teacher's answer up
(Hinton et al. 2015). Debian's fortunes.
"""

import argparse

import numpy as np
from models import find_model

import lorasc

import fortunes

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--model", default="minilm", help="a known name, or a model's folder")
parser.add_argument("--teacher", required=True, help="a merged model's folder")
parser.add_argument("--temperature", type=float, default=2.0)
parser.add_argument("--texts", type=int, help="learn from so many; without it from all")
parser.add_argument("--rank", type=int, default=2)
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--output", default="build/student", help="folder for the merged model")
arguments = parser.parse_args()


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities of each row, at the temperature."""
    scaled = logits.astype(np.float64) / arguments.temperature
    shares = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


texts = fortunes.load()["train"].texts[: arguments.texts]
with lorasc.Model(arguments.teacher) as teacher:
    answers = teacher.predict(teacher.encode(texts, fortunes.MAX_LENGTH))
probabilities = softmax(answers)


def imitate(outputs: lorasc.LossOutputs) -> float:
    """T² times the cross-entropy with the teacher's probabilities, by rows' weights."""
    wanted, given = probabilities[outputs.rows], softmax(outputs.logits)
    scale = arguments.temperature**2 * outputs.weights.astype(np.float64)
    if outputs.gradient is not None:
        outputs.gradient[:] = scale[:, None] * (given - wanted) / arguments.temperature
    return float(scale @ -(wanted * np.log(given)).sum(axis=1))


model = lorasc.Model(find_model(arguments.model))
adapter = lorasc.Adapter(model, r=arguments.rank, num_labels=answers.shape[1])
trainer = lorasc.Trainer(model, adapter, epochs=arguments.epochs, learning_rate=3e-3)
# Labels are what accuracies compare with: here they tell how often both agree.
rows = model.encode(texts, fortunes.MAX_LENGTH, labels=answers.argmax(axis=1))
trainer.set_loss(imitate)
before = trainer.evaluate(rows)
trainer.run(rows, progress=True)
after = trainer.evaluate(rows)
print(f"loss before {before.loss:.3f}, after {after.loss:.3f}")
print(f"as the teacher: {before.accuracy:.3f} of the texts before, {after.accuracy:.3f} after")
adapter.merge(arguments.output)
print(f"Merged model: {arguments.output}")
