/* Every function with a NULL, freed, foreign and wrong-kind handle, and NULL pointers. */
#include "fixture.h"

#include <stdio.h>
#include <string.h>

enum kind { OPTIONS, MODEL, DATASET, ADAPTER, TRAINER, KINDS };

static fixture f;
static char sentinel;
static void *const untouched = &sentinel;
static void *out;
static float values[4];
static size_t need;
static double rate;
static lorasc_signal_fn function;

/* Calls with one handle in question, all else in order. */
#define CALL(name, handle_type, expression) \
  static lorasc_status name(void *h) {      \
    handle_type *handle = h;                \
    return expression;                      \
  }
CALL(options_set, lorasc_options, lorasc_options_set(handle, "r", "4"))
CALL(options_get, lorasc_options, lorasc_options_get(handle, "r", NULL, 0, &need))
CALL(options_json, lorasc_options, lorasc_options_load_json(handle, "{}"))
CALL(adapter_options, lorasc_options,
     lorasc_adapter_create(f.model, handle, NULL, (lorasc_adapter **)&out))
CALL(trainer_options, lorasc_options,
     lorasc_trainer_create(f.model, f.adapter, handle, (lorasc_trainer **)&out))
static lorasc_status model_info(void *handle) {
  lorasc_model_description info = {.struct_size = sizeof info};
  return lorasc_model_info(handle, &info);
}
static lorasc_status model_tensor_info(void *handle) {
  lorasc_tensor_info info = {.struct_size = sizeof info};
  return lorasc_model_tensor_info(handle, 0, &info);
}
CALL(model_tensor, lorasc_model,
     lorasc_model_tensor(handle, "pooler.dense.bias", NULL, 0, &need))
CALL(model_file, lorasc_model, lorasc_model_file(handle, "config.json", NULL, 0, &need))
CALL(model_retain, lorasc_model, lorasc_model_retain(handle))
CALL(adapter_model, lorasc_model,
     lorasc_adapter_create(handle, f.options, NULL, (lorasc_adapter **)&out))
CALL(trainer_model, lorasc_model,
     lorasc_trainer_create(handle, f.adapter, f.options, (lorasc_trainer **)&out))
CALL(merge_model, lorasc_model,
     lorasc_adapter_merge(handle, f.adapter, in_folder("unmade"), NULL))
CALL(predict_model, lorasc_model,
     lorasc_predict(handle, f.adapter, &f.rows.batch, 0, NULL, 0, &need))
CALL(generate_model, lorasc_model,
     lorasc_generate(handle, NULL, &(int32_t){1}, 1, NULL, NULL, NULL, NULL, 0, &need))
static lorasc_status adapter_tensor_info(void *handle) {
  lorasc_tensor_info info = {.struct_size = sizeof info};
  return lorasc_adapter_tensor_info(handle, 0, &info);
}
CALL(copy_out, lorasc_adapter, lorasc_adapter_copy_out(handle, "x", NULL, 0, &need))
CALL(copy_in, lorasc_adapter, lorasc_adapter_copy_in(handle, "x", values, 4))
CALL(merge, lorasc_adapter, lorasc_adapter_merge(f.model, handle, in_folder("unmade"), NULL))
CALL(merge_as, lorasc_adapter,
     lorasc_adapter_merge_as(f.model, handle, in_folder("unmade"), "bf16", NULL))
CALL(adapter_save, lorasc_adapter,
     lorasc_adapter_save(f.model, handle, in_folder("unmade"), 0, NULL))
CALL(export, lorasc_adapter, lorasc_adapter_export(f.model, handle, in_folder("unmade"), "mlx"))
CALL(set_scale, lorasc_adapter, lorasc_adapter_set_scale(handle, 1))
static lorasc_status estimate(void *handle) {
  lorasc_estimate_info info = {.struct_size = sizeof info};
  return lorasc_estimate(handle, NULL, &info);
}
CALL(adapter_info, lorasc_adapter,
     lorasc_adapter_info(handle, &(lorasc_adapter_description){.struct_size = 80}))
