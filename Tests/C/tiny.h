/* Model folders small enough to train in milliseconds, and rows and images they can learn. */
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
  TINY_TENSORS = 39, /* of the BERT: 5 of the embeddings, 16 a layer, 2 of the pooler */
  TINY_SHARED_HEADS = 2, /* of the Llama: heads of keys and values */
  TINY_SIDE = 16, /* of the ViT's images, in 3 colours */
  TINY_PATCH = 4,
  TINY_PIXELS = 3 * TINY_SIDE * TINY_SIDE
};

/* A pseudo-random sequence (splitmix64): the same everywhere. */
uint64_t next_random(uint64_t *state);

typedef enum tiny_kind { TINY_BERT, TINY_LLAMA, TINY_VIT } tiny_kind;

/* Writes config.json and model.safetensors into `folder`, which is made where missing.
 * `seed` chooses the weights. Returns false where the system refuses. */
bool tiny_folder_write(const char *folder, tiny_kind kind, uint64_t seed);
/* The same of the BERT. */
bool tiny_model_write(const char *folder, uint64_t seed);
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

/* Images (3, side, side) of bytes; the colour that is bright is the label. */
typedef struct tiny_images {
  size_t count;
  int32_t *labels;
  unsigned char *pixels;
} tiny_images;
bool tiny_images_make(tiny_images *images, size_t count, uint64_t seed);
void tiny_images_free(tiny_images *images);

/* Writes a whole file. */
bool write_file(const char *path, const void *bytes, size_t count);
/* Reads one into malloc'ed memory; NULL where it can't. */
unsigned char *read_file(const char *path, size_t *count);
/* Removes a file or a folder with all it holds. */
void remove_tree(const char *path);

#endif
