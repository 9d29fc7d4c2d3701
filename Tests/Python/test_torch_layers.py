"""lorasc.torch: engine-backed layers in PyTorch models, against autograd and PEFT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from minilm_curves import CURVE_LIMIT, minilm_curves
from torch import nn
from torch_twins import (
    GRADIENT_LIMIT,
    GRADIENT_METHODS,
    LOSS_LIMIT,
    OPTIONS,
    PEFT_METHODS,
    Network,
    data,
    draw_case,
    gradient_errors,
    largest,
    network,
    peft_difference,
    peft_twin,
    train,
)

import lorasc
import lorasc.torch


def randomize(attached: lorasc.torch.Attached) -> None:
    torch.manual_seed(6)
    with torch.no_grad():
        for layer in attached.layers.values():
            layer.lora_B.normal_(0, 0.2)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("method", GRADIENT_METHODS)
def test_gradients_are_autograds(method: str, dropout: float) -> None:
    for seed in range(6):
        case = draw_case(method, dropout, seed)
        errors = gradient_errors(case)
        assert largest(errors.values()) <= GRADIENT_LIMIT, (case, errors)
        assert set(errors) == set("YXABm" if "dora" in method else "YXAB")


@pytest.mark.parametrize("method", PEFT_METHODS)
def test_ten_steps_are_pefts(method: str) -> None:
    assert peft_difference(method, seed=0) <= LOSS_LIMIT


def test_minilm_trains_as_with_the_engines_trainer(minilm_path: Path) -> None:
    curves = minilm_curves(minilm_path, steps=3)
    assert len(curves.engine) == len(curves.torch) == 6
    assert curves.difference <= CURVE_LIMIT


def test_whose_threads_make_the_same_bits() -> None:
    found = []
    for pool in ("own", "openmp"):
        model = nn.Sequential(nn.Linear(384, 512, bias=False))
        nn.init.constant_(model[0].weight, 0.01)
        attached = lorasc.torch.attach(model, "lora", r=8, threads=2, thread_pool=pool)
        randomize(attached)
        x = torch.linspace(-1, 1, 2048 * 384).view(2048, 384).requires_grad_()
        y = model(x)
        y.square().sum().backward()
        gradients = [factor.grad for factor in attached.factors()]
        found.append([y.detach(), x.grad, *gradients])
    assert all(torch.equal(own, openmp) for own, openmp in zip(*found, strict=True))


def test_cascades_and_merge() -> None:
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    attached = lorasc.torch.attach(model, method="lorasc", **(OPTIONS | {"noise": 0.1}))
    parameters = list(attached.parameters())
    assert {id(p) for p in parameters} == {id(p) for p in attached.factors()}
    x, _ = data()
    optimizer = torch.optim.AdamW(parameters, lr=1e-2)
    train(model, parameters, 3)
    optimizer.step()
    model.eval()
    merged = model(x)
    assert attached.end_cascade(optimizer) == 2
    # The same parameters hold fresh experts, and the merged view goes on from there.
    assert all(not layer.lora_B.any() for layer in attached.layers.values())
    assert torch.allclose(model(x), merged, atol=1e-6)
    model.train()
    train(model, parameters, 3)
    model.eval()
    expected = model(x)
    plain = attached.merge()
    assert type(plain.fc1) is nn.Linear
    assert torch.allclose(plain(x), expected, atol=1e-6)
    assert not torch.equal(plain.fc1.weight, before["fc1.weight"])
    assert torch.equal(plain.conv.weight, before["conv.weight"])
    with pytest.raises(lorasc.StateError):
        attached.end_cascade()


def test_state_comes_back(tmp_path) -> None:
    def run(steps: int) -> tuple[Network, lorasc.torch.Attached]:
        model = network()
        attached = lorasc.torch.attach(model, method="lorasc", **(OPTIONS | {"noise": 0.1}))
        train(model, list(attached.parameters()), steps)
        attached.end_cascade()
        return model, attached

    model, attached = run(3)
    attached.save_state(tmp_path / "state")
    _, again = run(1)
    again.load_state(tmp_path / "state")
    x, _ = data()
    torch.testing.assert_close(again.model(x), model(x), rtol=0, atol=0)
    saved = attached.save(tmp_path / "peft")
    assert saved.rank == 8
    loaded = peft.PeftModel.from_pretrained(network(), tmp_path / "peft")
    torch.testing.assert_close(loaded(x), model.eval()(x), rtol=1e-5, atol=1e-5)


def test_dropout_comes_back_in_the_backward() -> None:
    model = network()
    attached = lorasc.torch.attach(model, method="lora", lora_dropout=0.5, **OPTIONS)
    randomize(attached)
    layer = attached.layers["fc1"]
    x = torch.randn(9, 6)
    layer._calls = 4
    first = layer(x)
    assert not torch.equal(first, layer(x))
    layer._calls = 4
    assert torch.equal(first, layer(x))
    layer._calls = 4
    layer(x).sum().backward()
    # Y is linear in B: its gradient is what the forward did.
    share = (first - layer.base_layer(x)).sum().item()
    assert (layer.lora_B.grad * layer.lora_B).sum().item() == pytest.approx(share, rel=1e-4)


LIFETIMES = ("removed", "persist", "per_step")


def both_ways(
    dora: bool, **options: Any
) -> tuple[lorasc.torch.Attached, lorasc.torch.Cascade, list[nn.Parameter]]:
    """The same adapters by attach() and over PEFT's tensors, and what PEFT trains."""
    options = {"slow_rate": 0.5, "noise": 0.1, "seed": 3, "adapter_seed": 3} | options
    method = "lorasc+dora" if dora else "lorasc"
    attached = lorasc.torch.attach(network(), method=method, r=4, lora_alpha=8, **options)
    other, factors = peft_twin(attached, use_dora=dora)
    return attached, lorasc.torch.Cascade(other, method=method, **options), factors


