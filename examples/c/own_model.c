/* A network of the program's own, adapted with LoRASC through layers:
 *
 *   own_model
 *
 * Two frozen matrices W1 (32, 16) and W2 (1, 32) compute y = W2 max(W1 x, 0). The task is
 * another function of x. Forward, loss and backward are the program's; liblorasc adapts the
 * matrices, steps, and ends a cascade every 100 steps. At the end the merged weights lie in the
 * program's own arrays, and the plain network computes what the adapted one did.
 */
#include <lorasc.h>

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { INPUTS = 16, HIDDEN = 32, ROWS = 64, STEPS = 300, CASCADE = 100 };

static float w1[HIDDEN * INPUTS], w2[HIDDEN];
static float x[ROWS * INPUTS], target[ROWS];
static float hidden[ROWS * HIDDEN], active[ROWS * HIDDEN], y[ROWS];
static float dy[ROWS], dactive[ROWS * HIDDEN], dhidden[ROWS * HIDDEN];

static void check(lorasc_status status) {
  if (status == LORASC_OK) return;
  fprintf(stderr, "%s: %s\n", lorasc_status_name(status), lorasc_last_error()->message);
  exit(1);
}

static float uniform(void) {
  static uint32_t state = 1;
  state = state * 1664525u + 1013904223u;
  return (float)(state >> 8) / (float)(1 << 24) - 0.5f;
}

static lorasc_activations rows(float *values) {
  return (lorasc_activations){.struct_size = sizeof(lorasc_activations), .values = values,
                              .batch = 1, .tokens = ROWS};
}

/* The layers' forward; the loss, and what it sends back, are the program's. */
static double forward(lorasc_layer *first, lorasc_layer *second, const lorasc_layer_call *call) {
  lorasc_activations in = rows(x), h = rows(hidden), a = rows(active), out = rows(y);
  double loss = 0;
  check(lorasc_layer_forward(first, &in, &h, call));
  for (int i = 0; i < ROWS * HIDDEN; i++) active[i] = hidden[i] > 0 ? hidden[i] : 0;
  check(lorasc_layer_forward(second, &a, &out, call));
  for (int i = 0; i < ROWS; i++) {
    dy[i] = (y[i] - target[i]) / ROWS;
    loss += 0.5 * ROWS * (double)dy[i] * (double)dy[i];
  }
  return loss;
}

static void backward(lorasc_layer *first, lorasc_layer *second) {
  lorasc_activations in = rows(x), a = rows(active), out = rows(dy), da = rows(dactive),
                     dh = rows(dhidden);
  check(lorasc_layer_backward(second, &a, &out, &da, NULL, NULL));
  for (int i = 0; i < ROWS * HIDDEN; i++) dhidden[i] = hidden[i] > 0 ? dactive[i] : 0;
  check(lorasc_layer_backward(first, &in, &dh, NULL, NULL, NULL));
}

/* The network without the library. */
static double plain(void) {
  double loss = 0;
  for (int row = 0; row < ROWS; row++) {
    double sum = 0;
    for (int k = 0; k < HIDDEN; k++) {
      double h = 0;
      for (int j = 0; j < INPUTS; j++) h += (double)w1[k * INPUTS + j] * (double)x[row * INPUTS + j];
      if (h > 0) sum += h * (double)w2[k];
    }
    loss += 0.5 * (sum - (double)target[row]) * (sum - (double)target[row]) / ROWS;
  }
  return loss;
}

int main(void) {
  for (int i = 0; i < HIDDEN * INPUTS; i++) w1[i] = uniform();
  for (int i = 0; i < HIDDEN; i++) w2[i] = uniform();
  for (int i = 0; i < ROWS * INPUTS; i++) x[i] = 2 * uniform();
  for (int i = 0; i < ROWS; i++) target[i] = sinf(x[i * INPUTS]) + x[i * INPUTS + 1];

  lorasc_matrix matrices[] = {
      {.struct_size = sizeof matrices[0], .name = "first", .values = w1,
       .out_features = HIDDEN, .in_features = INPUTS},
      {.struct_size = sizeof matrices[0], .name = "second", .values = w2,
       .out_features = 1, .in_features = HIDDEN}};
  const char *settings[][2] = {{"method", "lorasc"},     {"r", "4"},
                               {"learning_rate", "0.01"}, {"schedule", "constant"},
                               {"slow_rate", "0.7"},      {"max_batch_tokens", "64"}};
  lorasc_options *options;
  lorasc_model *model;
  lorasc_adapter *adapter;
  lorasc_trainer *trainer;
  lorasc_layer *first, *second;
  const lorasc_layer_call merged = {.struct_size = sizeof merged,
                                    .weights = LORASC_WEIGHTS_MERGED};
  check(lorasc_options_create(&options));
  for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++)
    check(lorasc_options_set(options, settings[i][0], settings[i][1]));
  check(lorasc_model_from_host(matrices, 2, options, &model));
  check(lorasc_adapter_create(model, options, NULL, &adapter));
  check(lorasc_trainer_create(model, adapter, options, &trainer));
  check(lorasc_layer_create(trainer, "first", &first));
  check(lorasc_layer_create(trainer, "second", &second));

  double before = plain();
  for (int step = 1; step <= STEPS; step++) {
    double loss = forward(first, second, NULL);
    backward(first, second);
    check(lorasc_trainer_apply(trainer, NULL));
    if (step % CASCADE == 0 && step < STEPS) {
      check(lorasc_trainer_cascade(trainer, NULL));
      printf("cascade %d ends: loss %.4f, merged %.4f\n", step / CASCADE, loss,
             forward(first, second, &merged));
    }
  }
  double adapted = forward(first, second, &merged);
  check(lorasc_adapter_merge_into_host(model, adapter));
  double after = plain();
  printf("loss of the plain network: %.4f before, %.4f after (%.4f through layers)\n", before,
         after, adapted);

  lorasc_layer_free(first);
  lorasc_layer_free(second);
  lorasc_trainer_free(trainer);
  lorasc_adapter_free(adapter);
  lorasc_model_free(model);
  lorasc_options_free(options);
  return after < 0.2 * before && fabs(after - adapted) < 1e-4 ? 0 : 1;
}
