/* A long random sequence of C calls: good, freed, NULL, foreign and wrong-kind handles,
 * short buffers, bad strings, bad rows. Nothing may crash, write outside a buffer, or end
 * in an unknown status or LORASC_E_INTERNAL.
 *
 *   random_calls [calls] [seed]
 */
#include "fixture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HANDLES = 6, KINDS = 5, BUFFER = 4096, FENCE = 16 };
enum kind { OPTIONS, MODEL, DATASET, ADAPTER, TRAINER };

static uint64_t state;
static void *handles[KINDS][HANDLES]; /* live, freed or NULL */
static tiny_rows rows;
static float floats[BUFFER + FENCE];
static char text[BUFFER + FENCE];
static unsigned long statuses[256];
static const char *doing = "";
static bool broken;

static size_t pick(size_t count) { return (size_t)(next_random(&state) >> 16) % count; }
static bool one_in(size_t count) { return pick(count) == 0; }

#define PICK(array) array[pick(sizeof array / sizeof array[0])]

static void problem(const char *what) {
  printf("%s: %s\n", doing, what);
  broken = true;
}

/* Few models, so that adapters and trainers mostly are of the model they meet. */
static void **slot(enum kind kind) {
  return &handles[kind][pick(kind == MODEL ? 2 : HANDLES)];
}

/* Mostly one of the kind, live or not; now and then anything. */
static void *handle(enum kind kind) {
  static unsigned char foreign[64];
  switch (pick(20)) {
    case 0: return NULL;
    case 1: return foreign;
    case 2: return (void *)(uintptr_t)next_random(&state);
    case 3: return handles[pick(KINDS)][pick(HANDLES)];
    default: return *slot(kind);
  }
}

static void free_handle(enum kind kind, void *given) {
  switch (kind) {
    case OPTIONS: lorasc_options_free(given); break;
    case MODEL: lorasc_model_free(given); break;
    case DATASET: lorasc_dataset_free(given); break;
    case ADAPTER: lorasc_adapter_free(given); break;
    case TRAINER: lorasc_trainer_free(given); break;
  }
}

static const char *name(void) {
  static const char *names[] = {
      "encoder.layer.0.attention.self.query.lora_A.weight",
      "encoder.layer.1.attention.self.value.lora_B.weight",
      "encoder.layer.0.attention.self.query.weight",
      "classifier.weight",
      "linear.weight",
      "pooler.dense.bias",
      "embeddings.word_embeddings.weight",
      "",
      "no.such.tensor",
      "\xff\xfe",
      NULL,
  };
  return PICK(names);
}

static const char *key(void) {
  static const char *bad[] = {"", "nonsense", "R", "\x80", NULL};
  lorasc_option_info info = {.struct_size = sizeof info};
  if (one_in(8)) return PICK(bad);
  return lorasc_option_describe(pick(lorasc_option_count()), &info) ? "r" : info.key;
}

static const char *value(const char *option) {
  static const char *values[] = {"0",  "1",    "2",    "3",    "0.5",  "-1",     "1e-3",
                                 "4",  "nan",  "true", "lora", "cola", "lorasc", "a,b",
                                 "64", "none", "step", "list", "\xc3", "",       NULL};
  lorasc_option_info info = {.struct_size = sizeof info};
  /* Sizes stay small: this is about calls, not about load. */
  if (option && strcmp(option, "threads") == 0) return "1";
  if (option && one_in(3))
    for (size_t i = 0; i < lorasc_option_count(); i++)
      if (!lorasc_option_describe(i, &info) && !strcmp(info.key, option))
        return !strcmp(option, "max_batch_tokens") || !strcmp(option, "epochs")
                   ? "2"
                   : info.default_value;
  return PICK(values);
}

static uint32_t struct_size(size_t size) {
  const size_t sizes[] = {size, size, size, size, size, 0, 4, 8, size / 2, size + 32};
  return (uint32_t)PICK(sizes);
}

static size_t capacity(void) {
  static const size_t sizes[] = {0, 1, 3, 32, 128, 1024, BUFFER};
  return PICK(sizes);
}

static size_t *need(void) {
  static size_t needed;
  return one_in(10) ? NULL : &needed;
}

