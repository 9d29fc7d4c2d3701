/* What the examples share: ending with a message, and memory that is there or ends them. */
#ifndef EXAMPLE_H
#define EXAMPLE_H
#include <lorasc.h>

#include <stdio.h>
#include <stdlib.h>

static inline void fail(const char *what, const char *why) {
  fprintf(stderr, "%s: %s\n", what, why);
  exit(1);
}

static inline void check(lorasc_status status, const char *what) {
  if (status != LORASC_OK) fail(what, lorasc_last_error()->message);
}

static inline void *allocate(void *old, size_t count, size_t size) {
  void *memory = count <= SIZE_MAX / size ? realloc(old, count * size) : NULL;
  if (!memory) fail("memory", "the allocator refused");
  return memory;
}

static inline lorasc_options *make_options(const char *const settings[][2], size_t count) {
  lorasc_options *options;
  check(lorasc_options_create(&options), "options");
  for (size_t i = 0; i < count; i++)
    check(lorasc_options_set(options, settings[i][0], settings[i][1]), settings[i][0]);
  return options;
}

#endif
