/* lorasc_generate: tokens, buffers, settings, callbacks, adapters. */
#include "fixture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { NEW = 20, PROMPT = 4 };
static const int32_t prompt[PROMPT] = {3, 1, 41, 59};

static bool open_decoder(lorasc_model **model) {
  lorasc_options *options;
  bool opened = options_make(&options, "threads=1") &&
                CHECK_OK(lorasc_model_open(tiny_decoder_path(), options, model));
  lorasc_options_free(options);
  return opened;
}

static lorasc_generation settings_for(int32_t count) {
  lorasc_generation settings = LORASC_GENERATION_DEFAULTS;
  settings.max_new_tokens = count;
  return settings;
}

static lorasc_status generate(lorasc_model *model, lorasc_adapter *adapter,
                              const lorasc_generation *settings, int32_t *tokens,
                              size_t *count) {
  return lorasc_generate(model, adapter, prompt, PROMPT, settings, NULL, NULL, tokens, NEW, count);
}

/* The token with the largest logit after `count` tokens, by lorasc_predict. */
static int32_t likeliest(lorasc_model *model, const int32_t *tokens, size_t count) {
  float logits[TINY_VOCABULARY];
  const int64_t offsets[] = {0, (int64_t)count};
  lorasc_batch batch = {.struct_size = sizeof batch, .rows = 1, .tokens = tokens,
                        .offsets = offsets};
  size_t need;
  int32_t best = 0;
  if (CHECK_OK(lorasc_predict(model, NULL, &batch, LORASC_PREDICT_LOGITS, logits,
                              TINY_VOCABULARY, &need)))
    for (int32_t i = 1; i < TINY_VOCABULARY; i++)
      if (logits[i] > logits[best]) best = i;
  return best;
}

void generation(void) {
  lorasc_model *model;
  REQUIRE(open_decoder(&model));
  lorasc_generation settings = settings_for(NEW);
  int32_t row[PROMPT + NEW], again[NEW], other[NEW];
  size_t count = 0;
  memcpy(row, prompt, sizeof prompt);
  CHECK_OK(generate(model, NULL, &settings, row + PROMPT, &count));
  CHECK(count == NEW); /* the configuration names no eos_token_id */
  for (size_t i = PROMPT; i < PROMPT + NEW; i++) CHECK(row[i] == likeliest(model, row, i));

  settings.temperature = 1.5;
  settings.top_p = 0.9;
  settings.seed = 5;
  CHECK_OK(generate(model, NULL, &settings, again, &count));
  CHECK_OK(generate(model, NULL, &settings, other, &count));
  CHECK(count == NEW && memcmp(again, other, sizeof again) == 0);
  settings.seed = 6;
  CHECK_OK(generate(model, NULL, &settings, other, &count));
  CHECK(memcmp(again, other, sizeof again) != 0);

  /* It ends before a stop token, which isn't given. */
  settings = settings_for(NEW);
  settings.stop_tokens = &row[PROMPT + 5];
  settings.stop_count = 1;
  CHECK_OK(generate(model, NULL, &settings, again, &count));
  CHECK(count <= 5 && memcmp(again, row + PROMPT, count * sizeof *again) == 0);
  CHECK(row[PROMPT + count] == row[PROMPT + 5]);
  lorasc_model_free(model);
}

typedef struct listener {
  size_t told, stop_after;
  int32_t tokens[NEW];
  lorasc_model *model;
  lorasc_adapter *adapter;
} listener;

static int32_t listen(int32_t token, void *user) {
  listener *l = user;
  if (CHECK(l->told < NEW)) l->tokens[l->told++] = token;
  return l->stop_after && l->told == l->stop_after ? -7 : 0;
}