/* Rows of the pool, often with something wrong. */
static const lorasc_batch *batch(void) {
  static lorasc_batch made;
  static int32_t labels[8], tokens[128];
  static int64_t offsets[9];
  static float weights[8];
  made = rows.batch;
  made.rows = 1 + pick(8);
  for (size_t row = 0; row <= made.rows; row++) offsets[row] = rows.offsets[row];
  memcpy(tokens, rows.tokens, (size_t)offsets[made.rows] * sizeof *tokens);
  memcpy(labels, rows.labels, sizeof labels);
  for (size_t row = 0; row < 8; row++) weights[row] = (float)row;
  made.tokens = tokens;
  made.offsets = offsets;
  made.labels = labels;
  switch (pick(24)) {
    case 0: return NULL;
    case 1: made.struct_size = struct_size(sizeof made - 32); break;
    case 2: made.rows = 0; break;
    case 3: made.tokens = NULL; break;
    case 4: made.offsets = NULL; break;
    case 5: made.labels = NULL; break;
    case 6: offsets[pick(made.rows)] += 1; break;
    case 7: tokens[pick((size_t)offsets[made.rows])] = (int32_t)next_random(&state); break;
    case 8: labels[pick(made.rows)] = (int32_t)next_random(&state); break;
    case 9: labels[pick(made.rows)] = -100; break;
    case 10: weights[0] = one_in(2) ? NAN : -1; made.row_weights = weights; break;
    case 11: made.row_weights = weights; break;
    case 12: made.token_types = labels; made.rows = 1; break;
    case 13: made.targets = floats; break;
    case 14: made.token_labels = tokens; break;
    case 15: made.token_weights = floats; break;
    case 16: made.pixels = floats; made.pixel_type = (uint32_t)pick(3); break;
    case 17:
      made.pixels = floats;
      made.tokens = NULL;
      made.offsets = NULL;
      made.pixel_type = (uint32_t)pick(2);
      made.channels = made.height = made.width = (uint32_t)pick(4);
      made.pixel_mean = made.pixel_std = one_in(2) ? NULL : floats;
      break;
    default: break;
  }
  if (made.token_types) {
    static int32_t types[128];
    for (size_t i = 0; i < 128; i++) types[i] = (int32_t)pick(one_in(9) ? 3 : 2);
    made.token_types = types;
  }
  return &made;
}

/* A prompt, mostly in order; *count is what the caller claims. */
static const int32_t *prompt(size_t *count) {
  static int32_t tokens[8];
  for (size_t i = 0; i < 8; i++) tokens[i] = (int32_t)pick(TINY_VOCABULARY);
  *count = 1 + pick(8);
  switch (pick(12)) {
    case 0: return NULL;
    case 1: *count = 0; break;
    case 2: *count = SIZE_MAX - pick(9); break;
    case 3: tokens[pick(*count)] = (int32_t)next_random(&state); break;
    default: break;
  }
  return tokens;
}

static const lorasc_generation *generation(void) {
  static const double numbers[] = {0, 0.5, 1, 1, 2, -1, NAN, INFINITY, 1e-300};
  static int32_t stops[] = {1, 2, 3};
  union generation {
    lorasc_generation settings;
    unsigned char room[sizeof(lorasc_generation) + 64];
  };
  static union generation made;
  made.settings = (lorasc_generation)LORASC_GENERATION_DEFAULTS;
  made.settings.struct_size = struct_size(sizeof made.settings);
  made.settings.max_new_tokens = (int32_t)pick(8);
  switch (pick(9)) {
    case 0: return NULL;
    case 1: made.settings.max_new_tokens = (int32_t)next_random(&state); break;
    case 2: made.settings.temperature = PICK(numbers); break;
    case 3: made.settings.top_p = PICK(numbers); break;
    case 4: made.settings.repetition_penalty = PICK(numbers); break;
    case 5: made.settings.top_k = (int32_t)pick(5) - 1; made.settings.temperature = 1; break;
    case 6: made.settings.stop_tokens = stops; made.settings.stop_count = pick(4); break;
    case 7: made.settings.stop_tokens = stops; made.settings.stop_count = SIZE_MAX; break;
    default: break;
  }
  return &made.settings;
}

