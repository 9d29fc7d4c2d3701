/* What steps allocate, counted where the allocator is asked: this program's malloc and its like
 * stand before the C library's for the whole process.
 *
 * OpenBLAS's own are left out: with AVX-512 its kernels for small products allocate and free within
 * a product. oneDNN does so in each, and isn't used here.
 *
 *   allocations [names of tests]
 */
#define _GNU_SOURCE /* dladdr */
#include "fixture.h"

#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

static volatile long asked;
/* From main on: before it the dynamic linker allocates, which dladdr would ask. */
static volatile bool counts_callers;

static bool is_openblas(const void *caller) {
  Dl_info info;
  return dladdr(caller, &info) != 0 && strstr(info.dli_fname, "libopenblas") != NULL;
}

static void *counted(void *memory, const void *caller) {
  if (!counts_callers || !is_openblas(caller)) __atomic_fetch_add(&asked, 1, __ATOMIC_SEQ_CST);
  return memory;
}

void *malloc(size_t size) { return counted(__libc_malloc(size), __builtin_return_address(0)); }
void *calloc(size_t count, size_t size) {
  return counted(__libc_calloc(count, size), __builtin_return_address(0));
}
void *realloc(void *memory, size_t size) {
  return counted(__libc_realloc(memory, size), __builtin_return_address(0));
}
void *aligned_alloc(size_t alignment, size_t size) {
  return counted(__libc_memalign(alignment, size), __builtin_return_address(0));
}
void *memalign(size_t alignment, size_t size) {
  return counted(__libc_memalign(alignment, size), __builtin_return_address(0));
}
int posix_memalign(void **memory, size_t alignment, size_t size) {
  *memory = counted(__libc_memalign(alignment, size), __builtin_return_address(0));
  return *memory == NULL ? ENOMEM : 0;
}

enum { WARM_UP = 3, STEPS = 20 };

/* Allocations of the library in one step after the first ones; `loss` may be NULL. */
static double allocations_of_a_step(const char *path, const char *settings, lorasc_loss_fn loss) {
  fixture f;
  double each = -1;
  char all[256];
  /* oneDNN allocates and frees within each product. */
  snprintf(all, sizeof all, "schedule=constant products=openblas %s", settings);
  if (fixture_open_on(&f, path, all)) {
    bool good = CHECK_OK(lorasc_trainer_set_loss(f.trainer, loss, NULL));
    for (int i = 0; i < WARM_UP; i++) good = good && step(&f);
    long before = asked;
    for (int i = 0; i < STEPS; i++) good = good && step(&f);
    if (good) each = (double)(asked - before) / STEPS;
  }
  fixture_close(&f);
  return each;
}

/* Allocations of the library in one forward and backward of a layer, gradients into the caller's
 * memory, after the first ones. */
static double allocations_of_a_layer_call(const char *settings) {
  enum { ROWS = 20, RANK = 4, VALUES = ROWS * TINY_HIDDEN };
  static float x[VALUES], y[VALUES], dx[VALUES], a[RANK * TINY_HIDDEN], b[TINY_HIDDEN * RANK],
      magnitude[TINY_HIDDEN];
  lorasc_activations in = {.struct_size = sizeof in, .values = x, .batch = 2, .tokens = ROWS / 2};
  lorasc_activations out = in, down = in;
  const lorasc_layer_gradients gradients = {.struct_size = sizeof gradients, .a = a, .b = b,
                                            .magnitude = magnitude};
  fixture f;
  lorasc_layer *layer = NULL;
  double each = -1;
  char all[256];
  out.values = y;
  down.values = dx;
  snprintf(all, sizeof all, "schedule=constant products=openblas r=4 %s", settings);
  if (fixture_open(&f, all) &&
      CHECK_OK(lorasc_layer_create(f.trainer, "encoder.layer.0.attention.self.query", &layer))) {
    bool good = true;
    long before = 0;
    for (int i = 0; i < WARM_UP + STEPS; i++) {
      if (i == WARM_UP) before = asked;
      good = good && lorasc_layer_forward(layer, &in, &out, NULL) == LORASC_OK &&
             lorasc_layer_backward(layer, &in, &out, &down, NULL, &gradients) == LORASC_OK;
    }
    if (good) each = (double)(asked - before) / STEPS;
  }
  lorasc_layer_free(layer);
  fixture_close(&f);
  return each;
}

