/* Batches and datasets: what is refused, and that a refused one leaves no trace. */
#include "fixture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static lorasc_status accumulate(fixture *f, const lorasc_batch *batch) {
  lorasc_status status = lorasc_trainer_accumulate(f->trainer, batch, NULL);
  if (status == LORASC_OK)
    CHECK_OK(lorasc_trainer_discard_gradients(f->trainer));
  else
    CHECK_STATUS(lorasc_trainer_apply(f->trainer, NULL), LORASC_E_STATE); /* nothing added */
  return status;
}

void batch_offsets(void) {
  static const int32_t tokens[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  static const int32_t labels[4] = {0, 1, 2, 0};
  static const int64_t good[5] = {0, 2, 4, 6, 8}, first[5] = {1, 2, 4, 6, 8},
                       empty[5] = {0, 2, 2, 6, 8}, back[5] = {0, 4, 2, 6, 8},
                       negative[5] = {0, -2, 4, 6, 8}, huge[5] = {0, 2, INT64_MAX, 6, 8},
                       smallest[5] = {INT64_MIN, 2, 4, 6, 8};
  static const int64_t *bad[] = {first, empty, back, negative, huge, smallest};
  fixture f;
  lorasc_dataset *dataset = NULL;
  size_t need;
  if (fixture_open(&f, "cascade_unit=none max_steps=4")) {
    lorasc_batch batch = {.struct_size = sizeof batch, .rows = 4, .tokens = tokens,
                          .offsets = good, .labels = labels};
    CHECK_OK(accumulate(&f, &batch));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
      batch.offsets = bad[i];
      CHECK_STATUS(accumulate(&f, &batch), LORASC_E_SHAPE);
      CHECK_STATUS(lorasc_dataset_create(&batch, &dataset), LORASC_E_SHAPE);
      CHECK_STATUS(lorasc_predict(f.model, NULL, &batch, LORASC_PREDICT_EMBEDDING, NULL, 0,
                                  &need), LORASC_E_SHAPE);
    }
    CHECK(dataset == NULL);
    batch.offsets = good;
    batch.rows = 0;
    CHECK_STATUS(accumulate(&f, &batch), LORASC_E_SHAPE);
    batch.rows = SIZE_MAX;
    CHECK(accumulate(&f, &batch) != LORASC_OK);
    batch.rows = (size_t)1 << 61;
    CHECK(accumulate(&f, &batch) != LORASC_OK);
    batch.rows = 4;
    batch.tokens = NULL;
    CHECK_STATUS(accumulate(&f, &batch), LORASC_E_ARGUMENT);
    batch.tokens = tokens;
    batch.offsets = NULL;
    CHECK_STATUS(accumulate(&f, &batch), LORASC_E_ARGUMENT);
  }
  fixture_close(&f);
}

void batch_tokens(void) {
  static const int32_t bad[] = {-1, TINY_VOCABULARY, INT32_MAX, INT32_MIN};
  fixture f;
  lorasc_evaluation evaluation = {.struct_size = sizeof evaluation};
  float logits[FIXTURE_ROWS * TINY_LABELS];
  size_t need, count = FIXTURE_ROWS * TINY_LABELS;
  if (fixture_open(&f, "cascade_unit=none max_steps=4")) {
    int32_t *last = &f.rows.tokens[f.rows.offsets[FIXTURE_ROWS] - 1], kept = *last;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
      *last = bad[i];
      CHECK_STATUS(accumulate(&f, &f.rows.batch), LORASC_E_TOKEN);
      CHECK_STATUS(lorasc_trainer_evaluate(f.trainer, f.dataset, 0, &evaluation),
                   LORASC_E_TOKEN);
      CHECK_STATUS(lorasc_trainer_run(f.trainer, f.dataset, NULL, NULL, NULL), LORASC_E_TOKEN);
      logits[0] = -7;
      CHECK_STATUS(lorasc_predict(f.model, f.adapter, &f.rows.batch, 0, logits, count, &need),
                   LORASC_E_TOKEN);
      CHECK(logits[0] == -7);
    }
    *last = kept;
    CHECK_OK(accumulate(&f, &f.rows.batch));

    lorasc_batch typed = f.rows.batch;
    int32_t *types = calloc((size_t)f.rows.offsets[FIXTURE_ROWS], sizeof *types);
    if (CHECK(types != NULL)) {
      typed.token_types = types;
      types[0] = 1;
      CHECK_OK(accumulate(&f, &typed));
      types[0] = 2;
      CHECK_STATUS(accumulate(&f, &typed), LORASC_E_TOKEN);
      types[0] = -1;
      CHECK_STATUS(accumulate(&f, &typed), LORASC_E_TOKEN);
      free(types);
    }
  }
  fixture_close(&f);
}