static int32_t token(int32_t id, void *user) {
  if (id < 0 || id >= TINY_VOCABULARY) problem("a token outside the vocabulary");
  switch (pick(12)) {
    case 0: return 1;
    case 1: lorasc_adapter_free(user); return 0;
    case 2: lorasc_adapter_set_scale(user, 0.5); return 0;
    default: return 0;
  }
}

static int32_t progress(const lorasc_progress *now, void *user) {
  void *trainer = user;
  if (now->struct_size != sizeof *now) problem("a progress of another size");
  switch (pick(12)) {
    case 0: return 1;
    case 1: lorasc_trainer_interrupt(trainer); return 0;
    case 2: lorasc_trainer_apply(trainer, NULL); return 0;
    case 3: lorasc_trainer_set_learning_rate(trainer, 0.001); return 0;
    case 4: lorasc_trainer_merged(trainer, name(), floats, capacity(), need()); return 0;
    case 5: lorasc_adapter_copy_out(handle(ADAPTER), name(), floats, capacity(), need()); return 0;
    case 6: {
      size_t tokens;
      const int32_t *ids = prompt(&tokens);
      lorasc_generate(handle(MODEL), handle(ADAPTER), ids, tokens, generation(), token,
                      handle(ADAPTER), NULL, 0, NULL);
      return 0;
    }
    default: return 0;
  }
}

/* Rows of a dataset, now and then with something wrong. */
static int32_t read_some(lorasc_rows *request, void *user) {
  static row_source source;
  source.rows = user;
  int32_t status = read_rows(request, &source);
  switch (pick(40)) {
    case 0: return 1;
    case 1: request->batch = NULL; return 0;
    case 2: request->batch = batch(); return 0;
    case 3: source.tokens[0] = (int32_t)next_random(&state); return status;
    case 4: source.offsets[pick(request->count + 1)] = (int64_t)next_random(&state); return status;
    case 5: source.batch.rows = (size_t)next_random(&state); return status;
    case 6: lorasc_trainer_apply(handle(TRAINER), NULL); return status;
    case 7: lorasc_dataset_free(handle(DATASET)); return status;
    case 8: lorasc_trainer_interrupt(handle(TRAINER)); return status;
    default: return status;
  }
}

static int32_t loss(lorasc_outputs *outputs, void *user) {
  static const double numbers[] = {0, 1, -1, NAN, INFINITY, 1e300};
  if (outputs->struct_size != sizeof *outputs) problem("outputs of another size");
  switch (pick(12)) {
    case 0: return 1;
    case 1: outputs->loss = PICK(numbers); return 0;
    case 2: outputs->loss_weight = PICK(numbers); return 0;
    case 3: if (outputs->gradient) outputs->gradient[0] = NAN; return 0;
    case 4: lorasc_trainer_set_loss(handle(TRAINER), NULL, NULL); return 0;
    case 5: lorasc_adapter_free(handle(ADAPTER)); return 0;
    case 6: lorasc_trainer_free(handle(TRAINER)); return 0;
    default: return outputs->labels ? cross_entropy(outputs, user) : 0;
  }
}

static lorasc_status create_options(void) {
  static const char *settings[][2] = {{"r", "2"},
                                      {"num_labels", "3"},
                                      {"max_batch_tokens", "128"},
                                      {"threads", "1"},
                                      {"epochs", "1"},
                                      {"batch_size", "8"}};
  void **place = slot(OPTIONS);
  lorasc_options *made = NULL;
  lorasc_options_free(*place);
  lorasc_status status = lorasc_options_create(&made);
  if (status == LORASC_OK) {
    *place = made;
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++)
      lorasc_options_set(made, settings[i][0], settings[i][1]);
    if (one_in(4)) lorasc_options_set(made, "head", "lm");
  }
  return status;
}

static double rate(void) {
  static const double rates[] = {0, 1e-3, 0.01, -1, NAN, INFINITY, 1e300};
  return PICK(rates);
}

/* Structs that the library fills: zeroed, with a size that may lie. */
#define FILLED(type)                           \
  union {                                      \
    type info;                                 \
    unsigned char room[sizeof(type) + 64];     \
  } filled;                                    \
  memset(&filled, 0, sizeof filled);           \
  filled.info.struct_size = struct_size(sizeof(type))