static void layer_calls_allocate_nothing(void) {
  static const char *const settings[] = {"threads=1 method=lora", "threads=2 method=dora",
                                         "threads=2 method=lorasc lora_dropout=0.1"};
  for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
    check_about(settings[i]);
    double each = allocations_of_a_layer_call(settings[i]);
    printf("a layer, %s: %g allocations a forward and backward\n", settings[i], each);
    CHECK(each == 0);
  }
  check_about(NULL);
}

static void the_counter_counts(void) {
  long before = asked;
  free(malloc(10));
  lorasc_options *options;
  CHECK_OK(lorasc_options_create(&options));
  lorasc_options_free(options);
  CHECK(asked - before > 2);
}

static void steps_allocate_nothing(void) {
  static const char *const settings[] = {
      "threads=1",
      "threads=2",
      "threads=2 method=dora",
      "threads=2 method=lorasc",
      "threads=2 method=lora target_modules=all-linear recompute=layer",
      "threads=2 head=classifier",
      "threads=2 hidden_dropout=0.1 attention_dropout=0.1 lora_dropout=0.1",
  };
  for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
    check_about(settings[i]);
    double each = allocations_of_a_step(tiny_model_path(), settings[i], NULL);
    printf("%s: %g allocations a step\n", settings[i], each);
    CHECK(each == 0);
  }
  check_about(NULL);
}

static void steps_with_a_loss_allocate_nothing(void) {
  CHECK(allocations_of_a_step(tiny_model_path(), "threads=2", cross_entropy) == 0);
  CHECK(allocations_of_a_step(tiny_decoder_path(), "threads=2 head=lm num_labels=0",
                              cross_entropy) == 0);
}

static int32_t count_a_step(const lorasc_progress *progress, void *user) {
  long *counts = user;
  if (progress->event == LORASC_EVENT_STEP) counts[progress->step] = asked;
  return 0;
}

static void steps_of_a_run_with_callbacks_allocate_nothing(void) {
  enum { ALL = FIXTURE_ROWS / 2 };
  fixture f;
  static row_source source;
  long counts[ALL + 1] = {0};
  lorasc_dataset *dataset = NULL;
  if (fixture_open(&f, "threads=2 epochs=1 batch_size=2 products=openblas")) {
    source.rows = &f.rows;
    CHECK_OK(lorasc_dataset_from_callback(FIXTURE_ROWS, read_rows, &source, &dataset));
    CHECK_OK(lorasc_trainer_set_loss(f.trainer, cross_entropy, NULL));
    CHECK_OK(lorasc_trainer_run(f.trainer, dataset, NULL, count_a_step, counts));
    CHECK(counts[WARM_UP] > 0 && counts[ALL] == counts[WARM_UP]);
    printf("a run with callbacks: %ld allocations in %d steps\n", counts[ALL] - counts[WARM_UP],
           ALL - WARM_UP);
  }
  lorasc_dataset_free(dataset);
  fixture_close(&f);
}

static long resident_kibibytes(void) {
  long pages = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  if (file == NULL || fscanf(file, "%*d %ld", &pages) != 1) pages = -1;
  if (file != NULL) fclose(file);
  return 4 * pages;
}

static void many_steps_take_no_more_memory(void) {
  fixture f;
  if (fixture_open(&f, "schedule=constant threads=2 method=lorasc cascade_unit=step "
                       "cascade_length=100")) {
    bool good = true;
    for (int i = 0; i < 100; i++) good = good && step(&f);
    long before = resident_kibibytes();
    for (int i = 0; i < 1000; i++) good = good && step(&f);
    long growth = resident_kibibytes() - before;
    printf("1000 steps: %ld KiB more\n", growth);
    CHECK(good && before > 0 && growth <= 1024);
  }
  fixture_close(&f);
}

int main(int argc, char **argv) {
  const test tests[] = {{"the_counter_counts", the_counter_counts},
                        {"steps_allocate_nothing", steps_allocate_nothing},
                        {"layer_calls_allocate_nothing", layer_calls_allocate_nothing},
                        {"steps_with_a_loss_allocate_nothing",
                         steps_with_a_loss_allocate_nothing},
                        {"steps_of_a_run_with_callbacks_allocate_nothing",
                         steps_of_a_run_with_callbacks_allocate_nothing},
                        {"many_steps_take_no_more_memory", many_steps_take_no_more_memory},
                        {NULL, NULL}};
  counts_callers = true;
  if (!fixture_folder_make()) return 1;
  int status = run_tests(tests, argc, argv);
  fixture_folder_remove();
  return status;
}