void batch_labels(void) {
  fixture f;
  lorasc_stats stats = {.struct_size = sizeof stats};
  if (fixture_open(&f, "cascade_unit=none max_steps=4")) {
    lorasc_batch batch = f.rows.batch;
    int32_t kept = f.rows.labels[3];
    f.rows.labels[3] = TINY_LABELS;
    CHECK_STATUS(accumulate(&f, &batch), LORASC_E_LABEL);
    f.rows.labels[3] = -1;
    CHECK_STATUS(accumulate(&f, &batch), LORASC_E_LABEL);
    f.rows.labels[3] = INT32_MIN;
    CHECK_STATUS(accumulate(&f, &batch), LORASC_E_LABEL);
    f.rows.labels[3] = -100;
    CHECK_OK(lorasc_trainer_accumulate(f.trainer, &batch, &stats));
    CHECK_NEAR(stats.loss_weight, FIXTURE_ROWS - 1, 0);
    CHECK(stats.rows == FIXTURE_ROWS && stats.tokens == (uint64_t)batch.offsets[FIXTURE_ROWS]);
    CHECK_OK(lorasc_trainer_discard_gradients(f.trainer));
    f.rows.labels[3] = kept;
    batch.labels = NULL;
    CHECK_STATUS(accumulate(&f, &batch), LORASC_E_LABEL);
    batch.labels = f.rows.labels;
    for (int row = 0; row < FIXTURE_ROWS; row++) f.rows.labels[row] = -100;
    CHECK_STATUS(accumulate(&f, &batch), LORASC_E_NO_LOSS);
    lorasc_evaluation evaluation = {.struct_size = sizeof evaluation};
    CHECK_STATUS(lorasc_trainer_evaluate(f.trainer, f.dataset, 0, &evaluation),
                 LORASC_E_NO_LOSS);
  }
  fixture_close(&f);
}

void batch_weights(void) {
  fixture f;
  lorasc_stats stats = {.struct_size = sizeof stats};
  if (fixture_open(&f, "cascade_unit=none max_steps=4")) {
    float weights[FIXTURE_ROWS] = {0};
    lorasc_batch batch = f.rows.batch;
    batch.row_weights = weights;
    CHECK_STATUS(accumulate(&f, &batch), LORASC_E_NO_LOSS);
    weights[2] = 0.5f;
    weights[5] = 2;
    CHECK_OK(lorasc_trainer_accumulate(f.trainer, &batch, &stats));
    CHECK_NEAR(stats.loss_weight, 2.5, 1e-6);
    CHECK_OK(lorasc_trainer_discard_gradients(f.trainer));
    weights[2] = -1;
    CHECK(accumulate(&f, &batch) != LORASC_OK);
    weights[2] = NAN;
    CHECK(accumulate(&f, &batch) != LORASC_OK);
    weights[2] = INFINITY;
    CHECK(accumulate(&f, &batch) != LORASC_OK);
  }
  fixture_close(&f);
}

void batch_limits(void) {
  fixture f;
  int32_t tokens[TINY_POSITIONS + 1] = {0}, label = 1;
  int64_t offsets[2] = {0, TINY_POSITIONS + 1};
  float embedding[TINY_HIDDEN];
  size_t need;
  if (fixture_open(&f, "cascade_unit=none max_steps=4 max_batch_tokens=100")) {
    lorasc_batch batch = {.struct_size = sizeof batch, .rows = 1, .tokens = tokens,
                          .offsets = offsets, .labels = &label};
    CHECK_STATUS(accumulate(&f, &batch), LORASC_E_LIMIT);
    CHECK_STATUS(lorasc_predict(f.model, NULL, &batch, LORASC_PREDICT_EMBEDDING, embedding,
                                TINY_HIDDEN, &need), LORASC_E_LIMIT);
    offsets[1] = TINY_POSITIONS;
    CHECK_OK(accumulate(&f, &batch));
    CHECK(f.rows.offsets[FIXTURE_ROWS] > 100);
    CHECK_STATUS(lorasc_trainer_accumulate(f.trainer, &f.rows.batch, NULL), LORASC_E_LIMIT);
    CHECK_TEXT(lorasc_last_error()->subject, "max_batch_tokens");
    /* Evaluation and prediction cut a large set into parts by themselves. */
    lorasc_evaluation evaluation = {.struct_size = sizeof evaluation};
    CHECK_OK(lorasc_trainer_evaluate(f.trainer, f.dataset, 0, &evaluation));
    CHECK(evaluation.rows == FIXTURE_ROWS);
  }
  fixture_close(&f);
}

void batch_regression(void) {
  fixture f;
  float targets[FIXTURE_ROWS * 2] = {0};
  lorasc_evaluation evaluation = {.struct_size = sizeof evaluation};
  lorasc_dataset *dataset;
  if (fixture_open(&f, "num_labels=2 problem_type=regression cascade_unit=none max_steps=4")) {
    lorasc_batch batch = f.rows.batch;
    CHECK_STATUS(accumulate(&f, &batch), LORASC_E_LABEL); /* labels are no targets */
    for (int i = 0; i < FIXTURE_ROWS * 2; i++) targets[i] = (float)(i % 7) - 3;
    batch.labels = NULL;
    batch.targets = targets;
    CHECK_OK(accumulate(&f, &batch));
    targets[5] = NAN;
    CHECK_STATUS(accumulate(&f, &batch), LORASC_E_NONFINITE);
    targets[5] = 1;
    if (CHECK_OK(lorasc_dataset_create(&batch, &dataset))) {
      CHECK_OK(lorasc_trainer_evaluate(f.trainer, dataset, 0, &evaluation));
      CHECK(isnan(evaluation.accuracy) && evaluation.loss > 0);
      lorasc_dataset_free(dataset);
    }
  }
  fixture_close(&f);
}
