/* Versions, status names, last error, log, options. */
#include "fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void library_versions(void) {
  CHECK(lorasc_abi_version() == LORASC_ABI_VERSION);
  CHECK_TEXT(lorasc_version(), LORASC_VERSION);
  const char *info = lorasc_build_info();
  CHECK(info && strlen(info) > 10 && !strchr(info, '\n'));
  CHECK(info && strstr(info, LORASC_VERSION));
}

void library_status_names(void) {
  static const struct {
    int32_t status, pinned;
    const char *name;
  } all[] = {
#define STATUS(name, number) {LORASC_##name, number, "LORASC_" #name}
      STATUS(OK, 0),             STATUS(E_ARGUMENT, 1),      STATUS(E_HANDLE, 2),
      STATUS(E_OPTION, 3),       STATUS(E_STATE, 4),         STATUS(E_BUSY, 5),
      STATUS(E_LIMIT, 6),        STATUS(E_BUFFER, 7),        STATUS(E_MEMORY, 8),
      STATUS(E_IO, 20),          STATUS(E_NOT_FOUND, 21),    STATUS(E_FORMAT, 22),
      STATUS(E_UNSUPPORTED, 23), STATUS(E_ARCHITECTURE, 24), STATUS(E_MISMATCH, 25),
      STATUS(E_SHAPE, 40),       STATUS(E_TOKEN, 41),        STATUS(E_LABEL, 42),
      STATUS(E_NO_MATCH, 43),    STATUS(E_NO_LOSS, 44),      STATUS(E_NONFINITE, 45),
      STATUS(E_INTERRUPTED, 60), STATUS(E_CANCELLED, 61),    STATUS(E_INTERNAL, 90),
#undef STATUS
  };
  for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
    CHECK(all[i].status == all[i].pinned);
    CHECK_TEXT(lorasc_status_name(all[i].status), all[i].name);
  }
  CHECK_TEXT(lorasc_status_name(9), "LORASC_E_?");
  CHECK_TEXT(lorasc_status_name(-1), "LORASC_E_?");
  CHECK_TEXT(lorasc_status_name(INT32_MIN), "LORASC_E_?");
  CHECK_TEXT(lorasc_status_name(INT32_MAX), "LORASC_E_?");
}

void library_last_error(void) {
  lorasc_options *options;
  REQUIRE(options_make(&options, ""));
  CHECK(lorasc_last_error() != NULL);
  CHECK_STATUS(lorasc_options_set(options, "no_such_option", "1"), LORASC_E_OPTION);
  CHECK(lorasc_last_error()->status == LORASC_E_OPTION);
  CHECK_TEXT(lorasc_last_error()->subject, "no_such_option");
  CHECK(strstr(lorasc_last_error()->message, "no_such_option") != NULL);
  CHECK_OK(lorasc_options_set(options, "r", "4")); /* success leaves it */
  CHECK_TEXT(lorasc_last_error()->subject, "no_such_option");

  lorasc_model *model = NULL;
  CHECK_STATUS(lorasc_model_open(in_folder("nowhere"), NULL, &model), LORASC_E_NOT_FOUND);
  CHECK(lorasc_last_error()->status == LORASC_E_NOT_FOUND);
  CHECK(strstr(lorasc_last_error()->message, "nowhere") != NULL);
  CHECK(model == NULL);

  /* A long offender neither overflows nor is the message left unterminated. */
  size_t length = 1 << 20;
  char *key = malloc(length + 1);
  REQUIRE(CHECK(key != NULL));
  memset(key, 'k', length);
  key[length] = '\0';
  CHECK_STATUS(lorasc_options_set(options, key, "1"), LORASC_E_OPTION);
  CHECK(strlen(lorasc_last_error()->message) <= length + 200);
  CHECK_STATUS(lorasc_model_open(key, NULL, &model), LORASC_E_IO);
  free(key);

  /* Bytes that are no UTF-8 do no harm. */
  CHECK_STATUS(lorasc_options_set(options, "\xff\xfe\x80", "1"), LORASC_E_ARGUMENT);
  CHECK_STATUS(lorasc_options_set(options, "r", "\xc3\x28"), LORASC_E_ARGUMENT);
  lorasc_options_free(options);
}

static int log_lines;
static void count_lines(int32_t level, const char *message, void *user) {
  if (level >= LORASC_LOG_DEBUG && message && user == &log_lines) log_lines++;
}

