/* Fine-tunes an encoder on rows that stay in their file: of all rows only the places are in
 * memory, and the library asks for a batch at a time.
 *
 *   cc -std=c99 rows_from_disk.c $(pkg-config --cflags --libs lorasc) -o rows_from_disk
 *   ./rows_from_disk <model folder> <train.tokens> <output folder>
 *
 * A .tokens file is text: "lorasc-tokens 1 <rows> <num_labels>", then for each row
 * "<label> <n> <id> <id> ..."; examples/python/write_tokens.py writes some. */
#include "example.h"

#include <inttypes.h>

typedef struct row_file {
  FILE *in;
  size_t rows, batches; /* batches: that were asked for */
  int num_labels;
  long *places; /* in the file, of each row */
  /* The batch that was asked for last: it stays until the next one is. */
  lorasc_batch batch;
  size_t row_capacity, token_capacity;
  int32_t *tokens, *labels;
  int64_t *offsets;
} row_file;

static row_file open_rows(const char *path) {
  row_file file = {.in = fopen(path, "r")};
  if (!file.in) fail(path, "cannot be opened");
  if (fscanf(file.in, "lorasc-tokens 1 %zu %d\n", &file.rows, &file.num_labels) != 2 ||
      file.rows == 0)
    fail(path, "does not start with \"lorasc-tokens 1 <rows> <num_labels>\"");
  file.places = allocate(NULL, file.rows, sizeof *file.places);
  for (size_t row = 0; row < file.rows; row++) {
    int character;
    file.places[row] = ftell(file.in);
    while ((character = fgetc(file.in)) != '\n')
      if (character == EOF) fail(path, "has too few rows");
  }
  return file;
}

/* Behind the rows that are in the batch already. False where the file is damaged. */
static int append_row(row_file *file, size_t row) {
  size_t length, place = file->batch.rows, used = (size_t)file->offsets[place];
  if (fseek(file->in, file->places[row], SEEK_SET) != 0 ||
      fscanf(file->in, "%" SCNd32 " %zu", &file->labels[place], &length) != 2 || length > 1000000)
    return 0;
  if (used + length > file->token_capacity) {
    file->token_capacity = 2 * (used + length);
    file->tokens = allocate(file->tokens, file->token_capacity, sizeof *file->tokens);
  }
  for (size_t i = 0; i < length; i++)
    if (fscanf(file->in, "%" SCNd32, &file->tokens[used + i]) != 1) return 0;
  file->offsets[place + 1] = (int64_t)(used + length);
  file->batch.rows++;
  return 1;
}

static int32_t read_rows(lorasc_rows *rows, void *user) {
  row_file *file = user;
  if (rows->count > file->row_capacity) {
    file->row_capacity = rows->count;
    file->labels = allocate(file->labels, rows->count, sizeof *file->labels);
    file->offsets = allocate(file->offsets, rows->count + 1, sizeof *file->offsets);
  }
  file->batches++;
  file->batch = (lorasc_batch){.struct_size = sizeof file->batch};
  file->offsets[0] = 0;
  for (size_t i = 0; i < rows->count; i++)
    if (!append_row(file, rows->numbers[i])) return 1;
  file->batch.tokens = file->tokens;
  file->batch.offsets = file->offsets;
  file->batch.labels = file->labels;
  rows->batch = &file->batch;
  return 0;
}

int main(int argc, char **argv) {
  if (argc != 4) fail("usage", "rows_from_disk <model> <train.tokens> <output>");
  row_file file = open_rows(argv[2]);
  char labels[16];
  snprintf(labels, sizeof labels, "%d", file.num_labels);
  const char *const settings[][2] = {{"method", "lorasc"}, {"num_labels", labels},
                                     {"epochs", "3"}, {"learning_rate", "0.002"}};
  lorasc_options *options = make_options(settings, sizeof settings / sizeof settings[0]);
  lorasc_model *model;
  lorasc_adapter *adapter;
  lorasc_trainer *trainer;
  lorasc_dataset *data;
  check(lorasc_model_open(argv[1], options, &model), "model");
  check(lorasc_adapter_create(model, options, NULL, &adapter), "adapter");
  check(lorasc_trainer_create(model, adapter, options, &trainer), "trainer");
  check(lorasc_dataset_from_callback(file.rows, read_rows, &file, &data), argv[2]);

  lorasc_evaluation before = {.struct_size = sizeof before}, after = before;
  check(lorasc_trainer_evaluate(trainer, data, 0, &before), "evaluation");
  check(lorasc_trainer_run(trainer, data, NULL, NULL, NULL), "training");
  check(lorasc_trainer_evaluate(trainer, data, 0, &after), "evaluation");
  printf("%zu rows in %zu batches; loss before %.4f, after %.4f\n", file.rows, file.batches,
         before.loss, after.loss);
  check(lorasc_adapter_merge(model, adapter, argv[3], NULL), argv[3]);

  lorasc_dataset_free(data);
  lorasc_trainer_free(trainer);
  lorasc_adapter_free(adapter);
  lorasc_model_free(model);
  lorasc_options_free(options);
  fclose(file.in);
  free(file.places);
  free(file.tokens);
  free(file.labels);
  free(file.offsets);
  return after.loss < before.loss ? 0 : 1;
}