CALL(get_scale, lorasc_adapter, lorasc_adapter_get_scale(handle, &rate))
static lorasc_status module_info(void *handle) {
  lorasc_module_info info = {.struct_size = sizeof info};
  return lorasc_adapter_module_info(handle, 0, &info);
}
static lorasc_status merge_tensor_info(void *handle) {
  lorasc_merge_tensor info = {.struct_size = sizeof info};
  return lorasc_adapter_merge_tensor_info(handle, 0, &info);
}
static lorasc_status combine(void *handle) {
  lorasc_adapter *const adapters[] = {f.adapter, handle};
  const double weights[] = {1, 1};
  return lorasc_adapter_combine(f.model, adapters, weights, 2, 0, NULL, (lorasc_adapter **)&out);
}
CALL(load_model, lorasc_model,
     lorasc_adapter_load(handle, in_folder("unmade"), NULL, NULL, (lorasc_adapter **)&out))
CALL(save_model, lorasc_model,
     lorasc_adapter_save(handle, f.adapter, in_folder("unmade"), 0, NULL))
CALL(trainer_adapter, lorasc_adapter,
     lorasc_trainer_create(f.model, handle, f.options, (lorasc_trainer **)&out))
CALL(accumulate, lorasc_trainer, lorasc_trainer_accumulate(handle, &f.rows.batch, NULL))
CALL(apply, lorasc_trainer, lorasc_trainer_apply(handle, NULL))
CALL(discard, lorasc_trainer, lorasc_trainer_discard_gradients(handle))
CALL(gradient, lorasc_trainer, lorasc_trainer_gradient(handle, "x", values, 4, &need))
CALL(cascade, lorasc_trainer, lorasc_trainer_cascade(handle, NULL))
CALL(get_rate, lorasc_trainer, lorasc_trainer_get_learning_rate(handle, &rate))
CALL(set_rate, lorasc_trainer, lorasc_trainer_set_learning_rate(handle, 1))
static lorasc_status evaluate(void *handle) {
  lorasc_evaluation evaluation = {.struct_size = sizeof evaluation};
  return lorasc_trainer_evaluate(handle, f.dataset, 0, &evaluation);
}
CALL(run, lorasc_trainer, lorasc_trainer_run(handle, f.dataset, NULL, NULL, NULL))
CALL(interrupt, lorasc_trainer, lorasc_trainer_interrupt(handle))
CALL(merged, lorasc_trainer, lorasc_trainer_merged(handle, "x", values, 4, &need))
CALL(save, lorasc_trainer, lorasc_trainer_save(handle, in_folder("unmade")))
CALL(resume, lorasc_trainer, lorasc_trainer_resume(handle, in_folder("unmade")))
static lorasc_status trainer_info(void *handle) {
  lorasc_trainer_description info = {.struct_size = sizeof info};
  return lorasc_trainer_info(handle, &info);
}
CALL(bind, lorasc_trainer, lorasc_bind_interrupt(handle, &function))
static lorasc_status evaluate_dataset(void *handle) {
  lorasc_evaluation evaluation = {.struct_size = sizeof evaluation};
  return lorasc_trainer_evaluate(f.trainer, handle, 0, &evaluation);
}
CALL(run_dataset, lorasc_dataset, lorasc_trainer_run(f.trainer, handle, NULL, NULL, NULL))

static const struct {
  const char *name;
  enum kind kind;
  lorasc_status (*call)(void *handle);
} calls[] = {
#define ROW(kind, name) {#name, kind, name}
    ROW(OPTIONS, options_set),   ROW(OPTIONS, options_get),
    ROW(OPTIONS, options_json),  ROW(OPTIONS, adapter_options),
    ROW(OPTIONS, trainer_options), ROW(MODEL, model_info),
    ROW(MODEL, model_tensor_info), ROW(MODEL, model_tensor),
    ROW(MODEL, model_file),      ROW(MODEL, model_retain),
    ROW(MODEL, adapter_model),   ROW(MODEL, trainer_model),
    ROW(MODEL, merge_model),     ROW(MODEL, predict_model),
    ROW(ADAPTER, adapter_tensor_info), ROW(ADAPTER, copy_out), ROW(ADAPTER, copy_in),
    ROW(ADAPTER, merge),         ROW(ADAPTER, trainer_adapter),
    ROW(ADAPTER, merge_as),      ROW(ADAPTER, adapter_save),
    ROW(ADAPTER, export),        ROW(ADAPTER, set_scale),
    ROW(ADAPTER, get_scale),     ROW(ADAPTER, module_info), ROW(ADAPTER, adapter_info),
    ROW(ADAPTER, merge_tensor_info), ROW(ADAPTER, combine),
    ROW(MODEL, load_model),      ROW(MODEL, save_model),
    ROW(MODEL, estimate),        ROW(MODEL, generate_model),
    ROW(TRAINER, accumulate),    ROW(TRAINER, apply),
    ROW(TRAINER, discard),       ROW(TRAINER, gradient),
    ROW(TRAINER, cascade),       ROW(TRAINER, get_rate),
    ROW(TRAINER, set_rate),      ROW(TRAINER, evaluate),
    ROW(TRAINER, run),           ROW(TRAINER, interrupt),
    ROW(TRAINER, merged),        ROW(TRAINER, save),
    ROW(TRAINER, resume),        ROW(TRAINER, trainer_info),
    ROW(TRAINER, bind),          ROW(DATASET, evaluate_dataset),
    ROW(DATASET, run_dataset),
#undef ROW
};

