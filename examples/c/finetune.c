/* Fine-tunes an encoder on rows of token ids and writes a model that has learned.
 *
 *   cc -std=c99 finetune.c $(pkg-config --cflags --libs lorasc) -o finetune
 *   ./finetune <model folder> <train.tokens> <dev.tokens> <output folder>
 *
 * A .tokens file is text: "lorasc-tokens 1 <rows> <num_labels>", then for each row
 * "<label> <n> <id> <id> ..."; examples/python/write_tokens.py writes some. Ctrl-C ends the
 * training after the current batch; what was learned by then is still written. */
#include "example.h"

#include <inttypes.h>
#include <signal.h>

typedef struct token_file {
  size_t rows, capacity; /* capacity: of tokens */
  int num_labels;
  int32_t *tokens, *labels;
  int64_t *offsets;
} token_file;

static token_file read_tokens(const char *path) {
  token_file file = {0, 0, 0, NULL, NULL, NULL};
  FILE *in = fopen(path, "r");
  if (!in) fail(path, "cannot be opened");
  if (fscanf(in, "lorasc-tokens 1 %zu %d", &file.rows, &file.num_labels) != 2 || file.rows == 0)
    fail(path, "does not start with \"lorasc-tokens 1 <rows> <num_labels>\"");
  file.labels = allocate(NULL, file.rows, sizeof *file.labels);
  file.offsets = allocate(NULL, file.rows + 1, sizeof *file.offsets);
  file.offsets[0] = 0;
  for (size_t row = 0; row < file.rows; row++) {
    size_t length, used = (size_t)file.offsets[row];
    if (fscanf(in, "%" SCNd32 " %zu", &file.labels[row], &length) != 2 || length > 1000000)
      fail(path, "a row does not start with \"<label> <n>\"");
    if (used + length > file.capacity) {
      file.capacity = 2 * (used + length);
      file.tokens = allocate(file.tokens, file.capacity, sizeof *file.tokens);
    }
    for (size_t i = 0; i < length; i++)
      if (fscanf(in, "%" SCNd32, &file.tokens[used + i]) != 1) fail(path, "a row is too short");
    file.offsets[row + 1] = (int64_t)(used + length);
  }
  fclose(in);
  return file;
}

static lorasc_batch batch_of(const token_file *file) {
  lorasc_batch batch = {.struct_size = sizeof batch, .rows = file->rows, .tokens = file->tokens,
                        .offsets = file->offsets, .labels = file->labels};
  return batch;
}

static void free_tokens(token_file *file) {
  free(file->tokens);
  free(file->labels);
  free(file->offsets);
}

static int32_t show(const lorasc_progress *progress, void *user) {
  (void)user;
  if (progress->event == LORASC_EVENT_STEP)
    fprintf(stderr, "\rstep %" PRIu64 "/%" PRIu64 "  cascade %" PRIu32 "/%" PRIu32
                    "  loss %.4f  %.0f tokens/s  %.0f s left   ",
            progress->step, progress->total_steps, progress->cascade, progress->total_cascades,
            progress->loss, progress->tokens_per_second, progress->seconds_left);
  if (progress->event == LORASC_EVENT_CASCADE)
    fprintf(stderr, "\ncascade %" PRIu32 ": dev accuracy %.3f, of the fast expert %.3f\n",
            progress->cascade, progress->eval_accuracy, progress->fast_accuracy);
  return 0;
}

int main(int argc, char **argv) {
  if (argc != 5) fail("usage", "finetune <model> <train.tokens> <dev.tokens> <output>");
  token_file train = read_tokens(argv[2]), dev = read_tokens(argv[3]);
  lorasc_batch train_rows = batch_of(&train), dev_rows = batch_of(&dev);
  char labels[16];
  snprintf(labels, sizeof labels, "%d", train.num_labels);

  const char *const settings[][2] = {{"method", "lorasc"}, {"num_labels", labels},
                                     {"epochs", "6"}, {"learning_rate", "0.002"},
                                     {"schedule", "linear"}};
  lorasc_options *options = make_options(settings, sizeof settings / sizeof settings[0]);
  lorasc_model *model;
  lorasc_adapter *adapter;
  lorasc_trainer *trainer;
  lorasc_dataset *train_set, *dev_set;
  lorasc_match_report match = {.struct_size = sizeof match};
  check(lorasc_model_open(argv[1], options, &model), "model");
  check(lorasc_adapter_create(model, options, &match, &adapter), "adapter");
  check(lorasc_trainer_create(model, adapter, options, &trainer), "trainer");
  check(lorasc_dataset_create(&train_rows, &train_set), argv[2]);
  check(lorasc_dataset_create(&dev_rows, &dev_set), argv[3]);
  printf("%" PRIu32 " modules adapted, %" PRIu64 " of %" PRIu64 " parameters trained\n",
         match.matched, match.trainable_parameters, match.backbone_parameters);

  lorasc_evaluation before = {.struct_size = sizeof before}, after = before;
  check(lorasc_trainer_evaluate(trainer, dev_set, 0, &before), "evaluation");

  lorasc_signal_fn stop;
  check(lorasc_bind_interrupt(trainer, &stop), "Ctrl-C");
  signal(SIGINT, stop);
  lorasc_status status = lorasc_trainer_run(trainer, train_set, dev_set, show, NULL);
  signal(SIGINT, SIG_DFL);
  check(lorasc_unbind(stop), "Ctrl-C");
  fputc('\n', stderr);
  if (status != LORASC_E_INTERRUPTED) check(status, "training");

  check(lorasc_trainer_evaluate(trainer, dev_set, 0, &after), "evaluation");
  printf("dev accuracy before %.3f, after %.3f; loss before %.4f, after %.4f\n",
         before.accuracy, after.accuracy, before.loss, after.loss);
  check(lorasc_adapter_merge(model, adapter, argv[4], NULL), argv[4]);

  /* The written folder is a model like any other. */
  lorasc_model *merged;
  size_t need, correct = 0, classes = (size_t)train.num_labels;
  check(lorasc_model_open(argv[4], NULL, &merged), argv[4]);
  check(lorasc_predict(merged, NULL, &dev_rows, LORASC_PREDICT_LOGITS, NULL, 0, &need), "predict");
  float *logits = allocate(NULL, need, sizeof *logits);
  check(lorasc_predict(merged, NULL, &dev_rows, LORASC_PREDICT_LOGITS, logits, need, &need),
        "predict");
  for (size_t row = 0; row < dev.rows; row++) {
    size_t best = 0;
    for (size_t class = 1; class < classes; class++)
      if (logits[row * classes + class] > logits[row * classes + best]) best = class;
    correct += best == (size_t)dev.labels[row];
  }
  printf("%s reopened: %zu of %zu dev rows right\n", argv[4], correct, dev.rows);

  free(logits);
  lorasc_model_free(merged);
  lorasc_trainer_free(trainer);
  lorasc_dataset_free(train_set);
  lorasc_dataset_free(dev_set);
  lorasc_adapter_free(adapter);
  lorasc_model_free(model);
  lorasc_options_free(options);
  free_tokens(&train);
  free_tokens(&dev);
  return 0;
}