void generation_buffers(void) {
  lorasc_model *model;
  REQUIRE(open_decoder(&model));
  lorasc_generation settings = settings_for(NEW);
  int32_t tokens[NEW + 1], expected[NEW];
  size_t count = 99;
  CHECK_OK(generate(model, NULL, &settings, expected, &count));

  /* Short, and how much would do. */
  memset(tokens, 0xA5, sizeof tokens);
  CHECK_STATUS(lorasc_generate(model, NULL, prompt, PROMPT, &settings, NULL, NULL, tokens, NEW - 1,
                               &count),
               LORASC_E_BUFFER);
  CHECK(count == NEW);
  count = 99;
  CHECK_STATUS(lorasc_generate(model, NULL, prompt, PROMPT, &settings, NULL, NULL, NULL, NEW,
                               &count),
               LORASC_E_BUFFER);
  CHECK(count == NEW);
  count = 99;
  CHECK_OK(lorasc_generate(model, NULL, prompt, PROMPT, &settings, NULL, NULL, NULL, 0, &count));
  CHECK(count == NEW);
  CHECK(tokens[0] == (int32_t)0xA5A5A5A5);

  /* No more than asked for is written. */
  CHECK_OK(lorasc_generate(model, NULL, prompt, PROMPT, &settings, NULL, NULL, tokens, NEW + 1,
                           &count));
  CHECK(count == NEW && tokens[NEW] == (int32_t)0xA5A5A5A5);
  CHECK(memcmp(tokens, expected, sizeof expected) == 0);

  /* A callback is enough, with or without a count; both together agree. */
  listener l = {0};
  CHECK_OK(lorasc_generate(model, NULL, prompt, PROMPT, &settings, listen, &l, NULL, 0, NULL));
  CHECK(l.told == NEW && memcmp(l.tokens, expected, sizeof expected) == 0);
  l.told = 0;
  memset(tokens, 0, sizeof tokens);
  CHECK_OK(lorasc_generate(model, NULL, prompt, PROMPT, &settings, listen, &l, tokens, SIZE_MAX,
                           &count));
  CHECK(l.told == NEW && count == NEW && memcmp(tokens, expected, sizeof expected) == 0);
  CHECK_STATUS(lorasc_generate(model, NULL, prompt, PROMPT, &settings, NULL, NULL, tokens, NEW,
                               NULL),
               LORASC_E_ARGUMENT);
  lorasc_model_free(model);
}