static void free_kind(enum kind kind, void *handle) {
  switch (kind) {
    case OPTIONS: lorasc_options_free(handle); break;
    case MODEL: lorasc_model_free(handle); break;
    case DATASET: lorasc_dataset_free(handle); break;
    case ADAPTER: lorasc_adapter_free(handle); break;
    case TRAINER: lorasc_trainer_free(handle); break;
    case KINDS: break;
  }
}

static void all_refuse(enum kind kind, void *handle, const char *what) {
  char about[160];
  for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
    if (calls[i].kind != kind) continue;
    if (!handle && calls[i].call == adapter_options) continue; /* all defaults, as in open */
    if (!handle && calls[i].call == trainer_options) continue;
    snprintf(about, sizeof about, "%s with a %s handle", calls[i].name, what);
    check_about(about);
    out = untouched;
    CHECK_STATUS(calls[i].call(handle), LORASC_E_HANDLE);
    CHECK(out == untouched);
  }
  check_about(what);
  if (kind == MODEL) CHECK(lorasc_model_tensor_count(handle) == 0);
  if (kind == ADAPTER) CHECK(lorasc_adapter_tensor_count(handle) == 0);
  if (kind == DATASET) CHECK(lorasc_dataset_rows(handle) == 0);
  free_kind(kind, handle); /* does nothing */
}

static void *handle_of(fixture *from, enum kind kind) {
  switch (kind) {
    case OPTIONS: return from->options;
    case MODEL: return from->model;
    case DATASET: return from->dataset;
    case ADAPTER: return from->adapter;
    case TRAINER: return from->trainer;
    case KINDS: break;
  }
  return NULL;
}

void handles_refused(void) {
  fixture freed;
  static unsigned char foreign[256];
  memset(foreign, 0x5a, sizeof foreign);
  if (fixture_open(&f, "cascade_unit=none max_steps=4") && fixture_open(&freed, "")) {
    fixture gone = freed;
    fixture_close(&freed);
    for (enum kind kind = 0; kind < KINDS; kind++) {
      all_refuse(kind, NULL, "NULL");
      all_refuse(kind, handle_of(&gone, kind), "freed");
      all_refuse(kind, foreign, "foreign");
      all_refuse(kind, (void *)(uintptr_t)1, "odd foreign");
      all_refuse(kind, (void *)UINTPTR_MAX, "largest foreign");
      for (enum kind other = 0; other < KINDS; other++)
        if (other != kind) all_refuse(kind, handle_of(&f, other), "wrong-kind");
    }
    check_about("after all of it the real ones still work");
    CHECK(step(&f));
    CHECK(lorasc_dataset_rows(f.dataset) == FIXTURE_ROWS);
  }
  fixture_close(&f);
}

/* Handles given out again later never look like old ones. */
void handles_recycled(void) {
  lorasc_options *old[64], *now;
  for (int i = 0; i < 64; i++) {
    REQUIRE(CHECK_OK(lorasc_options_create(&old[i])));
    lorasc_options_free(old[i]);
  }
  REQUIRE(CHECK_OK(lorasc_options_create(&now)));
  for (int i = 0; i < 64; i++) {
    CHECK_STATUS(lorasc_options_set(old[i], "r", "4"), LORASC_E_HANDLE);
    lorasc_options_free(old[i]);
  }
  CHECK_OK(lorasc_options_set(now, "r", "4"));
  lorasc_options_free(now);
}

