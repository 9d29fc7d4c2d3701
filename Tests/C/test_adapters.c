/* Adapter files, combinations, scales and merges by type. */
#include "fixture.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { LOGITS = FIXTURE_ROWS * TINY_LABELS };

static bool logits(fixture *f, lorasc_adapter *adapter, float *values) {
  size_t need;
  return CHECK_OK(lorasc_predict(f->model, adapter, &f->rows.batch, 0, values, LOGITS, &need));
}

/* A PEFT folder of a finished cascade predicts what the adapter does. */
void adapter_files(void) {
  fixture f;
  float before[LOGITS], after[LOGITS];
  const char *folder = in_folder("adapter");
  lorasc_adapter *again = NULL;
  lorasc_match_report match = {.struct_size = sizeof match};
  lorasc_save_report report = {.struct_size = sizeof report};
  if (fixture_open(&f, "cascade_unit=none max_steps=8 learning_rate=0.01 noise=0")) {
    for (int i = 0; i < 4; i++) CHECK(step(&f));
    CHECK_OK(lorasc_trainer_cascade(f.trainer, NULL));
    for (int i = 0; i < 4; i++) CHECK(step(&f));
    logits(&f, f.adapter, before);
    CHECK_OK(lorasc_adapter_save(f.model, f.adapter, folder, 0, &report));
    CHECK(report.rank > 0 && report.rank % 2 == 0 && report.error == 0);
    if (CHECK_OK(lorasc_adapter_load(f.model, folder, NULL, &match, &again))) {
      CHECK(match.matched == lorasc_adapter_module_count(f.adapter));
      logits(&f, again, after);
      CHECK_NEAR(largest_difference(before, after, LOGITS), 0, 1e-4);
      lorasc_adapter_free(again);
    }
    CHECK_OK(lorasc_adapter_save(f.model, f.adapter, folder, 1, &report));
    CHECK(report.rank == 1 && report.error > 0 && report.error < 1);
    /* More than there is to truncate. */
    CHECK_OK(lorasc_adapter_save(f.model, f.adapter, folder, UINT32_MAX, &report));
    CHECK(report.rank <= 32 && report.error < 1e-5);
    CHECK_STATUS(lorasc_adapter_save(f.model, f.adapter, tiny_model_path(), 0, NULL),
                 LORASC_E_ARGUMENT);
    CHECK_STATUS(lorasc_adapter_load(f.model, in_folder("nowhere"), NULL, NULL, &again),
                 LORASC_E_NOT_FOUND);
    CHECK_OK(lorasc_adapter_export(f.model, f.adapter, in_folder("mlx"), "mlx"));
    CHECK_STATUS(lorasc_adapter_export(f.model, f.adapter, in_folder("mlx"), "onnx"),
                 LORASC_E_ARGUMENT);
    remove_tree(in_folder("mlx"));
  }
  fixture_close(&f);
  remove_tree(folder);
}

/* Twice the adapter at half of its scale is the adapter. */
void adapter_scales(void) {
  fixture f;
  float whole[LOGITS], half[LOGITS], twice[LOGITS];
  lorasc_adapter *combined = NULL;
  double scale = 0, error = 1;
  const double weights[] = {1, 1}, wrong[] = {1, -1};
  if (fixture_open(&f, "cascade_unit=none max_steps=8 learning_rate=0.01 method=lora")) {
    for (int i = 0; i < 4; i++) CHECK(step(&f));
    logits(&f, f.adapter, whole);
    CHECK_OK(lorasc_adapter_set_scale(f.adapter, 0.5));
    CHECK_OK(lorasc_adapter_get_scale(f.adapter, &scale));
    CHECK(scale == 0.5);
    logits(&f, f.adapter, half);
    CHECK(largest_difference(whole, half, LOGITS) > 0);
    lorasc_adapter *const two[] = {f.adapter, f.adapter};
    if (CHECK_OK(lorasc_adapter_combine(f.model, two, weights, 2, 0, &error, &combined))) {
      CHECK(error == 0);
      logits(&f, combined, twice);
      CHECK_NEAR(largest_difference(whole, twice, LOGITS), 0, 1e-4);
      lorasc_adapter_free(combined);
    }
    CHECK_STATUS(lorasc_adapter_combine(f.model, two, wrong, 2, 0, NULL, &combined),
                 LORASC_E_ARGUMENT);
    CHECK_STATUS(lorasc_adapter_set_scale(f.adapter, NAN), LORASC_E_ARGUMENT);
    CHECK_STATUS(lorasc_adapter_set_scale(f.adapter, INFINITY), LORASC_E_ARGUMENT);
  }
  fixture_close(&f);
}

void adapter_modules(void) {
  fixture f;
  lorasc_module_info info = {.struct_size = sizeof info};
  lorasc_merge_tensor change = {.struct_size = sizeof change};
  if (fixture_open(&f, "target_modules=query,value rank_pattern={\"value\":3} r=2 lora_alpha=6 schedule=constant")) {
    size_t count = lorasc_adapter_module_count(f.adapter);
    CHECK(count == 2 * TINY_LAYERS);
    for (size_t i = 0; i < count; i++) {
      CHECK_OK(lorasc_adapter_module_info(f.adapter, i, &info));
      bool is_value = strcmp(info.rule, "value") == 0;
      CHECK(is_value || strcmp(info.rule, "query") == 0);
      CHECK(info.rank == (is_value ? 3u : 2u) && info.scale == (is_value ? 2 : 3));
      CHECK(strstr(info.module, info.rule) != NULL);
    }
    CHECK_STATUS(lorasc_adapter_module_info(f.adapter, count, &info), LORASC_E_ARGUMENT);
    CHECK_STATUS(lorasc_adapter_module_info(f.adapter, (size_t)-1, &info), LORASC_E_ARGUMENT);
    CHECK(lorasc_adapter_merge_tensor_count(f.adapter) == 0);
    CHECK(step(&f));
    const char *folder = in_folder("typed");
    CHECK_OK(lorasc_adapter_merge_as(f.model, f.adapter, folder, "bf16", NULL));
    CHECK(lorasc_adapter_merge_tensor_count(f.adapter) == count);
    CHECK_OK(lorasc_adapter_merge_tensor_info(f.adapter, 0, &change));
    CHECK(change.changed > 0 && change.changed <= change.elements && change.max_change > 0);
    CHECK(change.rounded_away >= 0 && change.rounded_away <= 1);
    CHECK_STATUS(lorasc_adapter_merge_as(f.model, f.adapter, folder, "f64", NULL),
                 LORASC_E_ARGUMENT);
    remove_tree(folder);
  }
  fixture_close(&f);
}
