/* The contract of lorasc.h, from the outside. `contract <part of a name>` runs some. */
#include "fixture.h"

#include <stdio.h>

#define TEST(name) void name(void);
#include "contract_tests.h"
#undef TEST

static const test tests[] = {
#define TEST(name) {#name, name},
#include "contract_tests.h"
#undef TEST
    {NULL, NULL}};

int main(int argc, char **argv) {
  if (!fixture_folder_make()) return fputs("no temporary folder\n", stderr), 1;
  int status = run_tests(tests, argc, argv);
  fixture_folder_remove();
  return status;
}
