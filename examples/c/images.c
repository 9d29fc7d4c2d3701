/* Classifies images with a vision transformer, from bytes in memory.
 *
 *   cc -std=c99 images.c $(pkg-config --cflags --libs lorasc) -o images
 *   ./images <model folder> <train.images> <test.images> <output folder>
 *
 * A .images file is the line "lorasc-images 1 <rows> <num_labels> <channels> <height> <width>", then
 * for each row a byte, the label, and its channels x height x width bytes of pixels. */
#include "example.h"

#include <inttypes.h>

typedef struct image_file {
  size_t rows;
  int num_labels;
  uint32_t channels, height, width;
  int32_t *labels;
  unsigned char *pixels;
} image_file;

/* As in the preprocessor_config.json of google/vit-base: to -1 ... 1. */
static const float mean[] = {0.5f, 0.5f, 0.5f}, deviation[] = {0.5f, 0.5f, 0.5f};

static image_file read_images(const char *path) {
  image_file file = {0, 0, 0, 0, 0, NULL, NULL};
  FILE *in = fopen(path, "rb");
  if (!in) fail(path, "cannot be opened");
  if (fscanf(in, "lorasc-images 1 %zu %d %" SCNu32 " %" SCNu32 " %" SCNu32, &file.rows,
             &file.num_labels, &file.channels, &file.height, &file.width) != 5 ||
      fgetc(in) != '\n' || file.rows == 0 || file.num_labels < 1 || file.num_labels > 256 ||
      file.channels != 3 || file.height == 0 || file.height > 4096 || file.width == 0 ||
      file.width > 4096)
    fail(path, "does not start with \"lorasc-images 1 <rows> <num_labels> 3 <height> <width>\"");
  size_t size = (size_t)file.channels * file.height * file.width;
  if (file.rows > SIZE_MAX / size) fail(path, "has too many rows");
  file.labels = allocate(NULL, file.rows, sizeof *file.labels);
  file.pixels = allocate(NULL, file.rows * size, 1);
  for (size_t row = 0; row < file.rows; row++) {
    int label = fgetc(in);
    if (label == EOF || fread(file.pixels + row * size, 1, size, in) != size)
      fail(path, "is too short");
    file.labels[row] = label;
  }
  fclose(in);
  return file;
}

static lorasc_batch batch_of(const image_file *file) {
  lorasc_batch batch = {.struct_size = sizeof batch, .rows = file->rows, .labels = file->labels,
                        .pixels = file->pixels, .pixel_type = LORASC_PIXELS_UINT8,
                        .channels = file->channels, .height = file->height, .width = file->width,
                        .pixel_mean = mean, .pixel_std = deviation};
  return batch;
}

static void free_images(image_file *file) {
  free(file->labels);
  free(file->pixels);
}

static int32_t show(const lorasc_progress *progress, void *user) {
  (void)user;
  if (progress->event == LORASC_EVENT_CASCADE)
    printf("cascade %" PRIu32 "/%" PRIu32 ": test accuracy %.3f\n", progress->cascade,
           progress->total_cascades, progress->eval_accuracy);
  return 0;
}

int main(int argc, char **argv) {
  if (argc != 5) fail("usage", "images <model> <train.images> <test.images> <output>");
  image_file train = read_images(argv[2]), test = read_images(argv[3]);
  lorasc_batch train_rows = batch_of(&train), test_rows = batch_of(&test);
  char labels[16];
  snprintf(labels, sizeof labels, "%d", train.num_labels);

  const char *const settings[][2] = {{"method", "lorasc"}, {"head", "classifier"},
                                     {"num_labels", labels}, {"epochs", "4"},
                                     {"batch_size", "8"}, {"learning_rate", "0.005"}};
  lorasc_options *options = make_options(settings, sizeof settings / sizeof settings[0]);
  lorasc_model *model;
  lorasc_adapter *adapter;
  lorasc_trainer *trainer;
  lorasc_dataset *train_set, *test_set;
  check(lorasc_model_open(argv[1], options, &model), "model");
  check(lorasc_adapter_create(model, options, NULL, &adapter), "adapter");
  check(lorasc_trainer_create(model, adapter, options, &trainer), "trainer");
  check(lorasc_dataset_create(&train_rows, &train_set), argv[2]);
  check(lorasc_dataset_create(&test_rows, &test_set), argv[3]);
  check(lorasc_trainer_run(trainer, train_set, test_set, show, NULL), "training");

  /* The written folder is a model like any other. */
  lorasc_model *merged;
  size_t need, right = 0, classes = (size_t)train.num_labels;
  check(lorasc_adapter_merge(model, adapter, argv[4], NULL), argv[4]);
  check(lorasc_model_open(argv[4], NULL, &merged), argv[4]);
  float *logits = allocate(NULL, test.rows * classes, sizeof *logits);
  check(lorasc_predict(merged, NULL, &test_rows, LORASC_PREDICT_LOGITS, logits,
                       test.rows * classes, &need),
        "predict");
  for (size_t row = 0; row < test.rows; row++) {
    size_t best = 0;
    for (size_t class = 1; class < classes; class++)
      if (logits[row * classes + class] > logits[row * classes + best]) best = class;
    right += best == (size_t)test.labels[row];
  }
  printf("%s: %zu of %zu test images right\n", argv[4], right, test.rows);

  free(logits);
  lorasc_model_free(merged);
  lorasc_trainer_free(trainer);
  lorasc_dataset_free(train_set);
  lorasc_dataset_free(test_set);
  lorasc_adapter_free(adapter);
  lorasc_model_free(model);
  lorasc_options_free(options);
  size_t rows = test.rows;
  free_images(&train);
  free_images(&test);
  return !(right * classes > rows);
}
