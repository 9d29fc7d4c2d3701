/* Writes the tiny models and token files for the examples:
 *
 *   write_tiny <folder>     makes <folder>/model, <folder>/decoder, <folder>/train.tokens,
 *                           <folder>/dev.tokens
 */
#define _POSIX_C_SOURCE 200809L
#include "tiny.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

static bool write_tokens(const char *folder, const char *name, size_t count, uint64_t seed) {
  char path[1200];
  tiny_rows rows;
  snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *out = fopen(path, "w");
  if (!out || !tiny_rows_make(&rows, count, seed)) return false;
  fprintf(out, "lorasc-tokens 1 %zu %d\n", count, TINY_LABELS);
  for (size_t row = 0; row < count; row++) {
    fprintf(out, "%" PRId32 " %" PRId64, rows.labels[row],
            rows.offsets[row + 1] - rows.offsets[row]);
    for (int64_t i = rows.offsets[row]; i < rows.offsets[row + 1]; i++)
      fprintf(out, " %" PRId32, rows.tokens[i]);
    fputc('\n', out);
  }
  tiny_rows_free(&rows);
  return fclose(out) == 0;
}

int main(int argc, char **argv) {
  char model[1200], decoder[1200];
  if (argc != 2) return fputs("write_tiny <folder>\n", stderr), 2;
  mkdir(argv[1], 0777);
  snprintf(model, sizeof model, "%s/model", argv[1]);
  snprintf(decoder, sizeof decoder, "%s/decoder", argv[1]);
  return !(tiny_model_write(model, 7) && tiny_decoder_write(decoder, 7) &&
           write_tokens(argv[1], "train.tokens", 96, 1) &&
           write_tokens(argv[1], "dev.tokens", 48, 2));
}
