/* The host's own loop: accumulate, apply, gradients, learning rates, cascades, merged
 * matrices, predictions, the written folder. */
#include "fixture.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define QUERY "encoder.layer.0.attention.self.query"
enum { MATRIX = TINY_HIDDEN * TINY_HIDDEN, RANK = 4 };

void adapter_tensors(void) {
  fixture f;
  lorasc_match_report report = {.struct_size = sizeof report};
  if (fixture_open(&f, "")) {
    lorasc_adapter *adapter = NULL;
    CHECK_OK(lorasc_adapter_create(f.model, f.options, &report, &adapter));
    CHECK(report.matched == 2 * TINY_LAYERS); /* query, value */
    uint64_t elements = 0;
    bool query_a = false, query_b = false;
    for (size_t i = 0; i < lorasc_adapter_tensor_count(adapter); i++) {
      lorasc_tensor_info info = {.struct_size = sizeof info};
      CHECK_OK(lorasc_adapter_tensor_info(adapter, i, &info));
      check_about(info.name);
      elements += info.elements;
      CHECK(info.rank == 1 || info.shape[0] * info.shape[1] == info.elements);
      if (!strcmp(info.name, QUERY ".lora_A.weight"))
        query_a = info.shape[0] == RANK && info.shape[1] == TINY_HIDDEN;
      if (!strcmp(info.name, QUERY ".lora_B.weight"))
        query_b = info.shape[0] == TINY_HIDDEN && info.shape[1] == RANK;
      float *old = malloc(info.elements * sizeof *old), *now = malloc(info.elements * sizeof *now);
      size_t need = 0, count = info.elements;
      if (CHECK(old && now)) {
        CHECK_OK(lorasc_adapter_copy_out(adapter, info.name, NULL, 0, &need));
        CHECK(need == count);
        CHECK_STATUS(lorasc_adapter_copy_out(adapter, info.name, old, count - 1, &need),
                     LORASC_E_BUFFER);
        CHECK_OK(lorasc_adapter_copy_out(adapter, info.name, old, count, &need));
        for (size_t e = 0; e < count; e++) now[e] = (float)e * 0.25f - 3;
        CHECK_STATUS(lorasc_adapter_copy_in(adapter, info.name, now, count - 1), LORASC_E_SHAPE);
        CHECK_STATUS(lorasc_adapter_copy_in(adapter, info.name, now, count + 1), LORASC_E_SHAPE);
        now[count - 1] = NAN;
        CHECK_STATUS(lorasc_adapter_copy_in(adapter, info.name, now, count),
                     LORASC_E_NONFINITE);
        now[count - 1] = -INFINITY;
        CHECK_STATUS(lorasc_adapter_copy_in(adapter, info.name, now, count),
                     LORASC_E_NONFINITE);
        CHECK_OK(lorasc_adapter_copy_out(adapter, info.name, now, count, &need));
        CHECK(same_bits(old, now, count)); /* the refused ones left it alone */
        now[0] = 0.5f;
        CHECK_OK(lorasc_adapter_copy_in(adapter, info.name, now, count));
        CHECK_OK(lorasc_adapter_copy_out(adapter, info.name, old, count, &need));
        CHECK(same_bits(old, now, count));
      }
      free(old);
      free(now);
    }
    CHECK(query_a && query_b);
    CHECK(elements == report.trainable_parameters);
    size_t need;
    float value;
    CHECK_STATUS(lorasc_adapter_copy_out(adapter, "nope", &value, 1, &need), LORASC_E_NOT_FOUND);
    CHECK_STATUS(lorasc_adapter_copy_in(adapter, "nope", &value, 1), LORASC_E_NOT_FOUND);
    lorasc_adapter_free(adapter);
  }
  fixture_close(&f);
}

