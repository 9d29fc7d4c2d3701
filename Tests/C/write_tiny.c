/* Writes tiny models and data for the examples:
 *
 *   write_tiny <folder>     makes <folder>/model with train.tokens and dev.tokens, <folder>/decoder
 *                           with train.prompts and dev.prompts, <folder>/vision with train.images
 *                           and test.images
 */
#define _POSIX_C_SOURCE 200809L
#include "tiny.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

static FILE *create(const char *folder, const char *name) {
  char path[1200];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  return fopen(path, "wb");
}

static void write_ids(FILE *out, const int32_t *ids, int64_t count) {
  for (int64_t i = 0; i < count; i++) fprintf(out, " %" PRId32, ids[i]);
}

static bool write_tokens(const char *folder, const char *name, size_t count, uint64_t seed) {
  tiny_rows rows;
  FILE *out = create(folder, name);
  if (!out || !tiny_rows_make(&rows, count, seed)) return false;
  fprintf(out, "lorasc-tokens 1 %zu %d\n", count, TINY_LABELS);
  for (size_t row = 0; row < count; row++) {
    int64_t start = rows.offsets[row], length = rows.offsets[row + 1] - start;
    fprintf(out, "%" PRId32 " %" PRId64, rows.labels[row], length);
    write_ids(out, rows.tokens + start, length);
    fputc('\n', out);
  }
  tiny_rows_free(&rows);
  return fclose(out) == 0;
}

/* The answer to a row of tokens: its label's token twice, and an end. */
static bool write_prompts(const char *folder, const char *name, size_t count, uint64_t seed) {
  tiny_rows rows;
  FILE *out = create(folder, name);
  if (!out || !tiny_rows_make(&rows, count, seed)) return false;
  fprintf(out, "lorasc-prompts 1 %zu\n", count);
  for (size_t row = 0; row < count; row++) {
    int64_t start = rows.offsets[row], length = rows.offsets[row + 1] - start;
    int32_t answer[3] = {90 + rows.labels[row], 90 + rows.labels[row], 99};
    fprintf(out, "%" PRId64 " %" PRId64, length + 3, length);
    write_ids(out, rows.tokens + start, length);
    write_ids(out, answer, 3);
    fputc('\n', out);
  }
  tiny_rows_free(&rows);
  return fclose(out) == 0;
}

static bool write_images(const char *folder, const char *name, size_t count, uint64_t seed) {
  tiny_images images;
  FILE *out = create(folder, name);
  if (!out || !tiny_images_make(&images, count, seed)) return false;
  fprintf(out, "lorasc-images 1 %zu %d 3 %d %d\n", count, TINY_LABELS, TINY_SIDE, TINY_SIDE);
  for (size_t row = 0; row < count; row++) {
    fputc(images.labels[row], out);
    fwrite(images.pixels + row * TINY_PIXELS, 1, TINY_PIXELS, out);
  }
  tiny_images_free(&images);
  return fclose(out) == 0;
}

static bool write_model(const char *folder, const char *name, tiny_kind kind) {
  char path[1200];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  return tiny_folder_write(path, kind, 7);
}

int main(int argc, char **argv) {
  if (argc != 2) return fputs("write_tiny <folder>\n", stderr), 2;
  const char *folder = argv[1];
  mkdir(folder, 0777);
  return !(write_model(folder, "model", TINY_BERT) && write_model(folder, "decoder", TINY_LLAMA) &&
           write_model(folder, "vision", TINY_VIT) && write_tokens(folder, "train.tokens", 96, 1) &&
           write_tokens(folder, "dev.tokens", 48, 2) &&
           write_prompts(folder, "train.prompts", 240, 1) &&
           write_prompts(folder, "dev.prompts", 48, 2) &&
           write_images(folder, "train.images", 96, 1) &&
           write_images(folder, "test.images", 48, 2));
}
