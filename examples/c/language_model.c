/* Teaches a decoder to answer: prompts carry no loss, and each answer counts alike.
 *
 *   cc -std=c99 language_model.c $(pkg-config --cflags --libs lorasc) -o language_model
 *   ./language_model <model folder> <train.prompts> <dev.prompts> <output folder>
 *
 * A .prompts file is text: "lorasc-prompts 1 <rows>", then for each row "<n> <p> <id> <id> ...": n
 * ids, of which the first p are the prompt; examples/python/write_prompts.py writes some. */
#include "example.h"

#include <inttypes.h>

typedef struct prompts {
  size_t rows;
  int32_t *tokens;   /* all rows, one after another */
  int32_t *labels;   /* beside the tokens: -100 in prompts, else the token itself */
  float *weights;    /* beside the tokens: 1 / the answer's length */
  int64_t *offsets;  /* rows + 1 */
  int64_t *answers;  /* rows: where each answer starts */
} prompts;

static prompts read_prompts(const char *path) {
  prompts file = {0, NULL, NULL, NULL, NULL, NULL};
  size_t capacity = 0;
  FILE *in = fopen(path, "r");
  if (!in) fail(path, "cannot be opened");
  if (fscanf(in, "lorasc-prompts 1 %zu", &file.rows) != 1 || file.rows == 0)
    fail(path, "does not start with \"lorasc-prompts 1 <rows>\"");
  file.offsets = allocate(NULL, file.rows + 1, sizeof *file.offsets);
  file.answers = allocate(NULL, file.rows, sizeof *file.answers);
  file.offsets[0] = 0;
  for (size_t row = 0; row < file.rows; row++) {
    size_t length, prompt, used = (size_t)file.offsets[row];
    if (fscanf(in, "%zu %zu", &length, &prompt) != 2 || length > 1000000 || prompt >= length)
      fail(path, "a row does not start with \"<n> <p>\", p below n");
    if (used + length > capacity) {
      capacity = 2 * (used + length);
      file.tokens = allocate(file.tokens, capacity, sizeof *file.tokens);
      file.labels = allocate(file.labels, capacity, sizeof *file.labels);
      file.weights = allocate(file.weights, capacity, sizeof *file.weights);
    }
    for (size_t i = 0; i < length; i++) {
      if (fscanf(in, "%" SCNd32, &file.tokens[used + i]) != 1) fail(path, "a row is too short");
      file.labels[used + i] = i < prompt ? -100 : file.tokens[used + i];
      file.weights[used + i] = 1.0f / (float)(length - prompt);
    }
    file.answers[row] = (int64_t)(used + prompt);
    file.offsets[row + 1] = (int64_t)(used + length);
  }
  fclose(in);
  return file;
}

static void free_prompts(prompts *file) {
  free(file->tokens);
  free(file->labels);
  free(file->weights);
  free(file->offsets);
  free(file->answers);
}

static int32_t show(const lorasc_progress *progress, void *user) {
  (void)user;
  if (progress->event == LORASC_EVENT_CASCADE)
    printf("cascade %" PRIu32 "/%" PRIu32 ": dev loss %.4f, of the fast expert %.4f\n",
           progress->cascade, progress->total_cascades, progress->eval_loss, progress->fast_loss);
  return 0;
}

/* How many answers begin as the model would: the logits that follow a prompt alone. */
static size_t count_right(lorasc_model *model, const prompts *file) {
  lorasc_model_description about = {.struct_size = sizeof about};
  check(lorasc_model_info(model, &about), "model");
  size_t right = 0, need, vocabulary = about.vocabulary_size;
  float *logits = allocate(NULL, vocabulary, sizeof *logits);
  for (size_t row = 0; row < file->rows; row++) {
    int64_t start = file->offsets[row], ends[2] = {0, file->answers[row] - start};
    if (ends[1] == 0) continue;
    lorasc_batch prompt = {.struct_size = sizeof prompt, .rows = 1,
                           .tokens = file->tokens + start, .offsets = ends};
    check(lorasc_predict(model, NULL, &prompt, LORASC_PREDICT_LOGITS, logits, vocabulary, &need),
          "predict");
    size_t best = 0;
    for (size_t token = 1; token < vocabulary; token++)
      if (logits[token] > logits[best]) best = token;
    right += best == (size_t)file->tokens[file->answers[row]];
  }
  free(logits);
  return right;
}

int main(int argc, char **argv) {
  if (argc != 5) fail("usage", "language_model <model> <train.prompts> <dev.prompts> <output>");
  prompts train = read_prompts(argv[2]), dev = read_prompts(argv[3]);
  lorasc_batch train_rows = {.struct_size = sizeof train_rows, .rows = train.rows,
                             .tokens = train.tokens, .offsets = train.offsets,
                             .token_labels = train.labels, .token_weights = train.weights};
  /* No weights here: perplexity is that of a token of the answers. */
  lorasc_batch dev_rows = {.struct_size = sizeof dev_rows, .rows = dev.rows, .tokens = dev.tokens,
                           .offsets = dev.offsets, .token_labels = dev.labels};

  static const char *const settings[][2] = {
      {"head", "lm"},   {"method", "lorasc"}, {"target_modules", "all-linear"},
      {"epochs", "4"},  {"batch_size", "8"},  {"learning_rate", "0.002"}};
  lorasc_options *options = make_options(settings, sizeof settings / sizeof settings[0]);
  lorasc_model *model;
  lorasc_adapter *adapter;
  lorasc_trainer *trainer;
  lorasc_dataset *train_set, *dev_set;
  check(lorasc_model_open(argv[1], options, &model), "model");
  check(lorasc_adapter_create(model, options, NULL, &adapter), "adapter");
  check(lorasc_trainer_create(model, adapter, options, &trainer), "trainer");
  check(lorasc_dataset_create(&train_rows, &train_set), argv[2]);
  check(lorasc_dataset_create(&dev_rows, &dev_set), argv[3]);

  lorasc_evaluation before = {.struct_size = sizeof before}, after = before;
  check(lorasc_trainer_evaluate(trainer, dev_set, 0, &before), "evaluation");
  check(lorasc_trainer_run(trainer, train_set, dev_set, show, NULL), "training");
  check(lorasc_trainer_evaluate(trainer, dev_set, 0, &after), "evaluation");
  printf("perplexity of %" PRIu64 " tokens of dev answers: before %.2f, after %.2f\n", after.rows,
         before.perplexity, after.perplexity);

  lorasc_model *merged;
  check(lorasc_adapter_merge(model, adapter, argv[4], NULL), argv[4]);
  check(lorasc_model_open(argv[4], NULL, &merged), argv[4]);
  printf("answers that begin as asked: before %zu, in %s %zu of %zu\n", count_right(model, &dev),
         argv[4], count_right(merged, &dev), dev.rows);

  lorasc_model_free(merged);
  lorasc_trainer_free(trainer);
  lorasc_dataset_free(train_set);
  lorasc_dataset_free(dev_set);
  lorasc_adapter_free(adapter);
  lorasc_model_free(model);
  lorasc_options_free(options);
  free_prompts(&train);
  free_prompts(&dev);
  return !(after.perplexity < before.perplexity);
}