void adapter_rules(void) {
  static const struct {
    const char *settings;
    lorasc_status status;
  } cases[] = {
      {"target_modules=no_such_module", LORASC_E_NO_MATCH},
      {"target_modules=no_such_module allow_no_match=true", LORASC_OK},
      {"target_modules=all-linear", LORASC_OK},
      {"target_modules=encoder\\.layer\\.1\\..*dense", LORASC_OK},
      {"target_modules=(unclosed", LORASC_E_OPTION},
      {"r=33", LORASC_OK}, /* over the matrix's dimension, as in PEFT */
      {"r=33 init_lora_weights=pissa", LORASC_E_OPTION}, /* more than singular values */
      {"rank_pattern=[]", LORASC_E_OPTION},
      {"rank_pattern={\"query\":0}", LORASC_E_OPTION},
      {"rank_pattern={\"stranger\":1}", LORASC_E_NO_MATCH},
      {"modules_to_save=stranger", LORASC_E_NO_MATCH},
      {"target_modules=word_embeddings use_dora=1", LORASC_E_UNSUPPORTED},
      {"layers_to_transform=-1", LORASC_E_OPTION},
      {"lora_alpha=0", LORASC_E_OPTION},
      {"id2label=a,b", LORASC_E_OPTION}, /* for three labels */
      {"modules_to_save=nonsense", LORASC_E_NO_MATCH},
  };
  lorasc_model *model;
  REQUIRE(CHECK_OK(lorasc_model_open(tiny_model_path(), NULL, &model)));
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    lorasc_options *options;
    lorasc_adapter *adapter = NULL;
    char settings[256];
    check_about(cases[i].settings);
    snprintf(settings, sizeof settings, "num_labels=3 r=4 %s", cases[i].settings);
    if (options_make(&options, settings)) {
      CHECK_STATUS(lorasc_adapter_create(model, options, NULL, &adapter), cases[i].status);
      CHECK((adapter != NULL) == (cases[i].status == LORASC_OK));
    }
    lorasc_adapter_free(adapter);
    lorasc_options_free(options);
  }
  lorasc_model_free(model);
}

void training_step(void) {
  fixture f;
  lorasc_stats stats = {.struct_size = sizeof stats}, first = stats;
  lorasc_trainer_description info = {.struct_size = sizeof info};
  if (fixture_open(&f, "cascade_unit=none max_steps=10 learning_rate=0.01 schedule=constant")) {
    CHECK_STATUS(lorasc_trainer_apply(f.trainer, NULL), LORASC_E_STATE);
    CHECK_OK(lorasc_trainer_accumulate(f.trainer, &f.rows.batch, &first));
    CHECK(first.rows == FIXTURE_ROWS && first.step == 0 && first.cascade == 1);
    CHECK(first.tokens == (uint64_t)f.rows.offsets[FIXTURE_ROWS]);
    CHECK(first.loss > 0.3 && first.loss < 5);
    CHECK_NEAR(first.loss_weight, FIXTURE_ROWS, 0);
    CHECK_OK(lorasc_trainer_discard_gradients(f.trainer));
    CHECK_STATUS(lorasc_trainer_apply(f.trainer, NULL), LORASC_E_STATE);
    for (int i = 0; i < 10; i++) {
      CHECK_OK(lorasc_trainer_accumulate(f.trainer, &f.rows.batch, NULL));
      CHECK_OK(lorasc_trainer_apply(f.trainer, &stats));
      CHECK(stats.step == (uint64_t)i + 1);
      CHECK(stats.gradient_norm > 0);
      CHECK_NEAR(stats.learning_rate, 0.01, 1e-9);
    }
    CHECK(stats.loss < first.loss);
    CHECK_OK(lorasc_trainer_info(f.trainer, &info));
    CHECK(info.step == 10 && info.total_steps == 10 && info.cascade == 1);
    CHECK(info.threads == 1 && info.plan_bytes > 0);
  }
  fixture_close(&f);
}