@pytest.mark.parametrize("lifetime", LIFETIMES)
@pytest.mark.parametrize("dora", [False, True])
def test_cascade_over_peft_is_the_engines(dora: bool, lifetime: str) -> None:
    """The same training through PEFT's tensors and through attach()."""
    attached, cascade, factors = both_ways(dora, noise_lifetime=lifetime)
    for number in (1, 2):
        if number > 1:
            assert attached.end_cascade() == cascade.end_cascade() == number
        losses = train(attached.model, list(attached.parameters()), 5, attached.end_step)
        right = train(cascade.model, factors, 5, cascade.end_step)
        assert np.abs(np.array(losses) - right).max() <= LOSS_LIMIT
    cascade.merge()
    attached.merge()
    x, _ = data()
    torch.testing.assert_close(cascade.model(x), attached.model(x), rtol=1e-4, atol=1e-5)


def base_weights(cascade: lorasc.torch.Cascade) -> dict[str, torch.Tensor]:
    inner = cascade.model.base_model.model
    return {name: getattr(inner, name).base_layer.weight.clone() for name in ("fc1", "fc2")}


@pytest.mark.parametrize("dora", [False, True])
def test_noise_per_step_is_the_engines(dora: bool) -> None:
    """The weight of each step is, to the bit, that of a run of the engine's own optimizer."""
    _, cascade, _ = both_ways(dora, noise_lifetime="per_step")
    plain = network()
    model = lorasc.HostModel(
        {name: getattr(plain, name).weight.detach().numpy() for name in ("fc1", "fc2")}
    )
    adapter = lorasc.Adapter(
        model, method="lorasc+dora" if dora else "lorasc", r=4, lora_alpha=8, adapter_seed=3
    )
    trainer = lorasc.Trainer(
        model, adapter, noise=0.1, noise_lifetime="per_step", seed=3, schedule="constant"
    )
    layers = {name: lorasc.Layer(trainer, name) for name in ("fc1", "fc2")}
    seen = []
    for _ in range(3):
        weights = base_weights(cascade)
        for name, layer in layers.items():
            assert np.array_equal(weights[name].numpy(), layer.weight()), name
            assert not np.array_equal(layer.weight(), getattr(plain, name).weight.detach()), name
            x = np.ones((2, layer.in_features), np.float32)
            layer.backward(x, layer.forward(x), needs_dx=False)
        trainer.apply()
        cascade.end_step()
        seen.append(weights["fc1"])
    assert not torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[1], seen[2])


def test_steps_that_were_not_told() -> None:
    """Noise per step without end_step() would be the same noise throughout."""
    for way in both_ways(False, noise_lifetime="per_step")[:2]:
        train(way.model, list(way.factors()), 2)
        with pytest.raises(lorasc.StateError, match="end_step"):
            way.end_cascade()
        way.end_step()
        assert way.end_cascade() == 2


@pytest.mark.parametrize("lifetime", LIFETIMES)
@pytest.mark.parametrize("dora", [False, True])
def test_states_over_peft(dora: bool, lifetime: str, tmp_path: Path) -> None:
    """In the middle of a cascade: weights and factors come back to the bit."""
    _, cascade, factors = both_ways(dora, noise_lifetime=lifetime)
    train(cascade.model, factors, 2, cascade.end_step)
    cascade.end_cascade()
    train(cascade.model, factors, 2, cascade.end_step)
    cascade.save_state(tmp_path / "state")
    _, again, others = both_ways(dora, noise_lifetime=lifetime)
    again.load_state(tmp_path / "state")
    for found, expected in zip(others, factors, strict=True):
        assert torch.equal(found, expected)
    for name, expected in base_weights(cascade).items():
        assert torch.equal(base_weights(again)[name], expected), name


def test_cascade_refuses() -> None:
    with pytest.raises(lorasc.ArgumentError, match="no LoRA layer"):
        lorasc.torch.Cascade(network())
    other = peft.get_peft_model(network(), peft.LoraConfig(target_modules=["fc1"]))
    with pytest.raises(lorasc.OptionError, match="nonsense"):
        lorasc.torch.Cascade(other, nonsense=1)
    with pytest.raises(lorasc.OptionError, match="learning_rate: PyTorch's own"):
        lorasc.torch.Cascade(other, learning_rate=0.1)
    with pytest.raises(lorasc.OptionError, match="r: PEFT's own"):
        lorasc.torch.Cascade(other, r=4)
    with pytest.raises(lorasc.OptionError, match="meta"):
        lorasc.torch.Cascade(other.to("meta"), noise_lifetime="per_step")