void library_log(void) {
  fixture f;
  CHECK_OK(lorasc_set_log(LORASC_LOG_DEBUG, count_lines, &log_lines));
  if (fixture_open(&f, "cascade_unit=none max_steps=4")) CHECK(step(&f));
  fixture_close(&f);
  CHECK_OK(lorasc_set_log(LORASC_LOG_DEBUG, NULL, NULL));
  int lines = log_lines;
  if (fixture_open(&f, "cascade_unit=none max_steps=4")) CHECK(step(&f));
  fixture_close(&f);
  CHECK(log_lines == lines);
}

/* ---- Options ------------------------------------------------------------------ */

static lorasc_option_info described(size_t index) {
  lorasc_option_info info = {.struct_size = sizeof info};
  CHECK_OK(lorasc_option_describe(index, &info));
  return info;
}

static bool is_one_of(const char *word, const char *list) {
  size_t length = strlen(word);
  for (const char *each = list; each; each = strchr(each, '|') ? strchr(each, '|') + 1 : NULL)
    if (strncmp(each, word, length) == 0 && (each[length] == '|' || !each[length])) return true;
  return false;
}

void options_described(void) {
  lorasc_option_info info = {.struct_size = sizeof info};
  size_t count = lorasc_option_count();
  CHECK(count >= 40);
  CHECK_STATUS(lorasc_option_describe(count, &info), LORASC_E_ARGUMENT);
  CHECK_STATUS(lorasc_option_describe(SIZE_MAX, &info), LORASC_E_ARGUMENT);
  CHECK_STATUS(lorasc_option_describe(0, NULL), LORASC_E_ARGUMENT);
  for (size_t i = 0; i < count; i++) {
    info = described(i);
    check_about(info.key);
    CHECK(info.key && info.key[0]);
    CHECK(is_one_of(info.type, "integer|number|boolean|choice|text|list"));
    CHECK(is_one_of(info.scope, "model|adapter|trainer"));
    CHECK(info.default_value && info.minimum && info.maximum && info.choices);
    CHECK(info.help && strlen(info.help) > 5);
    CHECK(strcmp(info.type, "choice") != 0 || is_one_of(info.default_value, info.choices));
    for (size_t other = 0; other < i; other++)
      CHECK(strcmp(described(other).key, info.key) != 0);
  }
}

static void check_value(lorasc_options *options, const char *key, const char *expected) {
  char value[256];
  size_t need = 0;
  CHECK_OK(lorasc_options_get(options, key, value, sizeof value, &need));
  CHECK(need == strlen(expected) + 1);
  CHECK_TEXT(value, expected);
}

void options_defaults(void) {
  lorasc_options *options;
  REQUIRE(options_make(&options, ""));
  for (size_t i = 0; i < lorasc_option_count(); i++) {
    lorasc_option_info info = described(i);
    check_about(info.key);
    check_value(options, info.key, info.default_value);
    CHECK_OK(lorasc_options_set(options, info.key, info.default_value));
    /* What is then read is one spelling of the default, and reads back as itself. */
    char value[256], again[256];
    size_t need;
    CHECK_OK(lorasc_options_get(options, info.key, value, sizeof value, &need));
    CHECK_OK(lorasc_options_set(options, info.key, value));
    CHECK_OK(lorasc_options_get(options, info.key, again, sizeof again, &need));
    CHECK_TEXT(again, value);
  }
  lorasc_options_free(options);
}

void options_ranges(void) {
  lorasc_options *options;
  REQUIRE(options_make(&options, ""));
  for (size_t i = 0; i < lorasc_option_count(); i++) {
    lorasc_option_info info = described(i);
    check_about(info.key);
    bool integer = !strcmp(info.type, "integer"), number = !strcmp(info.type, "number");
    char text[64];
    if (integer || number || !strcmp(info.type, "boolean") || !strcmp(info.type, "choice")) {
      static const char *bad[] = {"", "nonsense", "1 2", "--3"};
      for (size_t b = 0; b < sizeof bad / sizeof bad[0]; b++)
        CHECK_STATUS(lorasc_options_set(options, info.key, bad[b]), LORASC_E_OPTION);
      CHECK_TEXT(lorasc_last_error()->subject, info.key);
    }
    if (integer || number) {
      static const char *bad[] = {"nan", "inf", "-inf", "1e999", "-1e999"};
      for (size_t b = 0; b < sizeof bad / sizeof bad[0]; b++)
        CHECK_STATUS(lorasc_options_set(options, info.key, bad[b]), LORASC_E_OPTION);
      if (info.minimum[0]) {
        snprintf(text, sizeof text, "%.17g", strtod(info.minimum, NULL) - 1);
        CHECK_STATUS(lorasc_options_set(options, info.key, text), LORASC_E_OPTION);
      }
      if (info.maximum[0] && strtod(info.maximum, NULL) < 1e15) {
        snprintf(text, sizeof text, "%.17g", strtod(info.maximum, NULL) + 1);
        CHECK_STATUS(lorasc_options_set(options, info.key, text), LORASC_E_OPTION);
      }
    }
    if (integer) {
      CHECK_STATUS(lorasc_options_set(options, info.key, "1.5"), LORASC_E_OPTION);
      CHECK_STATUS(lorasc_options_set(options, info.key, "99999999999999999999"),
                   LORASC_E_OPTION);
    }
    for (const char *each = info.choices; each && each[0];
         each = strchr(each, '|') ? strchr(each, '|') + 1 : NULL) {
      snprintf(text, sizeof text, "%.*s", (int)strcspn(each, "|"), each);
      CHECK_OK(lorasc_options_set(options, info.key, text));
      check_value(options, info.key, text);
    }
    CHECK_OK(lorasc_options_set(options, info.key, info.default_value));
  }
  CHECK_STATUS(lorasc_options_set(options, NULL, "1"), LORASC_E_ARGUMENT);
  CHECK_STATUS(lorasc_options_set(options, "r", NULL), LORASC_E_ARGUMENT);
  CHECK_STATUS(lorasc_options_set(options, "R", "1"), LORASC_E_OPTION);
  CHECK_STATUS(lorasc_options_set(options, "", "1"), LORASC_E_OPTION);
  lorasc_options_free(options);
}