void generation_settings(void) {
  lorasc_model *model;
  REQUIRE(open_decoder(&model));
  int32_t tokens[NEW], expected[NEW];
  size_t count;
  lorasc_generation settings = settings_for(NEW);
  CHECK_OK(generate(model, NULL, &settings, expected, &count));

#define REFUSED(member, value, status)                              \
  do {                                                              \
    lorasc_generation bad = settings_for(NEW);                      \
    bad.member = value;                                             \
    check_about(#member " = " #value);                              \
    count = 99;                                                     \
    CHECK_STATUS(generate(model, NULL, &bad, tokens, &count), status); \
    CHECK(count == 99);                                             \
    check_about(NULL);                                              \
  } while (0)
  REFUSED(max_new_tokens, 0, LORASC_E_ARGUMENT);
  REFUSED(max_new_tokens, -1, LORASC_E_ARGUMENT);
  REFUSED(max_new_tokens, INT32_MIN, LORASC_E_ARGUMENT);
  REFUSED(max_new_tokens, INT32_MAX, LORASC_E_LIMIT);
  REFUSED(max_new_tokens, TINY_POSITIONS - PROMPT + 2, LORASC_E_LIMIT);
  REFUSED(temperature, NAN, LORASC_E_ARGUMENT);
  REFUSED(temperature, -1, LORASC_E_ARGUMENT);
  REFUSED(temperature, INFINITY, LORASC_E_ARGUMENT);
  REFUSED(top_p, 0, LORASC_E_ARGUMENT);
  REFUSED(top_p, 1.5, LORASC_E_ARGUMENT);
  REFUSED(top_p, NAN, LORASC_E_ARGUMENT);
  REFUSED(top_k, -1, LORASC_E_ARGUMENT);
  REFUSED(repetition_penalty, 0, LORASC_E_ARGUMENT);
  REFUSED(repetition_penalty, NAN, LORASC_E_ARGUMENT);
  REFUSED(struct_size, 0, LORASC_E_ARGUMENT);
  REFUSED(struct_size, 5000, LORASC_E_ARGUMENT);
  const int32_t stops[] = {1, TINY_VOCABULARY};
  lorasc_generation bad = settings_for(NEW);
  bad.stop_tokens = stops;
  bad.stop_count = 2;
  CHECK_STATUS(generate(model, NULL, &bad, tokens, &count), LORASC_E_TOKEN);
  bad.stop_count = SIZE_MAX;
  CHECK_STATUS(generate(model, NULL, &bad, tokens, &count), LORASC_E_ARGUMENT);

  /* A struct of the past ends early: what it lacks is as in the defaults. */
  memset(&bad, 0xA5, sizeof bad);
  bad.struct_size = 8;
  bad.max_new_tokens = NEW;
  CHECK_OK(generate(model, NULL, &bad, tokens, &count));
  CHECK(count == NEW && memcmp(tokens, expected, sizeof expected) == 0);
  /* One of the future has more. */
  struct {
    lorasc_generation settings;
    unsigned char more[64];
  } future;
  memset(&future, 0xA5, sizeof future);
  future.settings = settings_for(NEW);
  future.settings.struct_size = sizeof future;
  CHECK_OK(generate(model, NULL, &future.settings, tokens, &count));
  CHECK(count == NEW && memcmp(tokens, expected, sizeof expected) == 0);
  /* No settings: 128 tokens, more than this model has positions for. */
  CHECK_STATUS(generate(model, NULL, NULL, tokens, &count), LORASC_E_LIMIT);
  lorasc_model_free(model);
}

void generation_refused(void) {
  lorasc_model *model, *encoder;
  REQUIRE(open_decoder(&model));
  REQUIRE(CHECK_OK(lorasc_model_open(tiny_model_path(), NULL, &encoder)));
  lorasc_generation settings = settings_for(NEW);
  int32_t tokens[NEW], long_prompt[TINY_POSITIONS + 1] = {0};
  size_t count = 99;
#define PROMPT_REFUSED(ids, length, status)                                                \
  CHECK_STATUS(lorasc_generate(model, NULL, ids, length, &settings, NULL, NULL, tokens, NEW, \
                               &count),                                                    \
               status)
  const int32_t negative[] = {1, -1}, beyond[] = {1, TINY_VOCABULARY};
  PROMPT_REFUSED(NULL, 1, LORASC_E_ARGUMENT);
  PROMPT_REFUSED(prompt, 0, LORASC_E_SHAPE);
  PROMPT_REFUSED(prompt, SIZE_MAX, LORASC_E_LIMIT);
  PROMPT_REFUSED(prompt, (size_t)1 << 60, LORASC_E_LIMIT);
  PROMPT_REFUSED(negative, 2, LORASC_E_TOKEN);
  PROMPT_REFUSED(beyond, 2, LORASC_E_TOKEN);
  CHECK_TEXT(lorasc_last_error()->subject, "prompt");
  PROMPT_REFUSED(long_prompt, TINY_POSITIONS, LORASC_E_LIMIT);
  PROMPT_REFUSED(long_prompt, TINY_POSITIONS + 1, LORASC_E_LIMIT);
  CHECK_STATUS(generate(encoder, NULL, &settings, tokens, &count), LORASC_E_STATE);
  CHECK_STATUS(generate(NULL, NULL, &settings, tokens, &count), LORASC_E_HANDLE);
  CHECK_STATUS(generate(model, (lorasc_adapter *)(void *)model, &settings, tokens, &count),
               LORASC_E_HANDLE);
  CHECK(count == 99);
  /* The last token needs no position: a prompt that fills the model has one. */
  settings.max_new_tokens = 1;
  CHECK_OK(lorasc_generate(model, NULL, long_prompt, TINY_POSITIONS, &settings, NULL, NULL, tokens,
                           NEW, &count));
  CHECK(count == 1);
  lorasc_model_free(encoder);
  lorasc_model_free(model);
}

/* A whole generation inside a generation, on the same model and adapter, which it then frees. */
static int32_t call_back(int32_t token, void *user) {
  listener *l = user, inner = {0};
  lorasc_generation settings = settings_for(3);
  if (l->told < NEW) l->tokens[l->told++] = token;
  if (l->told > 1) return 0;
  CHECK_OK(lorasc_generate(l->model, l->adapter, prompt, PROMPT, &settings, listen, &inner, NULL,
                           0, NULL));
  CHECK(inner.told == 3 && inner.tokens[0] == token);
  CHECK_OK(lorasc_adapter_set_scale(l->adapter, -4));
  lorasc_adapter_free(l->adapter);
  lorasc_model_free(l->model);
  return 0;
}

static bool lm_adapter(lorasc_model *model, lorasc_adapter **adapter) {
  lorasc_options *options;
  float values[TINY_HIDDEN * 4];
  bool made = options_make(&options, "head=lm r=4 target_modules=q_proj") &&
              CHECK_OK(lorasc_adapter_create(model, options, NULL, adapter));
  for (int i = 0; i < TINY_HIDDEN * 4; i++) values[i] = (float)(i % 5 - 2) / 2;
  lorasc_options_free(options);
  return made &&
         CHECK_OK(lorasc_adapter_copy_in(*adapter, "layers.0.self_attn.q_proj.lora_B.weight",
                                         values, TINY_HIDDEN * 4));
}

void generation_callbacks(void) {
  lorasc_model *model;
  lorasc_adapter *adapter;
  REQUIRE(open_decoder(&model) && lm_adapter(model, &adapter));
  lorasc_generation settings = settings_for(NEW);
  int32_t expected[NEW], tokens[NEW];
  size_t count;
  CHECK_OK(generate(model, adapter, &settings, expected, &count));
  for (size_t stop = 1; stop <= NEW; stop += NEW - 1) {
    listener l = {.stop_after = stop};
    count = 99;
    CHECK_STATUS(lorasc_generate(model, adapter, prompt, PROMPT, &settings, listen, &l, tokens,
                                 NEW, &count),
                 LORASC_E_CANCELLED);
    CHECK(l.told == stop && count == stop);
    CHECK(memcmp(tokens, expected, stop * sizeof *tokens) == 0);
  }
  listener l = {.model = model, .adapter = adapter};
  CHECK_OK(lorasc_generate(model, adapter, prompt, PROMPT, &settings, call_back, &l, NULL, 0,
                           &count));
  CHECK(l.told == NEW && count == NEW && memcmp(l.tokens, expected, sizeof expected) == 0);
  CHECK_STATUS(generate(model, NULL, &settings, tokens, &count), LORASC_E_HANDLE);
}

void generation_adapter(void) {
  lorasc_model *model, *merged, *again;
  lorasc_adapter *adapter;
  REQUIRE(open_decoder(&model) && lm_adapter(model, &adapter));
  lorasc_generation settings = settings_for(NEW);
  int32_t base[NEW], adapted[NEW], tokens[NEW];
  size_t count;
  CHECK_OK(generate(model, NULL, &settings, base, &count));
  CHECK_OK(generate(model, adapter, &settings, adapted, &count));
  CHECK(memcmp(base, adapted, sizeof base) != 0);
  CHECK_OK(lorasc_adapter_set_scale(adapter, 0));
  CHECK_OK(generate(model, adapter, &settings, tokens, &count));
  CHECK(memcmp(base, tokens, sizeof base) == 0);
  CHECK_OK(lorasc_adapter_set_scale(adapter, 1));
  const char *folder = in_folder("generation-merged");
  REQUIRE(CHECK_OK(lorasc_adapter_merge(model, adapter, folder, NULL)));
  REQUIRE(CHECK_OK(lorasc_model_open(folder, NULL, &merged)));
  CHECK_OK(generate(merged, NULL, &settings, tokens, &count));
  CHECK(memcmp(adapted, tokens, sizeof adapted) == 0);
  REQUIRE(open_decoder(&again));
  CHECK_STATUS(generate(again, adapter, &settings, tokens, &count), LORASC_E_MISMATCH);
  lorasc_model_free(again);
  lorasc_model_free(merged);
  lorasc_adapter_free(adapter);
  lorasc_model_free(model);
}