static lorasc_status call(void) {
  lorasc_signal_fn function = NULL;
  double read_rate;
  const char *option;
  void *made = NULL, **place;
  lorasc_status status;
  const char *path = in_folder("random");
#define DO(number, what) \
  case number: doing = #what; return what;
#define MAKE(number, kind, what)                          \
  case number:                                            \
    doing = #what;                                        \
    place = slot(kind);                                   \
    status = what;                                        \
    if (status == LORASC_OK) {                            \
      if (!made) problem("success without a handle");    \
      free_handle(kind, *place);                          \
      *place = made;                                      \
    } else if (made) {                                    \
      problem("an output touched on failure");            \
    }                                                     \
    return status;
  switch (pick(64)) {
    case 0: doing = "options_create"; return create_options();
    case 1:
      doing = "options_set";
      option = key();
      return lorasc_options_set(handle(OPTIONS), option, value(option));
    DO(2, lorasc_options_get(handle(OPTIONS), key(), text, capacity(), need()))
    DO(3, lorasc_options_load_json(handle(OPTIONS), one_in(2) ? "{\"r\": 3}" : value(NULL)))
    MAKE(4, MODEL, lorasc_model_open(one_in(5)   ? name()
                                     : one_in(3) ? tiny_decoder_path()
                                                 : tiny_model_path(),
                                     one_in(2) ? NULL : handle(OPTIONS), (lorasc_model **)&made))
    case 5: {
      FILLED(lorasc_model_description);
      return lorasc_model_info(handle(MODEL), &filled.info);
    }
    case 6: {
      FILLED(lorasc_tensor_info);
      return lorasc_model_tensor_info(handle(MODEL), pick(64), &filled.info);
    }
    DO(7, lorasc_model_tensor(handle(MODEL), name(), floats, capacity(), need()))
    case 8:
      doing = "model_retain, free";
      made = handle(MODEL);
      status = lorasc_model_retain(made);
      if (status == LORASC_OK) lorasc_model_free(made);
      return status;
    case 9: case 10:
      doing = "dataset_create";
      place = slot(DATASET);
      made = NULL;
      /* A dataset keeps pointing at its rows: those of the pool, which stay as they are. */
      status = lorasc_dataset_create(one_in(6) ? NULL : &rows.batch, (lorasc_dataset **)&made);
      if (status == LORASC_OK) {
        lorasc_dataset_free(*place);
        *place = made;
      }
      return status;
    case 59:
      doing = "dataset_from_callback";
      place = slot(DATASET);
      status = lorasc_dataset_from_callback(one_in(6) ? SIZE_MAX - pick(9) : 1 + pick(FIXTURE_ROWS),
                                            one_in(9) ? NULL : read_some, &rows,
                                            (lorasc_dataset **)&made);
      if (status == LORASC_OK) {
        lorasc_dataset_free(*place);
        *place = made;
      }
      return status;
    DO(60, lorasc_trainer_set_loss(handle(TRAINER), one_in(3) ? NULL : loss, NULL))
    case 11: case 12: case 13: {
      FILLED(lorasc_match_report);
      doing = "adapter_create";
      place = slot(ADAPTER);
      status = lorasc_adapter_create(handle(MODEL), handle(OPTIONS),
                                     one_in(2) ? NULL : &filled.info, (lorasc_adapter **)&made);
      if (status == LORASC_OK) {
        lorasc_adapter_free(*place);
        *place = made;
      }
      return status;
    }
    case 14: {
      FILLED(lorasc_tensor_info);
      return lorasc_adapter_tensor_info(handle(ADAPTER), pick(16), &filled.info);
    }
    DO(15, lorasc_adapter_copy_out(handle(ADAPTER), name(), floats, capacity(), need()))
    DO(16, lorasc_adapter_copy_in(handle(ADAPTER), name(), floats, capacity()))
    case 17: {
      FILLED(lorasc_merge_report);
      doing = "adapter_merge";
      if (!one_in(8)) return LORASC_OK; /* it syncs to disk: seldom */
      return lorasc_adapter_merge(handle(MODEL), handle(ADAPTER), path, &filled.info);
    }
    DO(18, lorasc_predict(handle(MODEL), one_in(2) ? NULL : handle(ADAPTER), batch(),
                          (uint32_t)pick(5) | (one_in(2) ? LORASC_PREDICT_FAST : 0), floats,
                          capacity(), need()))
    case 19: case 20: case 21: case 22:
      doing = "trainer_create";
      place = slot(TRAINER);
      status = lorasc_trainer_create(handle(MODEL), handle(ADAPTER), handle(OPTIONS),
                                     (lorasc_trainer **)&made);
      if (status == LORASC_OK) {
        lorasc_trainer_free(*place);
        *place = made;
      }
      return status;
    case 23: case 24: case 25: case 26: {
      FILLED(lorasc_stats);
      doing = "accumulate";
      return lorasc_trainer_accumulate(handle(TRAINER), batch(), &filled.info);
    }
    case 27: case 28: {
      FILLED(lorasc_stats);
      doing = "apply";
      return lorasc_trainer_apply(handle(TRAINER), &filled.info);
    }
    DO(29, lorasc_trainer_discard_gradients(handle(TRAINER)))
    DO(30, lorasc_trainer_gradient(handle(TRAINER), name(), floats, capacity(), need()))
    DO(31, lorasc_trainer_cascade(handle(TRAINER), NULL))
    DO(32, lorasc_trainer_get_learning_rate(handle(TRAINER), one_in(5) ? NULL : &read_rate))
    DO(33, lorasc_trainer_set_learning_rate(handle(TRAINER), rate()))
    case 34: {
      FILLED(lorasc_evaluation);
      doing = "evaluate";
      return lorasc_trainer_evaluate(handle(TRAINER), handle(DATASET), (int32_t)pick(2),
                                     &filled.info);
    }
    case 35: case 36:
      doing = "run";
      made = handle(TRAINER);
      return lorasc_trainer_run(made, handle(DATASET), one_in(2) ? NULL : handle(DATASET),
                                one_in(2) ? NULL : progress, made);
    DO(37, lorasc_trainer_interrupt(handle(TRAINER)))
    DO(38, lorasc_trainer_merged(handle(TRAINER), name(), floats, capacity(), need()))
    case 39:
      doing = "save";
      return one_in(4) ? lorasc_trainer_save(handle(TRAINER), path) : LORASC_OK;
    DO(40, lorasc_trainer_resume(handle(TRAINER), path))
    case 41: {
      FILLED(lorasc_trainer_description);
      doing = "trainer_info";
      return lorasc_trainer_info(handle(TRAINER), &filled.info);
    }
    case 42:
      doing = "bind, call, unbind";
      status = lorasc_bind_interrupt(handle(TRAINER), &function);
      if (status == LORASC_OK) {
        if (one_in(2)) function(2);
        if (lorasc_unbind(function) != LORASC_OK) problem("a bound function not given back");
      }
      return status;
    case 43: {
      enum kind kind = (enum kind)pick(KINDS);
      doing = "free";
      free_handle(kind, handle(kind)); /* the slot keeps the freed handle */
      return LORASC_OK;
    }
    case 44:
      doing = "counts";
      lorasc_model_tensor_count(handle(MODEL));
      lorasc_adapter_tensor_count(handle(ADAPTER));
      lorasc_dataset_rows(handle(DATASET));
      return LORASC_OK;
    case 45: {
      FILLED(lorasc_option_info);
      doing = "option_describe";
      return lorasc_option_describe(pick(100), &filled.info);
    }
    case 47: {
      FILLED(lorasc_module_info);
      doing = "module_info";
      return lorasc_adapter_module_info(handle(ADAPTER), pick(16), &filled.info);
    }
    case 48: {
      FILLED(lorasc_merge_tensor);
      doing = "merge_tensor_info";
      return lorasc_adapter_merge_tensor_info(handle(ADAPTER), pick(16), &filled.info);
    }
    DO(49, lorasc_adapter_set_scale(handle(ADAPTER), one_in(2) ? 1 : rate()))
    case 50: {
      static const char *const types[] = {"f32", "f16", "bf16", "auto", "f64", NULL};
      doing = "adapter_merge_as";
      if (!one_in(8)) return LORASC_OK;
      return lorasc_adapter_merge_as(handle(MODEL), handle(ADAPTER), path, PICK(types), NULL);
    }
    case 51: {
      FILLED(lorasc_save_report);
      doing = "adapter_save";
      if (!one_in(8)) return LORASC_OK;
      return lorasc_adapter_save(handle(MODEL), handle(ADAPTER), path, (uint32_t)pick(4),
                                 &filled.info);
    }
    case 52:
      doing = "adapter_load";
      place = slot(ADAPTER);
      status = lorasc_adapter_load(handle(MODEL), path, one_in(2) ? NULL : handle(OPTIONS), NULL,
                                   (lorasc_adapter **)&made);
      if (status == LORASC_OK) {
        lorasc_adapter_free(*place);
        *place = made;
      }
      return status;
    case 53:
      doing = "adapter_export";
      if (!one_in(8)) return LORASC_OK;
      return lorasc_adapter_export(handle(MODEL), handle(ADAPTER), path, one_in(8) ? "x" : "mlx");
    case 54: {
      lorasc_adapter *const both[] = {handle(ADAPTER), handle(ADAPTER)};
      const double weights[] = {1, rate()};
      doing = "adapter_combine";
      place = slot(ADAPTER);
      status = lorasc_adapter_combine(handle(MODEL), both, weights, pick(3), (uint32_t)pick(3),
                                      one_in(2) ? NULL : &read_rate, (lorasc_adapter **)&made);
      if (status == LORASC_OK) {
        lorasc_adapter_free(*place);
        *place = made;
      }
      return status;
    }
    case 55: case 56: case 57: {
      size_t tokens, given = capacity();
      const int32_t *ids = prompt(&tokens);
      doing = "generate";
      made = handle(ADAPTER);
      return lorasc_generate(handle(MODEL), one_in(2) ? NULL : made, ids, tokens, generation(),
                             one_in(2) ? NULL : token, made,
                             one_in(3) ? NULL : (int32_t *)(void *)floats, given, need());
    }
    DO(58, lorasc_model_file(handle(MODEL), one_in(4) ? name() : "config.json", text, capacity(),
                             need()))
    DO(46, lorasc_unbind((lorasc_signal_fn)(uintptr_t)next_random(&state)))
    default: doing = "status_name"; lorasc_status_name((int32_t)next_random(&state));
      return LORASC_OK;
  }
}

