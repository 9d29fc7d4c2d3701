/* Models: opening, refusing, reading tensors, references; struct sizes. */
#include "fixture.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void model_description(void) {
  lorasc_model *model;
  lorasc_model_description info = {.struct_size = sizeof info};
  REQUIRE(CHECK_OK(lorasc_model_open(tiny_model_path(), NULL, &model)));
  CHECK_OK(lorasc_model_info(model, &info));
  CHECK(info.layers == TINY_LAYERS && info.hidden_size == TINY_HIDDEN);
  CHECK(info.intermediate_size == TINY_INTERMEDIATE && info.heads == TINY_HEADS);
  CHECK(info.vocabulary_size == TINY_VOCABULARY && info.maximum_positions == TINY_POSITIONS);
  CHECK(info.num_labels == 0);
  CHECK_TEXT(info.architecture, "bert");
  CHECK_TEXT(info.head, "none");
  CHECK(!strcmp(info.kernels, "baseline") || !strcmp(info.kernels, "avx2") ||
        !strcmp(info.kernels, "avx512"));
  uint64_t elements = 0;
  for (size_t i = 0; i < lorasc_model_tensor_count(model); i++) {
    lorasc_tensor_info tensor = {.struct_size = sizeof tensor};
    CHECK_OK(lorasc_model_tensor_info(model, i, &tensor));
    elements += tensor.elements;
  }
  CHECK(info.parameters == elements);
  lorasc_model_free(model);
}

void model_tensors(void) {
  enum { CAPACITY = TINY_VOCABULARY * TINY_HIDDEN };
  static float read[CAPACITY + 1], expected[CAPACITY];
  lorasc_model *model;
  size_t need;
  REQUIRE(CHECK_OK(lorasc_model_open(tiny_model_path(), NULL, &model)));
  CHECK(lorasc_model_tensor_count(model) == TINY_TENSORS);
  for (size_t i = 0; i < lorasc_model_tensor_count(model); i++) {
    lorasc_tensor_info info = {.struct_size = sizeof info};
    CHECK_OK(lorasc_model_tensor_info(model, i, &info));
    check_about(info.name);
    CHECK(tiny_model_tensor(MODEL_SEED, info.name, expected, CAPACITY) == info.elements);
    uint64_t product = 1;
    for (uint32_t d = 0; d < info.rank && d < 8; d++) product *= info.shape[d];
    CHECK(info.rank >= 1 && info.rank <= 2 && product == info.elements);
    CHECK_OK(lorasc_model_tensor(model, info.name, NULL, 0, &need));
    CHECK(need == info.elements);
    read[0] = -1;
    CHECK_STATUS(lorasc_model_tensor(model, info.name, read, need - 1, &need), LORASC_E_BUFFER);
    CHECK(need == info.elements && read[0] == -1);
    read[need] = -2;
    CHECK_OK(lorasc_model_tensor(model, info.name, read, CAPACITY, &need));
    CHECK(same_bits(read, expected, need));
    CHECK(need == CAPACITY || read[need] == -2);
  }
  check_about(NULL);
  need = 7;
  CHECK_STATUS(lorasc_model_tensor(model, "no.such.tensor", read, CAPACITY, &need),
               LORASC_E_NOT_FOUND);
  CHECK(need == 7);
  CHECK_TEXT(lorasc_last_error()->subject, "no.such.tensor");
  lorasc_tensor_info info = {.struct_size = sizeof info};
  CHECK_STATUS(lorasc_model_tensor_info(model, TINY_TENSORS, &info), LORASC_E_ARGUMENT);
  CHECK_STATUS(lorasc_model_tensor_info(model, SIZE_MAX, &info), LORASC_E_ARGUMENT);
  CHECK_STATUS(lorasc_model_tensor(model, NULL, read, CAPACITY, &need), LORASC_E_ARGUMENT);
  lorasc_model_free(model);
}

