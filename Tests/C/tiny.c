#define _XOPEN_SOURCE 700
#include "tiny.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

uint64_t next_random(uint64_t *state) {
  uint64_t z = (*state += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

/* ---- Rows ------------------------------------------------------------------- */

bool tiny_rows_make(tiny_rows *rows, size_t count, uint64_t seed) {
  enum { LONGEST = 12, SHORTEST = 3, THIRD = TINY_VOCABULARY / TINY_LABELS };
  uint64_t state = seed;
  memset(rows, 0, sizeof *rows);
  rows->tokens = malloc(count * LONGEST * sizeof *rows->tokens);
  rows->labels = malloc(count * sizeof *rows->labels);
  rows->offsets = malloc((count + 1) * sizeof *rows->offsets);
  if (!rows->tokens || !rows->labels || !rows->offsets) return false;
  rows->offsets[0] = 0;
  for (size_t row = 0; row < count; row++) {
    int32_t label = (int32_t)(next_random(&state) % TINY_LABELS);
    int64_t length = SHORTEST + (int64_t)(next_random(&state) % (LONGEST - SHORTEST + 1));
    for (int64_t i = 0; i < length; i++) {
      uint64_t draw = next_random(&state);
      int32_t third = draw % 4 ? label : (int32_t)(draw / 4 % TINY_LABELS);
      rows->tokens[rows->offsets[row] + i] = third * THIRD + (int32_t)(draw / 64 % THIRD);
    }
    rows->labels[row] = label;
    rows->offsets[row + 1] = rows->offsets[row] + length;
  }
  rows->batch.struct_size = sizeof rows->batch;
  rows->batch.rows = count;
  rows->batch.tokens = rows->tokens;
  rows->batch.offsets = rows->offsets;
  rows->batch.labels = rows->labels;
  return true;
}

void tiny_rows_free(tiny_rows *rows) {
  free(rows->tokens);
  free(rows->labels);
  free(rows->offsets);
}

/* ---- Images ------------------------------------------------------------------ */

bool tiny_images_make(tiny_images *images, size_t count, uint64_t seed) {
  enum { PLANE = TINY_SIDE * TINY_SIDE };
  uint64_t state = seed;
  images->count = count;
  images->labels = malloc(count * sizeof *images->labels);
  images->pixels = malloc(count * TINY_PIXELS);
  if (!images->labels || !images->pixels) return false;
  for (size_t row = 0; row < count; row++) {
    int32_t label = (int32_t)(next_random(&state) % TINY_LABELS);
    images->labels[row] = label;
    for (int i = 0; i < TINY_PIXELS; i++) {
      int brightness = i / PLANE == label ? 160 : 80;
      images->pixels[row * TINY_PIXELS + (size_t)i] =
          (unsigned char)(brightness + (int)(next_random(&state) % 64));
    }
  }
  return true;
}

void tiny_images_free(tiny_images *images) {
  free(images->labels);
  free(images->pixels);
}

/* ---- Files -------------------------------------------------------------------- */

bool write_file(const char *path, const void *bytes, size_t count) {
  FILE *out = fopen(path, "wb");
  if (!out) return false;
  bool written = fwrite(bytes, 1, count, out) == count;
  return fclose(out) == 0 && written;
}

unsigned char *read_file(const char *path, size_t *count) {
  struct stat about;
  FILE *in = fopen(path, "rb");
  if (!in) return NULL;
  unsigned char *bytes = NULL;
  if (fstat(fileno(in), &about) == 0 && (bytes = malloc((size_t)about.st_size + 1)) != NULL) {
    *count = (size_t)about.st_size;
    if (fread(bytes, 1, *count, in) != *count) {
      free(bytes);
      bytes = NULL;
    }
  }
  fclose(in);
  return bytes;
}

static int remove_one(const char *path, const struct stat *about, int kind, struct FTW *place) {
  (void)about, (void)kind, (void)place;
  return remove(path);
}

void remove_tree(const char *path) { nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS); }