/* Parts of unequal size give the gradient of the whole. */
void training_accumulation(void) {
  fixture f;
  static float whole[MATRIX], parts[MATRIX];
  size_t need = 0, count = RANK * TINY_HIDDEN;
  lorasc_stats stats = {.struct_size = sizeof stats};
  if (fixture_open(&f, "cascade_unit=none max_steps=4 noise=0")) {
    const char *name = QUERY ".lora_B.weight";
    CHECK_STATUS(lorasc_trainer_gradient(f.trainer, name, whole, MATRIX, &need), LORASC_E_STATE);
    CHECK_OK(lorasc_trainer_accumulate(f.trainer, &f.rows.batch, &stats));
    double loss = stats.loss;
    CHECK_STATUS(lorasc_trainer_gradient(f.trainer, "nope", whole, MATRIX, &need),
                 LORASC_E_NOT_FOUND);
    CHECK_OK(lorasc_trainer_gradient(f.trainer, name, NULL, 0, &need));
    CHECK(need == count);
    CHECK_STATUS(lorasc_trainer_gradient(f.trainer, name, whole, count - 1, &need),
                 LORASC_E_BUFFER);
    CHECK_OK(lorasc_trainer_gradient(f.trainer, name, whole, MATRIX, &need));
    CHECK_OK(lorasc_trainer_discard_gradients(f.trainer));

    const size_t cuts[] = {0, 5, 6, 17, FIXTURE_ROWS};
    for (int part = 0; part < 4; part++) {
      int64_t offsets[FIXTURE_ROWS + 1];
      size_t rows = cuts[part + 1] - cuts[part];
      int64_t start = f.rows.offsets[cuts[part]];
      for (size_t row = 0; row <= rows; row++)
        offsets[row] = f.rows.offsets[cuts[part] + row] - start;
      lorasc_batch batch = {.struct_size = sizeof batch, .rows = rows,
                            .tokens = f.rows.tokens + start, .offsets = offsets,
                            .labels = f.rows.labels + cuts[part]};
      CHECK_OK(lorasc_trainer_accumulate(f.trainer, &batch, &stats));
      CHECK(stats.rows == cuts[part + 1]);
    }
    CHECK_NEAR(stats.loss, loss, 1e-6);
    CHECK_OK(lorasc_trainer_gradient(f.trainer, name, parts, MATRIX, &need));
    double largest = 0;
    for (size_t i = 0; i < count; i++) largest = fmax(largest, fabs(whole[i]));
    CHECK(largest > 1e-6);
    CHECK(largest_difference(whole, parts, count) <= 1e-5 * largest);
  }
  fixture_close(&f);
}

