"""What PyTorch models may be handed wrong, and calls after the end.

Each is an exception that names the offender, and training goes on after it.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch_twins import OPTIONS, Network, data, network, train
from transformers import Trainer, TrainerCallback, TrainingArguments

import lorasc
import lorasc.torch


@pytest.fixture
def attached() -> lorasc.torch.Attached:
    return lorasc.torch.attach(network(), method="lora", **OPTIONS)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_other_types_of_x(attached: lorasc.torch.Attached, dtype: torch.dtype) -> None:
    with pytest.raises(lorasc.ArgumentError, match=str(dtype)):
        attached.layers["fc1"](torch.ones(2, 6, dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_x_is_computed_in_float32(attached: lorasc.torch.Attached, dtype: torch.dtype) -> None:
    layer = attached.layers["fc1"]
    x = torch.randn(2, 6).to(dtype)
    assert torch.equal(layer(x), layer(x.float()).to(dtype))


@pytest.mark.parametrize("shape", [(6, 5), (5,), (0, 5), (2, 3, 7), ()])
def test_other_shapes_of_x(attached: lorasc.torch.Attached, shape: tuple[int, ...]) -> None:
    with pytest.raises(lorasc.DataError, match="6 features"):
        attached.layers["fc1"](torch.ones(shape))


def test_x_without_rows(attached: lorasc.torch.Attached) -> None:
    layer = attached.layers["fc1"]
    x = torch.zeros(0, 3, 6, requires_grad=True)
    y = layer(x)
    assert y.shape == (0, 3, 16)
    y.sum().backward()
    assert x.grad.shape == x.shape
    assert not layer.lora_B.grad.any()


def test_layouts(attached: lorasc.torch.Attached) -> None:
    """Transposed, expanded and strided activations, and gradients of Y that are expanded."""
    layer = attached.layers["fc1"]
    for x in (
        torch.randn(6, 4).T,
        torch.randn(1, 6).expand(4, 6),
        torch.randn(4, 12)[:, ::2],
        torch.randn(3, 6, 2).movedim(1, 2),
    ):
        x = x.detach().requires_grad_(True)
        plain = x.detach().clone(memory_format=torch.contiguous_format).requires_grad_(True)
        layer(x).sum().backward()
        layer(plain).sum().backward()
        assert torch.equal(x.grad, plain.grad)


def test_devices(attached: lorasc.torch.Attached) -> None:
    """The meta device stands for any that isn't the CPU."""
    with pytest.raises(lorasc.ArgumentError, match="meta"):
        attached.layers["fc1"](torch.empty(1, 6, device="meta"))
    with pytest.raises(lorasc.ArgumentError, match="fc1"):
        lorasc.torch.attach(network().to("meta"), method="lora")


@pytest.mark.parametrize("dtype", [torch.float64, torch.int8])
def test_other_types_of_weights(dtype: torch.dtype) -> None:
    model = network()
    model.fc2.weight = nn.Parameter(model.fc2.weight.data.to(dtype), requires_grad=False)
    with pytest.raises(lorasc.ArgumentError, match="fc2"):
        lorasc.torch.attach(model, method="lora")


def test_weights_with_gaps() -> None:
    """Gaps between rows are fine, and between the values of a row refused."""
    model, plain = network(), network()
    wide = torch.zeros(16, 9)
    wide[:, :6] = model.fc1.weight.detach()
    model.fc1.weight = nn.Parameter(wide[:, :6])
    for one in (model, plain):
        lorasc.torch.attach(one, method="lora", **OPTIONS)
    x, _ = data()
    assert torch.equal(model(x), plain(x))
    model = network()
    model.fc1.weight = nn.Parameter(torch.zeros(6, 16).T)
    with pytest.raises(lorasc.ArgumentError, match="strides"):
        lorasc.torch.attach(model, method="lora")


def test_nonfinite_weights() -> None:
    model = network()
    model.fc2.weight.data[1, 2] = torch.nan
    with pytest.raises(lorasc.NonFiniteError, match="fc2"):
        lorasc.torch.attach(model, method="lora")


def test_options() -> None:
    for key, value in (("bias", "all"), ("learning_rate", 1e-3), ("ranks", "4,2"), ("epochs", 2)):
        with pytest.raises(lorasc.OptionError, match=key):
            lorasc.torch.attach(network(), **{key: value})
    with pytest.raises(lorasc.OptionError, match="nonsense"):
        lorasc.torch.attach(network(), nonsense=1)