void pointers_null(void) {
  lorasc_batch *no_batch = NULL;
  if (fixture_open(&f, "cascade_unit=none max_steps=4")) {
    CHECK_STATUS(lorasc_options_create(NULL), LORASC_E_ARGUMENT);
    CHECK_STATUS(lorasc_model_info(f.model, NULL), LORASC_E_ARGUMENT);
    CHECK_STATUS(lorasc_model_tensor_info(f.model, 0, NULL), LORASC_E_ARGUMENT);
    CHECK_STATUS(lorasc_dataset_create(no_batch, &f.dataset), LORASC_E_ARGUMENT);
    CHECK_STATUS(lorasc_dataset_create(&f.rows.batch, NULL), LORASC_E_ARGUMENT);
    CHECK_STATUS(lorasc_adapter_create(f.model, f.options, NULL, NULL), LORASC_E_ARGUMENT);
    CHECK_STATUS(lorasc_adapter_tensor_info(f.adapter, 0, NULL), LORASC_E_ARGUMENT);
    CHECK_STATUS(lorasc_adapter_copy_out(f.adapter, NULL, values, 4, &need), LORASC_E_ARGUMENT);
    CHECK_STATUS(lorasc_adapter_copy_in(f.adapter, NULL, values, 4), LORASC_E_ARGUMENT);
    CHECK_STATUS(lorasc_adapter_copy_in(f.adapter, "classifier.weight", NULL, 4),
                 LORASC_E_ARGUMENT);
    CHECK_STATUS(lorasc_adapter_merge(f.model, f.adapter, NULL, NULL), LORASC_E_ARGUMENT);
    CHECK_STATUS(lorasc_adapter_merge_as(f.model, f.adapter, NULL, "f32", NULL),
                 LORASC_E_ARGUMENT);
    CHECK_STATUS(lorasc_adapter_merge_as(f.model, f.adapter, "x", NULL, NULL), LORASC_E_ARGUMENT);
    CHECK_STATUS(lorasc_adapter_save(f.model, f.adapter, NULL, 0, NULL), LORASC_E_ARGUMENT);
    CHECK_STATUS(lorasc_adapter_load(f.model, NULL, NULL, NULL, &f.adapter), LORASC_E_ARGUMENT);
    CHECK_STATUS(lorasc_adapter_load(f.model, "x", NULL, NULL, NULL), LORASC_E_ARGUMENT);
    CHECK_STATUS(lorasc_adapter_export(f.model, f.adapter, NULL, "mlx"), LORASC_E_ARGUMENT);
    CHECK_STATUS(lorasc_adapter_export(f.model, f.adapter, "x", NULL), LORASC_E_ARGUMENT);
    CHECK_STATUS(lorasc_adapter_get_scale(f.adapter, NULL), LORASC_E_ARGUMENT);
    CHECK_STATUS(lorasc_adapter_module_info(f.adapter, 0, NULL), LORASC_E_ARGUMENT);
    CHECK_STATUS(lorasc_adapter_combine(f.model, NULL, NULL, 0, 0, NULL, &f.adapter),
                 LORASC_E_ARGUMENT);
    CHECK_STATUS(lorasc_predict(f.model, NULL, no_batch, 0, NULL, 0, &need), LORASC_E_ARGUMENT);
    CHECK_STATUS(lorasc_trainer_create(f.model, f.adapter, f.options, NULL), LORASC_E_ARGUMENT);
    CHECK_STATUS(lorasc_trainer_accumulate(f.trainer, no_batch, NULL), LORASC_E_ARGUMENT);
    CHECK_STATUS(lorasc_trainer_gradient(f.trainer, NULL, values, 4, &need), LORASC_E_ARGUMENT);
    CHECK_STATUS(lorasc_trainer_get_learning_rate(f.trainer, NULL), LORASC_E_ARGUMENT);
    CHECK_STATUS(lorasc_trainer_evaluate(f.trainer, f.dataset, 0, NULL), LORASC_E_ARGUMENT);
    CHECK_STATUS(lorasc_trainer_merged(f.trainer, NULL, values, 4, &need), LORASC_E_ARGUMENT);
    CHECK_STATUS(lorasc_trainer_save(f.trainer, NULL), LORASC_E_ARGUMENT);
    CHECK_STATUS(lorasc_trainer_resume(f.trainer, NULL), LORASC_E_ARGUMENT);
    CHECK_STATUS(lorasc_trainer_info(f.trainer, NULL), LORASC_E_ARGUMENT);
    CHECK_STATUS(lorasc_bind_interrupt(f.trainer, NULL), LORASC_E_ARGUMENT);
    CHECK_STATUS(lorasc_unbind(NULL), LORASC_E_HANDLE);
    CHECK(step(&f));
  }
  fixture_close(&f);
}
