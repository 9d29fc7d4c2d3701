"""Options of what is PyTorch's own here, or PEFT's."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import OptionError, Status

PYTORCHS = (
    *("bias", "modules_to_save", "ranks", "head", "num_labels", "problem_type"),
    *("label_smoothing", "class_weights", "optimizer", "learning_rate", "weight_decay"),
    *("beta1", "beta2", "eps", "momentum", "loraplus_lr_ratio", "max_grad_norm", "schedule"),
    *("warmup_steps", "warmup_ratio", "min_lr_ratio", "rewarmup_steps", "rewarmup_ratio"),
    *("epochs", "max_steps", "batch_size", "gradient_accumulation_steps", "shuffle"),
)
"""Or what would change a parameter's shape."""

PEFTS = (
    *("r", "lora_alpha", "use_rslora", "use_dora", "rank_pattern", "alpha_pattern"),
    *("lora_dropout", "init_lora_weights", "target_modules", "exclude_modules"),
    *("layers_to_transform", "layers_pattern"),
)
"""What a PeftModel's own configuration says."""


def refuse(options: Iterable[str], owners: dict[str, tuple[str, ...]]) -> None:
    """Refuses options that would have no effect.

    Args:
        options: as given.
        owners: who has which options in hand.

    Raises:
        OptionError: names the option and its owner.
    """
    for key in options:
        for owner, theirs in owners.items():
            if key in theirs:
                raise OptionError(Status.OPTION, f"option {key}: {owner}'s own here", key)
