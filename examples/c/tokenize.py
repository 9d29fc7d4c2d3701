"""Writes a .tokens file for finetune.c from lines of "<label>\\t<text>".

    python tokenize.py <model folder>/tokenizer.json < train.tsv > train.tokens

Labels are whole numbers from 0. Needs the package "tokenizers".
"""

import sys

from tokenizers import Tokenizer

MAX_LENGTH = 64

tokenizer = Tokenizer.from_file(sys.argv[1])
tokenizer.no_padding()
tokenizer.enable_truncation(MAX_LENGTH)

rows = [line.rstrip("\n").split("\t", 1) for line in sys.stdin if line.strip()]
encodings = tokenizer.encode_batch([text for _, text in rows])
print("lorasc-tokens 1", len(rows), max(int(label) for label, _ in rows) + 1)
for (label, _), encoding in zip(rows, encodings):
    print(label, len(encoding.ids), *encoding.ids)
