/* Times training steps (accumulate and apply) of a BERT folder on made-up tokens:
 *
 *   step <model folder> [threads [compute_dtype]]
 *
 * 32 rows of 64 tokens, LoRA of rank 8 on query and value, a linear head on 10 classes.
 * Prints the median of 20 steps after 3 that don't count, and the start: what lies between the
 * process's beginning (known to 10 ms) and the end of the first step, less the median.
 *
 * GFLOP/s counts the products of the method, not what an implementation happens to do. For
 * each layer and token, with h = hidden, i = intermediate, L = row length:
 *   linear      forward 2 (4 h^2 + 2 h i); backward the same (gradients of inputs; the
 *               frozen weights have none), but in the lowest layer none for its own input,
 *               which nothing trainable lies below: less 2 * 3 h^2
 *   attention   forward 4 L h, backward 8 L h
 *   adapters    3 * 2 * 2 r (h + h)
 */
#define _GNU_SOURCE /* CLOCK_BOOTTIME */
#include <lorasc.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { ROWS = 32, LENGTH = 64, TOKENS = ROWS * LENGTH, CLASSES = 10, RANK = 8, WARM_UP = 3,
       STEPS = 20 };

static void check(lorasc_status status) {
  if (status == LORASC_OK) return;
  fprintf(stderr, "%s: %s\n", lorasc_status_name(status), lorasc_last_error()->message);
  exit(1);
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* Seconds since the process was made: field 22 of its stat, in clock ticks since boot. */
static double age(void) {
  static char text[4096];
  FILE *file = fopen("/proc/self/stat", "r");
  size_t size = file ? fread(text, 1, sizeof text - 1, file) : 0;
  if (file) fclose(file);
  text[size] = 0;
  const char *field = strrchr(text, ')');  /* the end of field 2, which may hold spaces */
  for (int i = 2; field && i < 22; i++) field = strchr(field + 1, ' ');
  if (!field) return fputs("/proc/self/stat can't be read\n", stderr), exit(1), 0;
  struct timespec time;
  clock_gettime(CLOCK_BOOTTIME, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec -
         strtod(field, NULL) / (double)sysconf(_SC_CLK_TCK);
}

static int ascending(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double flops_of_step(const lorasc_model_description *model) {
  double h = model->hidden_size, i = model->intermediate_size, layers = model->layers;
  double linear = layers * 2 * 2 * (4 * h * h + 2 * h * i) - 2 * 3 * h * h;
  double attention = layers * 12 * LENGTH * h;
  double adapters = layers * 3 * 2 * 2 * RANK * (h + h);
  return TOKENS * (linear + attention + adapters);
}

int main(int argc, char **argv) {
  if (argc < 2) return fputs("step <model folder> [threads [compute_dtype]]\n", stderr), 2;
  const char *settings[][2] = {{"method", "lora"},      {"r", "8"},
                               {"num_labels", "10"},    {"target_modules", "query,value"},
                               {"schedule", "constant"}, {"max_batch_tokens", "2048"},
                               {"threads", argc > 2 ? argv[2] : "0"},
                               {"compute_dtype", argc > 3 ? argv[3] : "float32"}};
  lorasc_options *options;
  lorasc_model *model;
  lorasc_adapter *adapter;
  lorasc_trainer *trainer;
  check(lorasc_options_create(&options));
  for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++)
    check(lorasc_options_set(options, settings[i][0], settings[i][1]));
  check(lorasc_model_open(argv[1], options, &model));
  check(lorasc_adapter_create(model, options, NULL, &adapter));
  check(lorasc_trainer_create(model, adapter, options, &trainer));
  lorasc_model_description about = {.struct_size = sizeof about};
  lorasc_trainer_description plan = {.struct_size = sizeof plan};
  check(lorasc_model_info(model, &about));
  check(lorasc_trainer_info(trainer, &plan));

  static int32_t tokens[TOKENS], labels[ROWS];
  static int64_t offsets[ROWS + 1];
  uint32_t random = 1;
  for (int i = 0; i < TOKENS; i++) {
    random = random * 1664525u + 1013904223u;
    tokens[i] = (int32_t)((random >> 8) % about.vocabulary_size);
  }
  for (int row = 0; row < ROWS; row++) {
    labels[row] = row % CLASSES;
    offsets[row + 1] = (row + 1) * LENGTH;
  }
  lorasc_batch batch = {.struct_size = sizeof batch, .rows = ROWS, .tokens = tokens,
                        .offsets = offsets, .labels = labels};
  double seconds[STEPS], first = 0;
  for (int i = -WARM_UP; i < STEPS; i++) {
    double start = now();
    check(lorasc_trainer_accumulate(trainer, &batch, NULL));
    check(lorasc_trainer_apply(trainer, NULL));
    if (i == -WARM_UP) first = age();
    if (i >= 0) seconds[i] = now() - start;
  }
  qsort(seconds, STEPS, sizeof seconds[0], ascending);
  double median = (seconds[STEPS / 2 - 1] + seconds[STEPS / 2]) / 2;

  printf("%s\n", lorasc_build_info());
  printf("%s, %" PRIu32 " layers, hidden %" PRIu32 "; %d x %d tokens, r %d on query and value, "
         "%" PRIu32 " threads, plan %.0f MiB\n", about.architecture, about.layers,
         about.hidden_size, ROWS, LENGTH, RANK, plan.threads,
         (double)plan.plan_bytes / (1 << 20));
  printf("step: median %.1f ms (fastest %.1f, slowest %.1f), %.0f tokens/s, %.0f GFLOP/s\n",
         1e3 * median, 1e3 * seconds[0], 1e3 * seconds[STEPS - 1], TOKENS / median,
         flops_of_step(&about) / median / 1e9);
  printf("start: library, model and first step take %.2f s more than a step\n", first - median);

  lorasc_trainer_free(trainer);
  lorasc_adapter_free(adapter);
  lorasc_model_free(model);
  lorasc_options_free(options);
  return 0;
}
