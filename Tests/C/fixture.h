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
void fixture_close(fixture *f);

/* All trainable tensors, one after another. Free it with free(). */
float *adapter_values(lorasc_adapter *adapter, size_t *count);
bool same_values(lorasc_adapter *a, lorasc_adapter *b);
bool same_bits(const float *a, const float *b, size_t count);
double largest_difference(const float *a, const float *b, size_t count);

/* One accumulate and apply of the fixture's rows. */
bool step(fixture *f);

#endif
