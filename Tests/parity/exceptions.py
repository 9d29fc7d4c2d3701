"""What is not compared, or not as drawn, each with its reason; for the report."""

from __future__ import annotations

EXCEPTIONS = {
    "dropout": "0 in all parts: its random numbers are not PyTorch's.",
    "float32 inside transformers": "RMSNorm, the softmax of attention and rotary angles are "
    "float32 there whatever the type of the model: the truth computes them in float64 too.",
    "zero gradients": "Gradients that are zero in exact arithmetic, as those of key biases, are "
    "rounding on both sides: they count in the joint norm, not one by one.",
    "eps": "AdamW divides each element by its own size, so that one whose gradient is rounding "
    "moves at random on both sides, by the whole rate where eps is as small: eps is 1e-4 or 1e-3, "
    "and 1e-3 with clipped gradients where biases of keys are trained. With 1e-8 "
    "Tests/Python/test_parity.py and test_architectures.py compare the losses of ten steps.",
    "LoRA+": "Learning rates are a tenth of the other methods', so that B learns at about theirs.",
    "LoRA+, RMSNorm": "No weight of a norm decays here; PEFT's groups spare nn.LayerNorm alone, "
    "since transformers no longer lists its RMSNorms beside it: they are listed for the peer.",
    "relu": "Its derivative jumps at 0, where rounding decides the side: the activations drawn are "
    "smooth, and batches on which the ReLU of DistilBERT's classifier is that near 0 are left out. "
    "Tests/Python/test_parity.py compares relu.",
    "random starts": "Random factors are not PyTorch's: the peers take the engine's.",
    "PiSSA": "The peers take the engine's factors and make the residual base W - s B A in their "
    "own type. PEFT's file of PiSSA factors belongs to a residual base that is in no file, so only "
    "the engine's file, which belongs to W, is compared.",
    "lorafa_project": "PEFT's optimizer multiplies in bfloat16 where it can, and its AdamW is not "
    "PyTorch's: the peers project by the formula and step with torch.optim.AdamW.",
    "cascades": "PEFT has none: one cascade on clean weights is compared (noise 0, constant rate), "
    "and its merged view as W + slow_rate (W' - W).",
    "full-rank changes": "A share of DoRA's change (slow_rate < 1), and DoRA on PiSSA's residual "
    "base, are of full rank, so that no adapter file holds them: only merged weights are compared.",
    "mean_linear, embedding": "These heads are in no class of transformers': their losses are "
    "computed from the bare backbone's hidden states, and files hold the backbone alone.",
    "order of patterns": "The first pattern that matches wins, and PEFT sorts patterns when it "
    "saves, so that overlapping ones in another order change their meaning in its own files: they "
    "are drawn in sorted order.",
    "nested modules_to_save": "A name that fits a container and its children too, as 'embeddings' "
    "does, makes PEFT train copies of the children that its forward never uses: not drawn.",
    "original copies": "With bias=all PEFT also marks the copies that modules_to_save put aside; "
    "they take no part and get no gradient, and the engine has none.",
    "copies of embeddings": "Beside an adapter on embed_tokens or lm_head PEFT writes the frozen "
    "matrix too: the engine reads such a file, and writes none.",
    "all-linear, head token": "PEFT takes the token classifier for a target and then refuses it, "
    "as it is trained in full: not drawn.",
    "layers_to_transform": "Without layers_pattern PEFT finds no index in the names of bare models "
    "whose layers stand at the top, as 'layers.0.mlp': bare models get a pattern.",
    "nothing adapted": "Draws whose rules match nothing for PEFT are drawn anew.",
    "tied output": "An embedding that is the output layer too gets no adapter and is not trained "
    "in full here: not drawn under the head lm.",
    "Conv1D": "GPT-2's transposed matrices are not trained in full here: not drawn.",
    "images": "Of a ViT's embeddings the engine trains the bias of the patches' projection alone, "
    "with bias=all: others are not drawn. Rules are drawn by the modules' names in memory, which "
    "are all that PEFT sees; Tests/Python/test_peft_architectures.py has those of the files.",
    "last token": "A decoder's classifier takes a row's last token here, in transformers the last "
    "that is not padding's: rows don't end in it.",
}