void model_files(void) {
  static char text[4096];
  char path[1200];
  lorasc_model *model;
  size_t need, count = 0;
  const char *folder = in_folder("files");
  REQUIRE(CHECK(tiny_model_write(folder, MODEL_SEED)));
  REQUIRE(CHECK_OK(lorasc_model_open(folder, NULL, &model)));
  snprintf(path, sizeof path, "%s/config.json", folder);
  unsigned char *written = read_file(path, &count);
  REQUIRE(CHECK(written != NULL && count < sizeof text - 1));

  CHECK_OK(lorasc_model_file(model, "config.json", NULL, 0, &need));
  CHECK(need == count + 1);
  memset(text, 'x', sizeof text);
  CHECK_STATUS(lorasc_model_file(model, "config.json", text, count, &need), LORASC_E_BUFFER);
  CHECK(need == count + 1 && text[0] == 'x');
  CHECK_OK(lorasc_model_file(model, "config.json", text, sizeof text, NULL));
  CHECK(memcmp(text, written, count) == 0 && text[count] == '\0' && text[count + 1] == 'x');
  CHECK_STATUS(lorasc_model_file(model, "config.json", NULL, 0, NULL), LORASC_E_ARGUMENT);

  need = 7;
  CHECK_STATUS(lorasc_model_file(model, "tokenizer.json", text, sizeof text, &need),
               LORASC_E_NOT_FOUND);
  static const char *elsewhere[] = {"",   ".",  "..", "/etc/hostname", "../files/config.json",
                                    "a/", "/a", "./config.json"};
  for (size_t i = 0; i < sizeof elsewhere / sizeof elsewhere[0]; i++) {
    check_about(elsewhere[i]);
    CHECK_STATUS(lorasc_model_file(model, elsewhere[i], text, sizeof text, &need),
                 LORASC_E_ARGUMENT);
    CHECK_TEXT(lorasc_last_error()->subject, elsewhere[i]);
  }
  check_about(NULL);
  CHECK_STATUS(lorasc_model_file(model, NULL, text, sizeof text, &need), LORASC_E_ARGUMENT);
  CHECK_STATUS(lorasc_model_file(model, "\xff", text, sizeof text, &need), LORASC_E_ARGUMENT);
  CHECK_STATUS(lorasc_model_file(model, "model.safetensors", text, sizeof text, &need),
               LORASC_E_FORMAT);
  CHECK(need == 7);

  /* As it is now, whatever it holds, if it is a text. */
  snprintf(path, sizeof path, "%s/tokenizer.json", folder);
  CHECK(write_file(path, "", 0));
  CHECK_OK(lorasc_model_file(model, "tokenizer.json", text, 1, &need));
  CHECK(need == 1 && text[0] == '\0');
  CHECK(write_file(path, "\xe2\x96\x81", 3));
  CHECK_OK(lorasc_model_file(model, "tokenizer.json", text, 4, &need));
  CHECK_TEXT(text, "\xe2\x96\x81");
  CHECK(write_file(path, "\xe2\x96", 2));
  CHECK_STATUS(lorasc_model_file(model, "tokenizer.json", NULL, 0, &need), LORASC_E_FORMAT);
  CHECK(write_file(path, "a\0b", 3));
  CHECK_STATUS(lorasc_model_file(model, "tokenizer.json", NULL, 0, &need), LORASC_E_FORMAT);
  free(written);
  lorasc_model_free(model);
  remove_tree(folder);
}

void model_references(void) {
  lorasc_model *model;
  lorasc_model_description info = {.struct_size = sizeof info};
  REQUIRE(CHECK_OK(lorasc_model_open(tiny_model_path(), NULL, &model)));
  CHECK_OK(lorasc_model_retain(model));
  lorasc_model_free(model);
  CHECK_OK(lorasc_model_info(model, &info));
  lorasc_model_free(model);
  CHECK_STATUS(lorasc_model_info(model, &info), LORASC_E_HANDLE);
  CHECK_STATUS(lorasc_model_retain(model), LORASC_E_HANDLE);
  lorasc_model_free(model);

  /* A trainer keeps what it needs. */
  fixture f;
  if (fixture_open(&f, "cascade_unit=none max_steps=4")) {
    lorasc_model_free(f.model);
    lorasc_options_free(f.options);
    CHECK(step(&f));
    lorasc_adapter_free(f.adapter);
    CHECK(step(&f));
    size_t need;
    CHECK_STATUS(lorasc_adapter_copy_out(f.adapter, "x", NULL, 0, &need), LORASC_E_HANDLE);
  }
  fixture_close(&f); /* frees the freed ones again, which does nothing */
}

static lorasc_status open_damaged(const char *name, const char *file, const void *bytes,
                                  size_t count) {
  char path[1200];
  lorasc_model *model = NULL;
  const char *folder = in_folder(name);
  CHECK(tiny_model_write(folder, MODEL_SEED));
  snprintf(path, sizeof path, "%s/%s", folder, file);
  if (bytes)
    CHECK(write_file(path, bytes, count));
  else
    remove_tree(path);
  lorasc_status status = lorasc_model_open(folder, NULL, &model);
  CHECK((status == LORASC_OK) == (model != NULL));
  CHECK(status == LORASC_OK || lorasc_last_error()->message[0]);
  lorasc_model_free(model);
  remove_tree(folder);
  return status;
}

