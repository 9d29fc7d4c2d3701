"""A model goes on with a text, shown as it comes; with an adapter, to see what that learned.

    python examples/python/generate.py "Once upon a time" [--model FOLDER] [--adapter FOLDER]
                                       [--temperature 0.8] [--seed 1] [--stop "."]

The folder is a decoder's (llama, mistral, qwen2, gpt2) with a tokenizer.json, by default
SmolLM2-135M; the adapter's is PEFT's or one of lorasc.Adapter.save. Ctrl-C ends the text.
"""

import argparse

from models import find_model

import lorasc

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("prompt")
parser.add_argument("--model", default="smollm2", help="a known name, or a model's folder")
parser.add_argument("--adapter", help="folder of an adapter for it")
parser.add_argument("--max-new-tokens", type=int, default=64)
parser.add_argument("--temperature", type=float, default=0.0, help="0: the likeliest tokens")
parser.add_argument("--top-p", type=float, default=1.0)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--stop", action="append", default=[], help="a text that ends it")
arguments = parser.parse_args()

with lorasc.Model(find_model(arguments.model)) as model:
    writer = model
    if arguments.adapter:
        writer = lorasc.Adapter.load(model, arguments.adapter)
    print(arguments.prompt, end="", flush=True)
    try:
        made = writer.generate(
            arguments.prompt,
            arguments.max_new_tokens,
            temperature=arguments.temperature,
            top_p=arguments.top_p,
            seed=arguments.seed,
            stop=arguments.stop,
            on_text=lambda text: print(text, end="", flush=True),
        )
        print(f"\n\n{len(made.tokens)} tokens, {'at its end' if made.stopped else 'cut'}")
    except KeyboardInterrupt:
        print("\n\nstopped")
