#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int failed_checks;
static char about[160];

void check_about(const char *subject) {
  pthread_mutex_lock(&lock);
  snprintf(about, sizeof about, "%s", subject ? subject : "");
  pthread_mutex_unlock(&lock);
}

static void report(const char *file, int line, const char *expression, const char *what) {
  pthread_mutex_lock(&lock);
  failed_checks++;
  printf("%s:%d: %s%s%s%s: %s\n", file, line, about[0] ? "[" : "", about, about[0] ? "] " : "",
         expression, what);
  fflush(stdout);
  pthread_mutex_unlock(&lock);
}

bool check_true(bool held, const char *expression, const char *file, int line) {
  if (!held) report(file, line, expression, "does not hold");
  return held;
}

bool check_status(lorasc_status status, lorasc_status expected, const char *expression,
                  const char *file, int line) {
  char what[512];
  if (status == expected) return true;
  snprintf(what, sizeof what, "%s, not %s; last error: %s", lorasc_status_name(status),
           lorasc_status_name(expected), lorasc_last_error()->message);
  report(file, line, expression, what);
  return false;
}

bool check_text(const char *text, const char *expected, const char *expression, const char *file,
                int line) {
  char what[512];
  if (text && strcmp(text, expected) == 0) return true;
  snprintf(what, sizeof what, "\"%s\", not \"%s\"", text ? text : "(NULL)", expected);
  report(file, line, expression, what);
  return false;
}

bool check_near(double value, double expected, double tolerance, const char *expression,
                const char *file, int line) {
  char what[160];
  if (fabs(value - expected) <= tolerance) return true;
  snprintf(what, sizeof what, "%.9g, not %.9g within %.3g", value, expected, tolerance);
  report(file, line, expression, what);
  return false;
}

static bool chosen(const char *name, int argc, char **argv) {
  for (int i = 1; i < argc; i++)
    if (strstr(name, argv[i])) return true;
  return argc < 2;
}

int run_tests(const test *tests, int argc, char **argv) {
  int passed = 0, failed = 0;
  for (const test *each = tests; each->name; each++) {
    if (!chosen(each->name, argc, argv)) continue;
    int before = failed_checks;
    check_about(NULL);
    each->run();
    if (failed_checks == before) {
      passed++;
    } else {
      failed++;
      printf("FAILED %s\n", each->name);
    }
    fflush(stdout);
  }
  printf("%d passed, %d failed\n", passed, failed);
  return failed || !passed;
}
