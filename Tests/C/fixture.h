/* What most contract tests start from: the tiny model with an adapter and a trainer. */
#ifndef LORASC_TESTS_FIXTURE_H
#define LORASC_TESTS_FIXTURE_H
#include "check.h"
#include "tiny.h"

enum { MODEL_SEED = 7, FIXTURE_ROWS = 24 };

typedef struct fixture {
  lorasc_options *options;
  lorasc_model *model;
  lorasc_adapter *adapter;
  lorasc_trainer *trainer;
  lorasc_dataset *dataset;
  tiny_rows rows;
} fixture;

/* Makes the run's own temporary folder with the tiny models in it. */
bool fixture_folder_make(void);
void fixture_folder_remove(void);
/* A path in that folder. Good until 8 calls later; not for several threads at once. */
const char *in_folder(const char *name);
const char *tiny_model_path(void);
const char *tiny_decoder_path(void);

/* "key=value key=value" */
bool options_make(lorasc_options **options, const char *settings);
/* Opens everything, with small plans; `settings` win. */
bool fixture_open(fixture *f, const char *settings);
/* The same on the model of a folder. */
bool fixture_open_on(fixture *f, const char *path, const char *settings);
void fixture_close(fixture *f);

/* All trainable tensors, one after another. Free it with free(). */
float *adapter_values(lorasc_adapter *adapter, size_t *count);
bool same_values(lorasc_adapter *a, lorasc_adapter *b);
bool same_bits(const float *a, const float *b, size_t count);
double largest_difference(const float *a, const float *b, size_t count);

/* One accumulate and apply of the fixture's rows. */
bool step(fixture *f);

/* Rows for lorasc_dataset_from_callback, copied into arrays of its own at each request. */
enum { SOURCE_ROWS = 64, SOURCE_TOKENS = 1024 };
typedef struct row_source {
  const tiny_rows *rows;
  size_t asked, requests; /* rows and requests so far */
  lorasc_batch batch;
  int32_t tokens[SOURCE_TOKENS], labels[SOURCE_ROWS];
  int64_t offsets[SOURCE_ROWS + 1];
} row_source;
int32_t read_rows(lorasc_rows *rows, void *source);

/* The built-in cross-entropy as a loss of the host's, in the same arithmetic. */
int32_t cross_entropy(lorasc_outputs *outputs, void *user);

#endif