void model_refused(void) {
  char path[1200];
  size_t count = 0;
  snprintf(path, sizeof path, "%s/model.safetensors", tiny_model_path());
  unsigned char *weights = read_file(path, &count);
  REQUIRE(CHECK(weights != NULL));
  lorasc_model *model = NULL;
  CHECK_STATUS(lorasc_model_open(NULL, NULL, &model), LORASC_E_ARGUMENT);
  CHECK_STATUS(lorasc_model_open(tiny_model_path(), NULL, NULL), LORASC_E_ARGUMENT);
  CHECK_STATUS(lorasc_model_open("", NULL, &model), LORASC_E_NOT_FOUND);
  CHECK_STATUS(open_damaged("a", "config.json", NULL, 0), LORASC_E_NOT_FOUND);
  CHECK_STATUS(open_damaged("a", "model.safetensors", NULL, 0), LORASC_E_NOT_FOUND);
  CHECK_STATUS(open_damaged("a", "model.safetensors", weights, count), LORASC_OK);

  const size_t lengths[] = {0, 1, 7, 8, 9, 100, count / 2, count - 1};
  for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++)
    CHECK_STATUS(open_damaged("a", "model.safetensors", weights, lengths[i]), LORASC_E_FORMAT);
  weights[7] = 0x7f; /* the header's length beyond the file */
  CHECK_STATUS(open_damaged("a", "model.safetensors", weights, count), LORASC_E_FORMAT);
  weights[7] = 0xff;
  CHECK_STATUS(open_damaged("a", "model.safetensors", weights, count), LORASC_E_FORMAT);
  weights[7] = 0;
  weights[8] = '[';
  CHECK_STATUS(open_damaged("a", "model.safetensors", weights, count), LORASC_E_FORMAT);
  weights[8] = '{';
  static const unsigned char nan[4] = {0, 0, 0xc0, 0x7f};
  memcpy(weights + count - 4, nan, 4);
  CHECK_STATUS(open_damaged("a", "model.safetensors", weights, count), LORASC_E_NONFINITE);
  free(weights);

  static const char unknown[] = "{\"model_type\": \"mamba\", \"hidden_size\": 32}";
  CHECK_STATUS(open_damaged("a", "config.json", unknown, strlen(unknown)), LORASC_E_ARCHITECTURE);
  CHECK_STATUS(open_damaged("a", "config.json", "{", 1), LORASC_E_FORMAT);
  CHECK_STATUS(open_damaged("a", "config.json", "", 0), LORASC_E_FORMAT);
  CHECK(open_damaged("a", "config.json", "{}", 2) != LORASC_OK);
  static const char *sizes[] = {"0", "-1", "33", "1.5", "\"32\"", "null", "1e30",
                                "9223372036854775807"};
  for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    char config[512];
    check_about(sizes[i]);
    int length = snprintf(config, sizeof config,
                          "{\"model_type\": \"bert\", \"hidden_act\": \"gelu\", \"hidden_size\": "
                          "%s, \"num_hidden_layers\": 2, \"num_attention_heads\": 4, "
                          "\"intermediate_size\": 64, \"vocab_size\": 100, "
                          "\"max_position_embeddings\": 64, \"type_vocab_size\": 2}",
                          sizes[i]);
    CHECK(open_damaged("a", "config.json", config, (size_t)length) != LORASC_OK);
  }
}

/* ---- struct_size ---------------------------------------------------------------- */

enum { FENCE = 64 };

/* A struct in the middle of a fence of 0xA5; `size` is what the caller claims. */
typedef struct fenced {
  unsigned char bytes[4096];
  size_t size;
} fenced;

static void *fenced_struct(fenced *f, uint32_t size) {
  memset(f->bytes, 0xA5, sizeof f->bytes);
  f->size = size;
  memcpy(f->bytes, &size, sizeof size);
  return f->bytes;
}

static bool untouched_after(const fenced *f, size_t from) {
  for (size_t i = from; i < from + FENCE; i++)
    if (f->bytes[i] != 0xA5) return false;
  return true;
}

typedef lorasc_status (*filler)(fixture *f, void *info);

