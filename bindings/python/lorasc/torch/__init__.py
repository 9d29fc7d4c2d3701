"""LoRASC inside PyTorch models.

``attach`` puts engine-backed adapters on a model's linear layers; the factors are
``nn.Parameter``s, so that any optimizer, schedule and the Hugging Face Trainer train them::

    attached = lorasc.torch.attach(model, method="lorasc", r=8, target_modules="q_proj,v_proj")
    optimizer = torch.optim.AdamW(attached.parameters(), lr=2e-4)
    for epoch in range(epochs):
        ...                                # the usual loop
        attached.end_cascade(optimizer)    # after each but the last
    attached.merge()                       # the plain model again, with the merged weights

``Cascade`` runs the same procedure on a PEFT model, whose tensors PyTorch and PEFT own and train,
on whatever device they are.
"""

from ._attach import Attached, attach
from ._callback import CascadeCallback
from ._cascade import Cascade
from ._linear import AdaptedLinear

__all__ = ["AdaptedLinear", "Attached", "Cascade", "CascadeCallback", "attach"]
