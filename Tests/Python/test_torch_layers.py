"""lorasc.torch: engine-backed layers in PyTorch models, against autograd and PEFT."""

from __future__ import annotations

import copy

import numpy as np
import peft
import pytest
import torch
from torch import nn

import lorasc
import lorasc.torch

OPTIONS = {"r": 4, "lora_alpha": 8, "noise": 0, "adapter_seed": 3, "seed": 3}


class Network(nn.Module):
    """Two linear layers and a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(3, 6, 3, padding=1)
        self.fc1 = nn.Linear(6, 16)
        self.fc2 = nn.Linear(16, 5, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = torch.tanh(self.conv(x)).transpose(1, 2)
        return self.fc2(torch.tanh(self.fc1(hidden)))


def network(seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return Network()


def data() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(5)
    return torch.randn(4, 3, 7), torch.randn(4, 7, 5)


def randomize(attached: lorasc.torch.Attached) -> None:
    torch.manual_seed(6)
    with torch.no_grad():
        for layer in attached.layers.values():
            layer.lora_B.normal_(0, 0.2)


def dense(layer: lorasc.torch.AdaptedLinear, scale: float, dtype: torch.dtype) -> nn.Module:
    """The same layer as plain float64 operations."""

    class Dense(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Parameter(layer.lora_A.detach().to(dtype))
            self.b = nn.Parameter(layer.lora_B.detach().to(dtype))
            m = layer.lora_magnitude_vector
            self.m = None if m is None else nn.Parameter(m.detach().to(dtype))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            weight = layer.weight.detach().to(dtype) + scale * self.b @ self.a
            if self.m is not None:
                weight = (self.m / weight.detach().norm(dim=1))[:, None] * weight
            bias = None if layer.bias is None else layer.bias.detach().to(dtype)
            return nn.functional.linear(x, weight, bias)

    return Dense()


@pytest.mark.parametrize("method", ["lora", "dora", "rslora"])
def test_gradients_are_autograds(method: str) -> None:
    model = network()
    attached = lorasc.torch.attach(model, method=method, **OPTIONS)
    assert set(attached.layers) == {"fc1", "fc2"}
    randomize(attached)
    x, target = data()
    x.requires_grad_(True)
    loss = ((model(x) - target) ** 2).mean()
    loss.backward()

    twin = copy.deepcopy(network()).double()
    scale = attached.adapter.modules[0].scale
    twin.fc1 = dense(attached.layers["fc1"], scale, torch.float64)
    twin.fc2 = dense(attached.layers["fc2"], scale, torch.float64)
    x64 = x.detach().double().requires_grad_(True)
    expected = ((twin(x64) - target.double()) ** 2).mean()
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    pairs = [(x.grad, x64.grad)]
    for name in ("fc1", "fc2"):
        layer, other = attached.layers[name], getattr(twin, name)
        pairs += [(layer.lora_A.grad, other.a.grad), (layer.lora_B.grad, other.b.grad)]
        if other.m is not None:
            pairs.append((layer.lora_magnitude_vector.grad, other.m.grad))
    for found, right in pairs:
        assert (found.double() - right).norm() <= 1e-5 * right.norm()


def train(model: nn.Module, parameters: list[nn.Parameter], steps: int) -> list[float]:
    x, target = data()
    optimizer = torch.optim.AdamW(parameters, lr=1e-2)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = ((model(x) - target) ** 2).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_ten_steps_are_pefts(method: str) -> None:
    model = network()
    attached = lorasc.torch.attach(model, method=method, **OPTIONS)
    config = peft.LoraConfig(
        r=4, lora_alpha=8, target_modules=["fc1", "fc2"], use_dora=method == "dora"
    )
    other = peft.get_peft_model(network(), config)
    for name, layer in attached.layers.items():
        twin = getattr(other.base_model.model, name)
        twin.lora_A["default"].weight.data.copy_(layer.lora_A)
    losses = train(model, list(attached.parameters()), 10)
    right = train(other, [p for p in other.parameters() if p.requires_grad], 10)
    assert np.abs(np.array(losses) - right).max() <= 1e-5
    assert losses[-1] < losses[0]


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


def test_bad_input() -> None:
    model = network()
    with pytest.raises(lorasc.OptionError, match="bias"):
        lorasc.torch.attach(model, bias="all")
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
    with pytest.raises(lorasc.ArgumentError, match="CPU"):
        attached.layers["fc1"](torch.empty(1, 6, device="meta"))
    with pytest.raises(lorasc.LorascError):
        attached.layers["fc1"](torch.randn(2, 5))
    attached.detach()
    assert type(model.fc1) is nn.Linear


@pytest.mark.parametrize("dora", [False, True])
def test_cascade_over_peft_is_the_engines(dora: bool) -> None:
    """The same training through PEFT's tensors and through attach()."""
    options = {"slow_rate": 0.5, "noise": 0.1, "seed": 3, "adapter_seed": 3}
    model = network()
    method = "lorasc+dora" if dora else "lorasc"
    attached = lorasc.torch.attach(model, method=method, r=4, lora_alpha=8, **options)
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["fc1", "fc2"], use_dora=dora)
    other = peft.get_peft_model(network(), config)
    for name, layer in attached.layers.items():
        getattr(other.base_model.model, name).lora_A["default"].weight.data.copy_(layer.lora_A)
    cascade = lorasc.torch.Cascade(other, method=method, **options)
    factors = [p for p in other.parameters() if p.requires_grad]
    for _ in range(2):
        losses = train(model, list(attached.parameters()), 5)
        right = train(other, factors, 5)
        assert np.abs(np.array(losses) - right).max() <= 1e-5
        attached.end_cascade()
        cascade.end_cascade()
    cascade.merge()
    attached.merge()
    x, _ = data()
    torch.testing.assert_close(other(x), model(x), rtol=1e-4, atol=1e-5)


def test_cascade_refuses() -> None:
    with pytest.raises(lorasc.ArgumentError, match="no LoRA layer"):
        lorasc.torch.Cascade(network())
    other = peft.get_peft_model(network(), peft.LoraConfig(target_modules=["fc1"]))
    with pytest.raises(lorasc.OptionError, match="per_step"):
        lorasc.torch.Cascade(other, noise_lifetime="per_step")
    with pytest.raises(lorasc.OptionError, match="nonsense"):
        lorasc.torch.Cascade(other, nonsense=1)