static lorasc_status fill_option(fixture *f, void *info) {
  (void)f;
  return lorasc_option_describe(0, info);
}
static lorasc_status fill_model(fixture *f, void *info) {
  return lorasc_model_info(f->model, info);
}
static lorasc_status fill_model_tensor(fixture *f, void *info) {
  return lorasc_model_tensor_info(f->model, 0, info);
}
static lorasc_status fill_adapter_tensor(fixture *f, void *info) {
  return lorasc_adapter_tensor_info(f->adapter, 0, info);
}
static lorasc_status fill_match(fixture *f, void *info) {
  lorasc_adapter *adapter = NULL;
  lorasc_status status = lorasc_adapter_create(f->model, f->options, info, &adapter);
  lorasc_adapter_free(adapter);
  return status;
}
static lorasc_status fill_stats(fixture *f, void *info) {
  lorasc_status status = lorasc_trainer_accumulate(f->trainer, &f->rows.batch, info);
  lorasc_trainer_discard_gradients(f->trainer);
  return status;
}
static lorasc_status fill_evaluation(fixture *f, void *info) {
  return lorasc_trainer_evaluate(f->trainer, f->dataset, 0, info);
}
static lorasc_status fill_trainer(fixture *f, void *info) {
  return lorasc_trainer_info(f->trainer, info);
}
static lorasc_status fill_merge(fixture *f, void *info) {
  return lorasc_adapter_merge(f->model, f->adapter, in_folder("merged-size"), info);
}

void struct_sizes(void) {
  static const struct {
    const char *name;
    uint32_t size;
    filler fill;
  } structs[] = {
      {"option_info", sizeof(lorasc_option_info), fill_option},
      {"model_description", sizeof(lorasc_model_description), fill_model},
      {"model tensor_info", sizeof(lorasc_tensor_info), fill_model_tensor},
      {"adapter tensor_info", sizeof(lorasc_tensor_info), fill_adapter_tensor},
      {"match_report", sizeof(lorasc_match_report), fill_match},
      {"stats", sizeof(lorasc_stats), fill_stats},
      {"evaluation", sizeof(lorasc_evaluation), fill_evaluation},
      {"trainer_description", sizeof(lorasc_trainer_description), fill_trainer},
      {"merge_report", sizeof(lorasc_merge_report), fill_merge},
  };
  fixture f;
  static fenced block, whole;
  if (fixture_open(&f, "cascade_unit=none max_steps=4")) {
    for (size_t i = 0; i < sizeof structs / sizeof structs[0]; i++) {
      uint32_t size = structs[i].size;
      check_about(structs[i].name);
      CHECK_STATUS(structs[i].fill(&f, fenced_struct(&block, 0)), LORASC_E_ARGUMENT);
      CHECK(untouched_after(&block, 4));
      CHECK_OK(structs[i].fill(&f, fenced_struct(&whole, size)));
      CHECK(untouched_after(&whole, size));
      CHECK(!untouched_after(&whole, 4));
      /* A program from the future: what this library doesn't know stays as it is. */
      CHECK_OK(structs[i].fill(&f, fenced_struct(&block, size + 2 * FENCE)));
      CHECK(untouched_after(&block, size));
      /* One from the past: what it knew is as in the whole, nothing beyond is written. */
      CHECK_OK(structs[i].fill(&f, fenced_struct(&block, 8)));
      CHECK(untouched_after(&block, 8));
      CHECK(memcmp(block.bytes + 4, whole.bytes + 4, 4) == 0);
    }
    check_about(NULL);

    /* A struct that goes in. */
    lorasc_batch batch = f.rows.batch;
    lorasc_dataset *dataset = NULL;
    batch.struct_size = 0;
    CHECK_STATUS(lorasc_dataset_create(&batch, &dataset), LORASC_E_ARGUMENT);
    batch.struct_size = offsetof(lorasc_batch, token_types);
    batch.token_types = (const int32_t *)(uintptr_t)1; /* beyond the size: not read */
    batch.labels = (const int32_t *)(uintptr_t)1;
    batch.targets = batch.row_weights = (const float *)(uintptr_t)1;
    size_t need;
    CHECK_OK(lorasc_predict(f.model, NULL, &batch, LORASC_PREDICT_EMBEDDING, NULL, 0, &need));
    CHECK(need == (size_t)FIXTURE_ROWS * TINY_HIDDEN);
    batch.struct_size = offsetof(lorasc_batch, tokens);
    CHECK(lorasc_dataset_create(&batch, &dataset) != LORASC_OK);
    batch = f.rows.batch;
    struct {
      lorasc_batch batch;
      unsigned char more[FENCE];
    } future;
    memset(&future, 0xA5, sizeof future);
    future.batch = batch;
    future.batch.struct_size = sizeof future;
    CHECK_OK(lorasc_dataset_create(&future.batch, &dataset));
    CHECK(lorasc_dataset_rows(dataset) == FIXTURE_ROWS);
    lorasc_dataset_free(dataset);
  }
  fixture_close(&f);
}
