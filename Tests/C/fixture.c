#define _XOPEN_SOURCE 700
#include "fixture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char folder[512];

const char *in_folder(const char *name) {
  static char paths[8][1024];
  static int next;
  char *path = paths[next++ % 8];
  snprintf(path, sizeof paths[0], "%s/%s", folder, name);
  return path;
}

const char *tiny_model_path(void) {
  static char path[1024];
  snprintf(path, sizeof path, "%s/model", folder);
  return path;
}

const char *tiny_decoder_path(void) {
  static char path[1024];
  snprintf(path, sizeof path, "%s/decoder", folder);
  return path;
}

bool fixture_folder_make(void) {
  const char *parent = getenv("TMPDIR");
  snprintf(folder, sizeof folder, "%s/lorasc-tests-XXXXXX", parent ? parent : "/tmp");
  return mkdtemp(folder) && tiny_model_write(tiny_model_path(), MODEL_SEED) &&
         tiny_folder_write(tiny_decoder_path(), TINY_LLAMA, MODEL_SEED);
}

void fixture_folder_remove(void) { remove_tree(folder); }

bool options_make(lorasc_options **options, const char *settings) {
  char copy[512];
  *options = NULL;
  if (!CHECK_OK(lorasc_options_create(options))) return false;
  snprintf(copy, sizeof copy, "%s", settings);
  for (char *place = NULL, *each = strtok_r(copy, " ", &place); each;
       each = strtok_r(NULL, " ", &place)) {
    char *value = strchr(each, '=');
    *value++ = '\0';
    if (!CHECK_OK(lorasc_options_set(*options, each, value))) return false;
  }
  return true;
}

bool fixture_open(fixture *f, const char *settings) {
  return fixture_open_on(f, tiny_model_path(), settings);
}

bool fixture_open_on(fixture *f, const char *path, const char *settings) {
  char all[512];
  memset(f, 0, sizeof *f);
  snprintf(all, sizeof all,
           "num_labels=3 r=4 lora_alpha=8 batch_size=8 max_batch_tokens=512 threads=1 %s",
           settings);
  return CHECK(tiny_rows_make(&f->rows, FIXTURE_ROWS, 1)) && options_make(&f->options, all) &&
         CHECK_OK(lorasc_model_open(path, f->options, &f->model)) &&
         CHECK_OK(lorasc_adapter_create(f->model, f->options, NULL, &f->adapter)) &&
         CHECK_OK(lorasc_trainer_create(f->model, f->adapter, f->options, &f->trainer)) &&
         CHECK_OK(lorasc_dataset_create(&f->rows.batch, &f->dataset));
}

void fixture_close(fixture *f) {
  lorasc_trainer_free(f->trainer);
  lorasc_dataset_free(f->dataset);
  lorasc_adapter_free(f->adapter);
  lorasc_model_free(f->model);
  lorasc_options_free(f->options);
  tiny_rows_free(&f->rows);
  memset(f, 0, sizeof *f);
}

float *adapter_values(lorasc_adapter *adapter, size_t *count) {
  lorasc_tensor_info info = {.struct_size = sizeof info};
  size_t tensors = lorasc_adapter_tensor_count(adapter), total = 0, used = 0, need;
  for (size_t i = 0; i < tensors; i++)
    if (CHECK_OK(lorasc_adapter_tensor_info(adapter, i, &info))) total += info.elements;
  float *values = calloc(total + 1, sizeof *values);
  for (size_t i = 0; values && i < tensors; i++)
    if (CHECK_OK(lorasc_adapter_tensor_info(adapter, i, &info)) &&
        CHECK_OK(
            lorasc_adapter_copy_out(adapter, info.name, values + used, total - used, &need)))
      used += need;
  *count = used;
  return values;
}

bool same_bits(const float *a, const float *b, size_t count) {
  return a && b && memcmp(a, b, count * sizeof *a) == 0;
}

bool same_values(lorasc_adapter *a, lorasc_adapter *b) {
  size_t count_a = 0, count_b = 0;
  float *values_a = adapter_values(a, &count_a), *values_b = adapter_values(b, &count_b);
  bool same = count_a && count_a == count_b && same_bits(values_a, values_b, count_a);
  free(values_a);
  free(values_b);
  return same;
}

double largest_difference(const float *a, const float *b, size_t count) {
  double largest = 0;
  for (size_t i = 0; i < count; i++) {
    double difference = fabs((double)a[i] - b[i]);
    if (!(difference <= largest)) largest = difference; /* NaN stays */
  }
  return largest;
}

bool step(fixture *f) {
  return CHECK_OK(lorasc_trainer_accumulate(f->trainer, &f->rows.batch, NULL)) &&
         CHECK_OK(lorasc_trainer_apply(f->trainer, NULL));
}

int32_t read_rows(lorasc_rows *rows, void *user) {
  row_source *source = user;
  const tiny_rows *from = source->rows;
  if (!CHECK(rows->struct_size == sizeof *rows && rows->batch == NULL) ||
      !CHECK(rows->count > 0 && rows->count <= SOURCE_ROWS))
    return -1;
  source->asked += rows->count;
  source->requests++;
  source->offsets[0] = 0;
  for (size_t i = 0; i < rows->count; i++) {
    size_t row = rows->numbers[i];
    if (!CHECK(row < from->batch.rows)) return -1;
    int64_t start = from->offsets[row], length = from->offsets[row + 1] - start;
    if (!CHECK(source->offsets[i] + length <= SOURCE_TOKENS)) return -1;
    memcpy(source->tokens + source->offsets[i], from->tokens + start,
           (size_t)length * sizeof *source->tokens);
    source->offsets[i + 1] = source->offsets[i] + length;
    source->labels[i] = from->labels[row];
  }
  source->batch = (lorasc_batch){.struct_size = sizeof source->batch,
                                 .rows = rows->count,
                                 .tokens = source->tokens,
                                 .offsets = source->offsets,
                                 .labels = source->labels};
  rows->batch = &source->batch;
  return 0;
}

int32_t cross_entropy(lorasc_outputs *outputs, void *user) {
  (void)user;
  for (size_t i = 0; i < outputs->count; i++) {
    const float *z = outputs->logits + i * outputs->width;
    int32_t label = outputs->labels[i];
    double weight = outputs->weights[i], largest = -INFINITY, total = 0;
    if (label < 0 || weight == 0) continue;
    for (size_t c = 0; c < outputs->width; c++) largest = fmax(largest, z[c]);
    for (size_t c = 0; c < outputs->width; c++) total += exp(z[c] - largest);
    double log_total = log(total) + largest;
    outputs->loss += weight * (log_total - z[label]);
    for (size_t c = 0; outputs->gradient && c < outputs->width; c++)
      outputs->gradient[i * outputs->width + c] =
          (float)(weight * (exp(z[c] - log_total) - (c == (size_t)label)));
  }
  return 0;
}