def test_calls_in_another_order() -> None:
    model = network()
    with pytest.raises(lorasc.DataError):
        lorasc.torch.attach(model, target_modules="nowhere")
    attached = lorasc.torch.attach(model, method="lora", **OPTIONS)
    with pytest.raises(lorasc.StateError, match="already"):
        lorasc.torch.attach(model, method="lora")
    x = torch.randn(2, 3, 7, requires_grad=True)
    with pytest.raises(lorasc.StateError, match="evaluation"):
        model.eval()(x).sum().backward()
    model.train()
    loss = model(x).sum()
    with torch.no_grad():
        attached.layers["fc2"].lora_A.add_(1)
    with pytest.raises(RuntimeError, match="inplace"):
        loss.backward()
    attached.detach()
    assert type(model.fc1) is nn.Linear


def test_after_the_end() -> None:
    """Layers that were freed, merged or detached, and handles of the engine's that were closed."""
    x = torch.ones(2, 6)
    freed = lorasc.torch.attach(network(), method="lora", **OPTIONS).layers["fc1"]
    freed._layer.close()
    with pytest.raises(lorasc.HandleError):
        freed(x)
    attached = lorasc.torch.attach(network(), method="lora", **OPTIONS)
    layer = attached.layers["fc1"]
    attached.trainer.close()
    attached.adapter.close()
    # The layer keeps what it runs on.
    assert layer(x).isfinite().all()
    attached = lorasc.torch.attach(network(), method="lora", **OPTIONS)
    layer = attached.layers["fc1"]
    late = layer(x).sum()
    attached.merge()
    for call in (lambda: layer(x), late.backward, attached.end_cascade):
        with pytest.raises(lorasc.StateError):
            call()


class Raised(Exception):
    """A callback's own."""


def raise_it(*_: Any) -> None:
    raise Raised


def disturb(attached: lorasc.torch.Attached, where: str) -> None:
    """A step that ends in the middle."""
    hook = None
    if where == "forward":
        hook = attached.layers["fc2"].register_forward_hook(raise_it)
    try:
        y = attached.model(data()[0])
        if where == "backward":
            y.register_hook(raise_it)
            y.sum().backward()
        raise_it()
    finally:
        if hook is not None:
            hook.remove()


@pytest.mark.parametrize("where", ["forward", "backward", "after"])
def test_callbacks_that_raise(where: str) -> None:
    """Hooks and a loop's own calls: the next steps are as if nothing had been."""
    losses = []
    for is_disturbed in (False, True):
        attached = lorasc.torch.attach(network(), method="lorasc", **(OPTIONS | {"noise": 0.1}))
        if is_disturbed:
            with pytest.raises(Raised):
                disturb(attached, where)
        losses.append(train(attached.model, list(attached.parameters()), 4))
    assert losses[0] == losses[1]


class RaisingCallback(TrainerCallback):
    """Of the Hugging Face Trainer's."""

    def on_step_end(self, args: Any, state: Any, control: Any, **of: Any) -> None:
        if state.global_step == 2:
            raise Raised


class WithLoss(Network):
    """As the Trainer calls a model."""

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": ((super().forward(x) - labels) ** 2).mean()}


def test_a_trainers_callback_that_raises(tmp_path: Any) -> None:
    torch.manual_seed(0)
    attached = lorasc.torch.attach(WithLoss(), method="lorasc", **OPTIONS)
    x, target = data()
    rows = [{"x": one, "labels": other} for one, other in zip(x, target, strict=True)]
    settings = TrainingArguments(
        str(tmp_path), num_train_epochs=2, per_device_train_batch_size=2, report_to="none",
        use_cpu=True, disable_tqdm=True, save_strategy="no",
    )  # fmt: skip
    callbacks = [lorasc.torch.CascadeCallback(attached), RaisingCallback()]
    trainer = Trainer(attached.model, settings, train_dataset=rows, callbacks=callbacks)
    with pytest.raises(Raised):
        trainer.train()
    assert attached.cascade == 2
    assert attached.trainer.info.step == 2
    trainer.remove_callback(callbacks[1])
    trainer.train()
    assert attached.cascade == 3
