/* Checks for plain C tests. A test is a function; it fails when one of its checks does. */
#ifndef LORASC_TESTS_CHECK_H
#define LORASC_TESTS_CHECK_H
#include <lorasc.h>

#include <stdbool.h>

typedef struct test {
  const char *name;
  void (*run)(void);
} test;

/* Runs the tests whose names contain one of the arguments (all, without arguments) and
 * prints "N passed, N failed". Returns the exit status. */
int run_tests(const test *tests, int argc, char **argv);

/* Reports and returns whether it held. Usable from several threads. */
bool check_true(bool held, const char *expression, const char *file, int line);
/* Reports `status` by name with the last error's message where it isn't `expected`. */
bool check_status(lorasc_status status, lorasc_status expected, const char *expression,
                  const char *file, int line);
bool check_text(const char *text, const char *expected, const char *expression, const char *file,
                int line);
/* |value - expected| <= tolerance */
bool check_near(double value, double expected, double tolerance, const char *expression,
                const char *file, int line);
/* For a check inside a loop: what the following checks are about; NULL: nothing more. */
void check_about(const char *subject);

#define CHECK(condition) check_true(condition, #condition, __FILE__, __LINE__)
#define CHECK_STATUS(call, expected) \
  check_status(call, expected, #call, __FILE__, __LINE__)
#define CHECK_OK(call) CHECK_STATUS(call, LORASC_OK)
#define CHECK_TEXT(text, expected) check_text(text, expected, #text, __FILE__, __LINE__)
#define CHECK_NEAR(value, expected, tolerance) \
  check_near(value, expected, tolerance, #value, __FILE__, __LINE__)
/* Ends the test where going on makes no sense. */
#define REQUIRE(check) \
  do {                 \
    if (!(check)) return; \
  } while (0)

#endif