void training_learning_rates(void) {
  fixture f;
  double rate = 0;
  lorasc_stats stats = {.struct_size = sizeof stats};
  if (fixture_open(&f, "cascade_unit=none max_steps=4 learning_rate=0.25 schedule=linear")) {
    CHECK_OK(lorasc_trainer_get_learning_rate(f.trainer, &rate));
    CHECK_NEAR(rate, 0.25, 0);
    static const double bad[] = {-1e-300, -1, NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
      CHECK_STATUS(lorasc_trainer_set_learning_rate(f.trainer, bad[i]), LORASC_E_ARGUMENT);
    CHECK_OK(lorasc_trainer_set_learning_rate(f.trainer, 0.5));
    CHECK_OK(lorasc_trainer_get_learning_rate(f.trainer, &rate));
    CHECK_NEAR(rate, 0.5, 0);
    for (int i = 0; i < 4; i++) {
      CHECK_OK(lorasc_trainer_accumulate(f.trainer, &f.rows.batch, NULL));
      CHECK_OK(lorasc_trainer_apply(f.trainer, &stats));
      CHECK_NEAR(stats.learning_rate, 0.5 * (4 - i) / 4, 1e-9);
    }
    /* A rate of 0 changes nothing. */
    size_t count;
    CHECK_OK(lorasc_trainer_set_learning_rate(f.trainer, 0));
    float *before = adapter_values(f.adapter, &count);
    CHECK(step(&f));
    float *after = adapter_values(f.adapter, &count);
    CHECK(same_bits(before, after, count));
    free(before);
    free(after);
  }
  fixture_close(&f);
}

/* A learning rate beyond reason ends in a status, never in NaN weights. */
void training_nonfinite(void) {
  fixture f;
  if (fixture_open(&f, "cascade_unit=none max_steps=100 optimizer=sgd learning_rate=1e6 "
                       "max_grad_norm=0")) {
    lorasc_status status = LORASC_OK;
    CHECK_OK(lorasc_trainer_set_learning_rate(f.trainer, 1e300));
    for (int i = 0; i < 20 && status == LORASC_OK; i++) {
      status = lorasc_trainer_accumulate(f.trainer, &f.rows.batch, NULL);
      if (status == LORASC_OK) status = lorasc_trainer_apply(f.trainer, NULL);
    }
    CHECK_STATUS(status, LORASC_E_NONFINITE);
    CHECK(lorasc_last_error()->subject[0] != '\0');
    size_t count;
    float *values = adapter_values(f.adapter, &count);
    for (size_t i = 0; values && i < count; i++)
      if (!CHECK(isfinite(values[i]))) break;
    free(values);
  }
  fixture_close(&f);
}

static bool is_zero(const float *values, size_t count) {
  for (size_t i = 0; i < count; i++)
    if (values[i] != 0) return false;
  return true;
}

/* W += mu s B A by the host's own loop, with the noise gone from what is read. */
void cascade_by_hand(void) {
  static float base[MATRIX], before[MATRIX], after[MATRIX], a[MATRIX], b[MATRIX];
  fixture f;
  size_t need;
  lorasc_stats stats = {.struct_size = sizeof stats};
  const double slow_rate = 0.5, scale = 8.0 / RANK;
  if (fixture_open(&f, "method=lorasc cascade_unit=none max_steps=12 learning_rate=0.01 "
                       "slow_rate=0.5 noise=0.1")) {
    CHECK_OK(lorasc_model_tensor(f.model, QUERY ".weight", base, MATRIX, &need));
    CHECK_OK(lorasc_trainer_merged(f.trainer, QUERY ".weight", NULL, 0, &need));
    CHECK(need == MATRIX);
    CHECK_STATUS(lorasc_trainer_merged(f.trainer, QUERY ".weight", before, MATRIX - 1, &need),
                 LORASC_E_BUFFER);
    CHECK_STATUS(lorasc_trainer_merged(f.trainer, "nope", before, MATRIX, &need),
                 LORASC_E_NOT_FOUND);
    CHECK_OK(lorasc_trainer_merged(f.trainer, QUERY ".weight", before, MATRIX, &need));
    CHECK(same_bits(base, before, MATRIX)); /* B is 0 */
    for (uint32_t cascade = 1; cascade <= 3; cascade++) {
      for (int i = 0; i < 4; i++) CHECK(step(&f));
      CHECK_OK(lorasc_adapter_copy_out(f.adapter, QUERY ".lora_A.weight", a, MATRIX, &need));
      CHECK_OK(lorasc_adapter_copy_out(f.adapter, QUERY ".lora_B.weight", b, MATRIX, &need));
      CHECK(!is_zero(b, need));
      CHECK_OK(lorasc_trainer_merged(f.trainer, QUERY ".weight", before, MATRIX, &need));
      for (int row = 0; row < TINY_HIDDEN; row++)
        for (int column = 0; column < TINY_HIDDEN; column++) {
          double change = 0;
          for (int k = 0; k < RANK; k++)
            change += (double)b[row * RANK + k] * a[k * TINY_HIDDEN + column];
          base[row * TINY_HIDDEN + column] += (float)(slow_rate * scale * change);
        }
      CHECK_NEAR(largest_difference(base, before, MATRIX), 0, 1e-5);

      CHECK_OK(lorasc_trainer_accumulate(f.trainer, &f.rows.batch, NULL));
      CHECK_STATUS(lorasc_trainer_cascade(f.trainer, NULL), LORASC_E_STATE);
      CHECK_OK(lorasc_trainer_discard_gradients(f.trainer));
      CHECK_OK(lorasc_trainer_cascade(f.trainer, &stats));
      CHECK(stats.cascade == cascade + 1);
      CHECK_OK(lorasc_trainer_merged(f.trainer, QUERY ".weight", after, MATRIX, &need));
      CHECK_NEAR(largest_difference(before, after, MATRIX), 0, 1e-6);
      CHECK_OK(lorasc_adapter_copy_out(f.adapter, QUERY ".lora_B.weight", b, MATRIX, &need));
      CHECK(is_zero(b, need));
      CHECK_OK(lorasc_adapter_copy_out(f.adapter, QUERY ".lora_A.weight", b, MATRIX, &need));
      CHECK(!same_bits(a, b, need) && !is_zero(b, need)); /* reinit=new */
    }
  }
  fixture_close(&f);
}

/* slow_rate 1 and no noise, one cascade: W + s B A, which is LoRA. */
void cascade_lora(void) {
  fixture lora, lorasc;
  if (fixture_open(&lora, "method=lora cascade_unit=none max_steps=6 learning_rate=0.01") &&
      fixture_open(&lorasc, "method=lorasc cascade_unit=none max_steps=6 learning_rate=0.01 "
                            "slow_rate=1 noise=0")) {
    for (int i = 0; i < 6; i++) CHECK(step(&lora) && step(&lorasc));
    CHECK(same_values(lora.adapter, lorasc.adapter));
  }
  fixture_close(&lora);
  fixture_close(&lorasc);
}

void predictions(void) {
  fixture f;
  size_t need = 0, rows = FIXTURE_ROWS, tokens;
  float *logits = NULL, *fast = NULL, *embedding = NULL;
  if (fixture_open(&f, "cascade_unit=none max_steps=20 learning_rate=0.01 noise=0")) {
    const lorasc_batch *batch = &f.rows.batch;
    tokens = (size_t)f.rows.offsets[rows];
    for (int i = 0; i < 5; i++) CHECK(step(&f));
    CHECK_OK(lorasc_predict(f.model, f.adapter, batch, LORASC_PREDICT_LOGITS, NULL, 0, &need));
    CHECK(need == rows * TINY_LABELS);
    CHECK_OK(lorasc_predict(f.model, f.adapter, batch, LORASC_PREDICT_EMBEDDING, NULL, 0, &need));
    CHECK(need == rows * TINY_HIDDEN);
    CHECK_OK(lorasc_predict(f.model, f.adapter, batch, LORASC_PREDICT_TOKEN_EMBEDDING, NULL, 0,
                            &need));
    CHECK(need == tokens * TINY_HIDDEN);
    logits = calloc(rows * TINY_LABELS + 1, sizeof *logits);
    fast = calloc(rows * TINY_LABELS, sizeof *fast);
    embedding = calloc(need, sizeof *embedding);
    if (CHECK(logits && fast && embedding)) {
      size_t count = rows * TINY_LABELS;
      logits[0] = logits[count] = -77;
      CHECK_STATUS(lorasc_predict(f.model, f.adapter, batch, 0, logits, count - 1, &need),
                   LORASC_E_BUFFER);
      CHECK(logits[0] == -77 && need == count);
      CHECK_OK(lorasc_predict(f.model, f.adapter, batch, 0, logits, count + 1, &need));
      CHECK(logits[0] != -77 && logits[count] == -77);
      CHECK_OK(lorasc_predict(f.model, f.adapter, batch, LORASC_PREDICT_FAST, fast, count, &need));
      CHECK(!same_bits(logits, fast, count));

      /* The trainer's evaluation says the same. */
      lorasc_evaluation merged = {.struct_size = sizeof merged}, of_fast = merged;
      CHECK_OK(lorasc_trainer_evaluate(f.trainer, f.dataset, 0, &merged));
      CHECK_OK(lorasc_trainer_evaluate(f.trainer, f.dataset, 1, &of_fast));
      for (int which = 0; which < 2; which++) {
        const float *values = which ? fast : logits;
        double loss = 0, right = 0;
        for (size_t row = 0; row < rows; row++) {
          const float *x = values + row * TINY_LABELS;
          double sum = 0;
          int best = 0;
          for (int label = 0; label < TINY_LABELS; label++) {
            sum += exp(x[label]);
            if (x[label] > x[best]) best = label;
          }
          loss += (log(sum) - x[f.rows.labels[row]]) / (double)rows;
          right += best == f.rows.labels[row];
        }
        CHECK_NEAR((which ? of_fast : merged).loss, loss, 1e-5);
        CHECK_NEAR((which ? of_fast : merged).accuracy, right / (double)rows, 1e-9);
        CHECK((which ? of_fast : merged).rows == rows);
      }

      /* The mean of a row's token embeddings is its embedding. */
      float means[FIXTURE_ROWS * TINY_HIDDEN];
      CHECK_OK(lorasc_predict(f.model, NULL, batch, LORASC_PREDICT_TOKEN_EMBEDDING, embedding,
                              tokens * TINY_HIDDEN, &need));
      CHECK_OK(lorasc_predict(f.model, NULL, batch, LORASC_PREDICT_EMBEDDING, means,
                              rows * TINY_HIDDEN, &need));
      for (size_t row = 0; row < rows; row++)
        for (int h = 0; h < TINY_HIDDEN; h++) {
          double sum = 0;
          for (int64_t t = f.rows.offsets[row]; t < f.rows.offsets[row + 1]; t++)
            sum += embedding[t * TINY_HIDDEN + h];
          CHECK_NEAR(means[row * TINY_HIDDEN + (size_t)h],
                     sum / (double)(f.rows.offsets[row + 1] - f.rows.offsets[row]), 1e-5);
        }
      CHECK_STATUS(lorasc_predict(f.model, NULL, batch, LORASC_PREDICT_LOGITS, logits, count,
                                  &need), LORASC_E_STATE); /* the folder has no head */
      CHECK_STATUS(lorasc_predict(f.model, f.adapter, batch, 4, logits, count, &need),
                   LORASC_E_ARGUMENT);
      CHECK_STATUS(lorasc_predict(f.model, f.adapter, batch, UINT32_MAX, logits, count, &need),
                   LORASC_E_ARGUMENT);
      CHECK_STATUS(lorasc_predict(f.model, f.adapter, batch, 0, NULL, 5, &need),
                   LORASC_E_BUFFER);
    }
  }
  free(logits);
  free(fast);
  free(embedding);
  fixture_close(&f);
}

static void merged_folder_with(const char *head) {
  fixture f;
  char settings[160];
  float before[FIXTURE_ROWS * TINY_LABELS], after[FIXTURE_ROWS * TINY_LABELS];
  size_t need, count = FIXTURE_ROWS * TINY_LABELS;
  const char *folder = in_folder("merged");
  lorasc_model *merged = NULL;
  lorasc_merge_report report = {.struct_size = sizeof report};
  lorasc_model_description info = {.struct_size = sizeof info};
  snprintf(settings, sizeof settings,
           "cascade_unit=none max_steps=8 learning_rate=0.01 id2label=red,green,blue head=%s",
           head);
  check_about(head);
  if (fixture_open(&f, settings)) {
    for (int i = 0; i < 4; i++) CHECK(step(&f));
    CHECK_OK(lorasc_trainer_cascade(f.trainer, NULL));
    for (int i = 0; i < 4; i++) CHECK(step(&f));
    CHECK_OK(lorasc_predict(f.model, f.adapter, &f.rows.batch, 0, before, count, &need));
    for (int time = 0; time < 2; time++) { /* the second time over the first */
      CHECK_OK(lorasc_adapter_merge(f.model, f.adapter, folder, &report));
      CHECK(report.changed >= 2 * TINY_LAYERS && report.tensors >= TINY_TENSORS);
      CHECK(report.max_change > 0 && report.rounded_away >= 0 && report.rounded_away <= 1);
      if (CHECK_OK(lorasc_model_open(folder, NULL, &merged))) {
        CHECK_OK(lorasc_model_info(merged, &info));
        CHECK_TEXT(info.head, head);
        CHECK(info.num_labels == TINY_LABELS);
        CHECK_OK(lorasc_predict(merged, NULL, &f.rows.batch, 0, after, count, &need));
        CHECK_NEAR(largest_difference(before, after, count), 0, 1e-4);
        lorasc_model_free(merged);
      }
    }
    /* The model's own folder is refused, and stays what it is. */
    CHECK_STATUS(lorasc_adapter_merge(f.model, f.adapter, tiny_model_path(), NULL),
                 LORASC_E_ARGUMENT);
    CHECK_OK(lorasc_model_open(tiny_model_path(), NULL, &merged));
    lorasc_model_free(merged);
    char file[1200];
    snprintf(file, sizeof file, "%s/config.json/below", tiny_model_path());
    CHECK(lorasc_adapter_merge(f.model, f.adapter, file, NULL) != LORASC_OK);
    CHECK(lorasc_last_error()->system_error == ENOTDIR);
  }
  fixture_close(&f);
  remove_tree(folder);
}

void merged_folder(void) {
  merged_folder_with("mean_linear");
  merged_folder_with("classifier");
}

/* The whole way with nothing set but the number of classes, and the model without options. */
void all_defaults(void) {
  lorasc_options *options = NULL;
  lorasc_model *model = NULL, *merged = NULL;
  lorasc_adapter *adapter = NULL;
  lorasc_trainer *trainer = NULL;
  lorasc_dataset *dataset = NULL;
  tiny_rows rows;
  float before[FIXTURE_ROWS * TINY_LABELS], after[FIXTURE_ROWS * TINY_LABELS];
  size_t need, count = FIXTURE_ROWS * TINY_LABELS;
  const char *folder = in_folder("merged");
  REQUIRE(CHECK(tiny_rows_make(&rows, FIXTURE_ROWS, 1)));
  if (options_make(&options, "num_labels=3") &&
      CHECK_OK(lorasc_model_open(tiny_model_path(), NULL, &model)) &&
      CHECK_OK(lorasc_adapter_create(model, options, NULL, &adapter)) &&
      CHECK_OK(lorasc_trainer_create(model, adapter, options, &trainer)) &&
      CHECK_OK(lorasc_dataset_create(&rows.batch, &dataset)) &&
      CHECK_OK(lorasc_trainer_run(trainer, dataset, dataset, NULL, NULL)) &&
      CHECK_OK(lorasc_predict(model, adapter, &rows.batch, 0, before, count, &need)) &&
      CHECK_OK(lorasc_adapter_merge(model, adapter, folder, NULL)) &&
      CHECK_OK(lorasc_model_open(folder, NULL, &merged)) &&
      CHECK_OK(lorasc_predict(merged, NULL, &rows.batch, 0, after, count, &need)))
    CHECK_NEAR(largest_difference(before, after, count), 0, 1e-4);
  lorasc_model_free(merged);
  lorasc_dataset_free(dataset);
  lorasc_trainer_free(trainer);
  lorasc_adapter_free(adapter);
  lorasc_model_free(model);
  lorasc_options_free(options);
  tiny_rows_free(&rows);
  remove_tree(folder);
}

void trainer_refused(void) {
  fixture f;
  lorasc_trainer *second = NULL;
  lorasc_options *options;
  lorasc_model *other;
  char path[1200];
  size_t need;
  if (fixture_open(&f, "")) {
    CHECK_STATUS(lorasc_trainer_create(f.model, f.adapter, f.options, &second), LORASC_E_BUSY);
    lorasc_trainer_free(f.trainer);
    CHECK_OK(lorasc_trainer_create(f.model, f.adapter, f.options, &f.trainer));
    lorasc_trainer_free(f.trainer);
    static const char *contradictions[] = {"class_weights=1,2", "class_weights=1,2,x",
                                           "cascade_unit=list", "slow_rate=0", "eps=0"};
    for (size_t i = 0; i < sizeof contradictions / sizeof contradictions[0]; i++) {
      check_about(contradictions[i]);
      if (options_make(&options, contradictions[i]))
        CHECK_STATUS(lorasc_trainer_create(f.model, f.adapter, options, &second),
                     LORASC_E_OPTION);
      lorasc_options_free(options);
    }
    check_about(NULL);
    /* Nobody's trainer, so another may have it; and with another model, nobody may. */
    CHECK_OK(lorasc_trainer_create(f.model, f.adapter, f.options, &f.trainer));
    snprintf(path, sizeof path, "%s", in_folder("other"));
    CHECK(tiny_model_write(path, MODEL_SEED + 1));
    if (CHECK_OK(lorasc_model_open(path, NULL, &other))) {
      float logits[FIXTURE_ROWS * TINY_LABELS];
      CHECK_STATUS(lorasc_predict(other, f.adapter, &f.rows.batch, 0, logits,
                                  FIXTURE_ROWS * TINY_LABELS, &need), LORASC_E_MISMATCH);
      CHECK_STATUS(lorasc_adapter_merge(other, f.adapter, in_folder("unmade"), NULL),
                   LORASC_E_MISMATCH);
      lorasc_trainer_free(f.trainer);
      CHECK_STATUS(lorasc_trainer_create(other, f.adapter, f.options, &second),
                   LORASC_E_MISMATCH);
      lorasc_model_free(other);
    }
    CHECK(second == NULL);
    remove_tree(path);
  }
  fixture_close(&f);
}