int main(int argc, char **argv) {
  unsigned long calls = argc > 1 ? strtoul(argv[1], NULL, 10) : 30000, done = 0;
  unsigned long seed = argc > 2 ? strtoul(argv[2], NULL, 10) : 20240701;
  state = seed;
  if (!fixture_folder_make() || !tiny_rows_make(&rows, FIXTURE_ROWS, 1)) return 1;
  memset(floats, 0, sizeof floats);
  for (int i = 0; i < FENCE; i++) floats[BUFFER + i] = -77, text[BUFFER + i] = 77;
  for (int i = 0; i < HANDLES / 2; i++) create_options();
  for (; done < calls && !broken; done++) {
    lorasc_status status = call();
    if (status < 0 || status > 255 || !strcmp(lorasc_status_name(status), "LORASC_E_?"))
      problem("a status that has no name");
    else if (statuses[status]++, status == LORASC_E_INTERNAL)
      problem(lorasc_last_error()->message);
    /* In a signal handler there is no last error to set. */
    bool told = !strstr(doing, "lorasc_trainer_interrupt");
    if (told && status != LORASC_OK && lorasc_last_error()->status != (int32_t)status)
      problem("last error and status differ");
    for (int i = 0; i < FENCE; i++)
      if (floats[BUFFER + i] != -77 || text[BUFFER + i] != 77) problem("a write past a buffer");
  }
  for (enum kind kind = OPTIONS; kind <= TRAINER; kind++)
    for (int i = 0; i < HANDLES; i++) free_handle(kind, handles[kind][i]);
  tiny_rows_free(&rows);
  fixture_folder_remove();
  printf("%lu calls with seed %lu:", done, seed);
  for (int status = 0; status < 256; status++)
    if (statuses[status]) printf(" %s %lu", lorasc_status_name(status) + 7, statuses[status]);
  printf("\n%d passed, %d failed\n", !broken, broken);
  return broken;
}
