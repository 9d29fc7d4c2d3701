/* A BERT and a Llama folder small enough to train in milliseconds, and rows they can learn. */
#ifndef LORASC_TESTS_TINY_H
#define LORASC_TESTS_TINY_H
#include <lorasc.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
  TINY_HIDDEN = 32,
  TINY_LAYERS = 2,
  TINY_HEADS = 4,
  TINY_INTERMEDIATE = 64,
  TINY_VOCABULARY = 100,
  TINY_POSITIONS = 64,
  TINY_LABELS = 3,
  TINY_TENSORS = 39 /* 5 of the embeddings, 16 a layer, 2 of the pooler */
};

/* A pseudo-random sequence (splitmix64): the same everywhere. */
uint64_t next_random(uint64_t *state);

/* Writes config.json and model.safetensors into `folder`, which is made where missing.
 * `seed` chooses the weights. Returns false where the system refuses. */
bool tiny_model_write(const char *folder, uint64_t seed);
/* The same of a Llama with a language head. */
bool tiny_decoder_write(const char *folder, uint64_t seed);
/* Values of one tensor as tiny_model_write gives it; returns the count, 0: no such one. */
size_t tiny_model_tensor(uint64_t seed, const char *name, float *values, size_t capacity);

/* Rows of 3 to 12 tokens; the label shows in which third of the vocabulary the row's
 * tokens mostly lie. */
typedef struct tiny_rows {
  int32_t *tokens, *labels;
  int64_t *offsets;
  lorasc_batch batch;
} tiny_rows;
bool tiny_rows_make(tiny_rows *rows, size_t count, uint64_t seed);
void tiny_rows_free(tiny_rows *rows);

/* Writes a whole file. */
bool write_file(const char *path, const void *bytes, size_t count);
/* Reads one into malloc'ed memory; NULL where it can't. */
unsigned char *read_file(const char *path, size_t *count);
/* Removes a file or a folder with all it holds. */
void remove_tree(const char *path);

#endif