void options_buffers(void) {
  lorasc_options *options;
  char value[16];
  size_t need = 0;
  REQUIRE(options_make(&options, "target_modules=key"));
  CHECK_OK(lorasc_options_get(options, "target_modules", NULL, 0, &need));
  CHECK(need == 4);
  memset(value, 'x', sizeof value);
  need = 0;
  CHECK_STATUS(lorasc_options_get(options, "target_modules", value, 3, &need), LORASC_E_BUFFER);
  CHECK(need == 4 && value[0] == 'x');
  CHECK_STATUS(lorasc_options_get(options, "target_modules", value, 0, &need), LORASC_E_BUFFER);
  CHECK_OK(lorasc_options_get(options, "target_modules", value, 4, &need));
  CHECK(memcmp(value, "key\0x", 5) == 0);
  need = 77;
  CHECK_STATUS(lorasc_options_get(options, "nope", value, sizeof value, &need), LORASC_E_OPTION);
  CHECK(need == 77);
  CHECK_STATUS(lorasc_options_get(options, NULL, value, sizeof value, &need),
               LORASC_E_ARGUMENT);
  lorasc_options_free(options);
}

void options_json(void) {
  lorasc_options *options;
  REQUIRE(options_make(&options, "seed=5"));
  CHECK_OK(lorasc_options_load_json(
      options,
      "{\"r\": 16, \"learning_rate\": 2e-3, \"use_rslora\": true, \"method\": \"cola\","
      " \"target_modules\": [\"key\", \"value\"], \"slow_rates\": [0.5, 1], \"seed\": null}"));
  check_value(options, "r", "16");
  check_value(options, "learning_rate", "0.002");
  check_value(options, "use_rslora", "true");
  check_value(options, "method", "cola");
  check_value(options, "target_modules", "key,value");

  static const char *refused[] = {
      "{\"r\": 4, \"no_such_option\": 1}", "{\"r\": 4, \"epochs\": 0}",
      "{\"r\": 4, \"epochs\": \"many\"}",  "{\"r\": 4, \"epochs\": {}}",
      "{\"r\": 4, \"epochs\": 2.5}",       "{\"r\": 4, \"r\": 5}",
      "{\"r\": 4",                         "[]",
      "4",                                 "",
      "{\"r\": 4} x",                      "{\"r\": 1e400}",
      "{\"r\": 99999999999999999999}",     "{\"r\": [[1]]}",
  };
  for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
    check_about(refused[i]);
    lorasc_status status = lorasc_options_load_json(options, refused[i]);
    CHECK(status == LORASC_E_OPTION || status == LORASC_E_FORMAT);
    check_value(options, "r", "16"); /* all or nothing */
  }
  size_t depth = 200000;
  char *deep = malloc(depth + 1);
  if (CHECK(deep != NULL)) {
    memset(deep, '[', depth);
    deep[depth] = '\0';
    CHECK(lorasc_options_load_json(options, deep) != LORASC_OK);
    free(deep);
  }
  CHECK_STATUS(lorasc_options_load_json(options, NULL), LORASC_E_ARGUMENT);
  CHECK_OK(lorasc_options_load_json(options, " { } \n"));
  lorasc_options_free(options);
}
