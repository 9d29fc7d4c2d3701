/* Layers of the host's own model, and functions bound to them. */
#include "fixture.h"

#include <math.h>
#include <pthread.h>
#include <string.h>

enum { OUT = 6, IN = 5, LAYER_ROWS = 4 };

typedef struct network {
  float w[OUT * IN], bias[OUT], x[LAYER_ROWS * IN], y[LAYER_ROWS * OUT], dx[LAYER_ROWS * IN];
  lorasc_matrix matrix;
  lorasc_options *options;
  lorasc_model *model;
  lorasc_adapter *adapter;
  lorasc_trainer *trainer;
  lorasc_layer *layer;
} network;

static lorasc_activations rows(float *values) {
  return (lorasc_activations){.struct_size = sizeof(lorasc_activations), .values = values,
                              .batch = 1, .tokens = LAYER_ROWS};
}

static bool network_open(network *n, const char *method, int outputs) {
  memset(n, 0, sizeof *n);
  for (int i = 0; i < OUT * IN; i++) n->w[i] = 0.1f * (float)((i * 7) % 11 - 5);
  for (int i = 0; i < OUT; i++) n->bias[i] = 0.01f * (float)i;
  for (int i = 0; i < LAYER_ROWS * IN; i++) n->x[i] = 0.2f * (float)((i * 5) % 9 - 4);
  n->matrix = (lorasc_matrix){.struct_size = sizeof n->matrix, .name = "w", .values = n->w,
                              .out_features = (size_t)outputs, .in_features = IN,
                              .bias = n->bias};
  return CHECK_OK(lorasc_options_create(&n->options)) &&
         CHECK_OK(lorasc_options_set(n->options, "method", method)) &&
         CHECK_OK(lorasc_options_set(n->options, "r", "2")) &&
         CHECK_OK(lorasc_options_set(n->options, "schedule", "constant")) &&
         CHECK_OK(lorasc_options_set(n->options, "learning_rate", "0.05")) &&
         CHECK_OK(lorasc_options_set(n->options, "max_batch_tokens", "16")) &&
         CHECK_OK(lorasc_model_from_host(&n->matrix, 1, n->options, &n->model)) &&
         CHECK_OK(lorasc_adapter_create(n->model, n->options, NULL, &n->adapter)) &&
         CHECK_OK(lorasc_trainer_create(n->model, n->adapter, n->options, &n->trainer)) &&
         CHECK_OK(lorasc_layer_create(n->trainer, "w", &n->layer));
}

static void network_close(network *n) {
  lorasc_layer_free(n->layer);
  lorasc_trainer_free(n->trainer);
  lorasc_adapter_free(n->adapter);
  lorasc_model_free(n->model);
  lorasc_options_free(n->options);
}

/* One step towards y = 0. */
static bool train(network *n) {
  lorasc_activations x = rows(n->x), y = rows(n->y), dx = rows(n->dx);
  return CHECK_OK(lorasc_layer_forward(n->layer, &x, &y, NULL)) &&
         CHECK_OK(lorasc_layer_backward(n->layer, &x, &y, &dx, NULL, NULL)) &&
         CHECK_OK(lorasc_trainer_apply(n->trainer, NULL));
}

static float square(const float *values, int count) {
  float sum = 0;
  for (int i = 0; i < count; i++) sum += values[i] * values[i];
  return sum;
}

void layers_train(void) {
  network n;
  if (network_open(&n, "lorasc", OUT)) {
    lorasc_activations x = rows(n.x), y = rows(n.y);
    const lorasc_layer_call merged = {.struct_size = sizeof merged,
                                      .weights = LORASC_WEIGHTS_MERGED};
    float before[LAYER_ROWS * OUT], *memory = NULL;
    CHECK(train(&n));
    float first = square(n.y, LAYER_ROWS * OUT);
    for (int i = 0; i < 20; i++) CHECK(train(&n));
    CHECK(square(n.y, LAYER_ROWS * OUT) < first);
    CHECK_OK(lorasc_trainer_cascade(n.trainer, NULL));
    for (int i = 0; i < 20; i++) CHECK(train(&n));
    CHECK_OK(lorasc_layer_forward(n.layer, &x, &y, &merged));
    memcpy(before, n.y, sizeof before);
    CHECK_OK(lorasc_adapter_tensor_data(n.adapter, "w.lora_B.weight", &memory));
    CHECK(memory != NULL && square(memory, 2 * OUT) > 0);
    CHECK_OK(lorasc_adapter_merge_into_host(n.model, n.adapter));
    for (int row = 0; row < LAYER_ROWS; row++)
      for (int i = 0; i < OUT; i++) {
        float sum = n.bias[i];
        for (int k = 0; k < IN; k++) sum += n.x[row * IN + k] * n.w[i * IN + k];
        CHECK_NEAR(sum, before[row * OUT + i], 1e-5);
      }
    CHECK_STATUS(lorasc_layer_forward(n.layer, &x, &y, NULL), LORASC_E_STATE);
    CHECK_STATUS(lorasc_trainer_cascade(n.trainer, NULL), LORASC_E_STATE);
    CHECK_STATUS(lorasc_adapter_merge_into_host(n.model, n.adapter), LORASC_E_STATE);
  }
  network_close(&n);
}

void layers_own_gradients(void) {
  network n;
  float a[2 * IN] = {0}, b[OUT * 2] = {0};
  lorasc_layer_gradients gradients = {.struct_size = sizeof gradients, .a = a, .b = b};
  if (network_open(&n, "lora", OUT)) {
    lorasc_activations x = rows(n.x), y = rows(n.y);
    CHECK_OK(lorasc_layer_forward(n.layer, &x, &y, NULL));
    CHECK_OK(lorasc_layer_backward(n.layer, &x, &y, NULL, NULL, &gradients));
    CHECK(square(b, OUT * 2) > 0);
    /* B is 0 yet, and so is A's gradient. */
    CHECK(square(a, 2 * IN) == 0);
    CHECK_STATUS(lorasc_trainer_apply(n.trainer, NULL), LORASC_E_STATE);
    gradients.a = NULL;
    CHECK_STATUS(lorasc_layer_backward(n.layer, &x, &y, NULL, NULL, &gradients),
                 LORASC_E_ARGUMENT);
  }
  network_close(&n);
}

void layers_weight(void) {
  network n;
  float first[OUT * IN], next[OUT * IN];
  size_t need = 0;
  if (network_open(&n, "lorasc", OUT)) {
    CHECK_OK(lorasc_options_set(n.options, "noise_lifetime", "per_step"));
    lorasc_layer_free(n.layer);
    lorasc_trainer_free(n.trainer);
    CHECK_OK(lorasc_trainer_create(n.model, n.adapter, n.options, &n.trainer));
    CHECK_OK(lorasc_layer_create(n.trainer, "w", &n.layer));
    CHECK_OK(lorasc_layer_weight(n.layer, NULL, 0, &need));
    CHECK(need == OUT * IN);
    CHECK_STATUS(lorasc_layer_weight(n.layer, first, need - 1, &need), LORASC_E_BUFFER);
    CHECK_STATUS(lorasc_layer_weight(NULL, first, need, &need), LORASC_E_HANDLE);
    CHECK_OK(lorasc_layer_weight(n.layer, first, need, NULL));
    /* B is 0 yet: what training sees is that weight alone. */
    lorasc_activations x = rows(n.x), y = rows(n.y);
    CHECK_OK(lorasc_layer_forward(n.layer, &x, &y, NULL));
    for (int row = 0; row < LAYER_ROWS; row++)
      for (int i = 0; i < OUT; i++) {
        float sum = n.bias[i];
        for (int k = 0; k < IN; k++) sum += n.x[row * IN + k] * first[i * IN + k];
        CHECK_NEAR(sum, n.y[row * OUT + i], 1e-6);
      }
    CHECK_OK(lorasc_layer_backward(n.layer, &x, &y, NULL, NULL, NULL));
    CHECK_STATUS(lorasc_trainer_count_step(n.trainer), LORASC_E_STATE);
    CHECK_OK(lorasc_trainer_discard_gradients(n.trainer));
    CHECK_OK(lorasc_layer_weight(n.layer, next, need, NULL));
    CHECK(memcmp(first, next, sizeof next) == 0);
    CHECK_OK(lorasc_trainer_count_step(n.trainer));
    CHECK_OK(lorasc_layer_weight(n.layer, next, need, NULL));
    CHECK(memcmp(first, next, sizeof next) != 0);
    CHECK_STATUS(lorasc_trainer_count_step(NULL), LORASC_E_HANDLE);
  }
  network_close(&n);
}

void layers_refused(void) {
  network n;
  size_t need;
  lorasc_layer *layer = NULL;
  lorasc_model *model = NULL;
  if (network_open(&n, "lora", OUT)) {
    lorasc_activations x = rows(n.x), y = rows(n.y);
    lorasc_layer_call call = {.struct_size = sizeof call, .weights = 7};
    CHECK_STATUS(lorasc_layer_create(n.trainer, "v", &layer), LORASC_E_NOT_FOUND);
    CHECK_STATUS(lorasc_layer_create(n.trainer, NULL, &layer), LORASC_E_ARGUMENT);
    CHECK_STATUS(lorasc_layer_forward(n.layer, NULL, &y, NULL), LORASC_E_ARGUMENT);
    CHECK_STATUS(lorasc_layer_forward((lorasc_layer *)n.trainer, &x, &y, NULL), LORASC_E_HANDLE);
    CHECK_STATUS(lorasc_layer_forward(NULL, &x, &y, NULL), LORASC_E_HANDLE);
    CHECK_STATUS(lorasc_layer_forward(n.layer, &x, &y, &call), LORASC_E_ARGUMENT);
    call.weights = LORASC_WEIGHTS_MERGED;
    CHECK_STATUS(lorasc_layer_backward(n.layer, &x, &y, NULL, &call, NULL), LORASC_E_ARGUMENT);
    y.tokens = LAYER_ROWS + 1;
    CHECK_STATUS(lorasc_layer_forward(n.layer, &x, &y, NULL), LORASC_E_SHAPE);
    y.tokens = LAYER_ROWS;
    y.token_stride = OUT - 1;
    CHECK_STATUS(lorasc_layer_forward(n.layer, &x, &y, NULL), LORASC_E_SHAPE);
    x.tokens = y.tokens = SIZE_MAX;
    y.token_stride = 0;
    CHECK_STATUS(lorasc_layer_forward(n.layer, &x, &y, NULL), LORASC_E_SHAPE);
    x = rows(NULL);
    CHECK_STATUS(lorasc_layer_forward(n.layer, &x, &y, NULL), LORASC_E_ARGUMENT);
    x.struct_size = 8;
    CHECK_STATUS(lorasc_layer_forward(n.layer, &x, &y, NULL), LORASC_E_ARGUMENT);
    /* A model that the library cannot run. */
    int32_t tokens[] = {1, 2};
    int64_t offsets[] = {0, 2};
    lorasc_batch batch = {.struct_size = sizeof batch, .rows = 1, .tokens = tokens,
                          .offsets = offsets};
    CHECK_STATUS(lorasc_trainer_accumulate(n.trainer, &batch, NULL), LORASC_E_STATE);
    CHECK_STATUS(lorasc_predict(n.model, n.adapter, &batch, 1, n.y, 1, &need), LORASC_E_STATE);

    lorasc_matrix bad = n.matrix;
    CHECK_STATUS(lorasc_model_from_host(NULL, 1, NULL, &model), LORASC_E_ARGUMENT);
    CHECK_STATUS(lorasc_model_from_host(&bad, 0, NULL, &model), LORASC_E_ARGUMENT);
    CHECK_STATUS(lorasc_model_from_host(&bad, SIZE_MAX, NULL, &model), LORASC_E_ARGUMENT);
    bad.in_features = SIZE_MAX;
    CHECK_STATUS(lorasc_model_from_host(&bad, 1, NULL, &model), LORASC_E_SHAPE);
    bad = n.matrix;
    bad.row_stride = IN - 1;
    CHECK_STATUS(lorasc_model_from_host(&bad, 1, NULL, &model), LORASC_E_SHAPE);
    bad = n.matrix;
    bad.type = 9;
    CHECK_STATUS(lorasc_model_from_host(&bad, 1, NULL, &model), LORASC_E_ARGUMENT);
    bad = n.matrix;
    bad.name = NULL;
    CHECK_STATUS(lorasc_model_from_host(&bad, 1, NULL, &model), LORASC_E_ARGUMENT);
    bad = n.matrix;
    bad.struct_size = 7;
    CHECK_STATUS(lorasc_model_from_host(&bad, 1, NULL, &model), LORASC_E_ARGUMENT);
    n.w[3] = NAN;
    CHECK_STATUS(lorasc_model_from_host(&n.matrix, 1, NULL, &model), LORASC_E_NONFINITE);
    CHECK(model == NULL);
  }
  network_close(&n);
}

typedef struct bound_call {
  lorasc_forward_fn function;
  const float *x;
  const float *expected;
  bool same;
} bound_call;

static void *call_often(void *user) {
  bound_call *call = user;
  float y[LAYER_ROWS * OUT];
  call->same = true;
  for (int i = 0; i < 2000; i++) {
    call->function(call->x, y, LAYER_ROWS);
    if (memcmp(y, call->expected, sizeof y) != 0) call->same = false;
  }
  return NULL;
}

void layers_bound(void) {
  network n;
  lorasc_forward_fn function = NULL, module = NULL;
  const lorasc_layer_call merged = {.struct_size = sizeof merged,
                                    .weights = LORASC_WEIGHTS_MERGED};
  if (network_open(&n, "lorasc", OUT)) {
    float y[LAYER_ROWS * OUT];
    lorasc_activations x = rows(n.x), own = rows(n.y);
    for (int i = 0; i < 5; i++) CHECK(train(&n));
    CHECK_OK(lorasc_layer_forward(n.layer, &x, &own, &merged));
    CHECK_OK(lorasc_bind_forward(n.layer, &function));
    CHECK_OK(lorasc_bind_module(n.adapter, "w", &module));
    CHECK_STATUS(lorasc_bind_module(n.adapter, "v", &module), LORASC_E_NOT_FOUND);
    if (CHECK(function != NULL && module != NULL)) {
      function(n.x, y, LAYER_ROWS);
      for (int i = 0; i < LAYER_ROWS * OUT; i++) CHECK_NEAR(y[i], n.y[i], 1e-6);
      /* The weight as it was: training goes on without it. */
      for (int i = 0; i < 5; i++) CHECK(train(&n));
      float again[LAYER_ROWS * OUT];
      module(n.x, again, LAYER_ROWS);
      CHECK(memcmp(y, again, sizeof y) == 0);
      bound_call calls[4];
      pthread_t threads[4];
      for (int i = 0; i < 4; i++) {
        calls[i] = (bound_call){function, n.x, y, false};
        CHECK(pthread_create(&threads[i], NULL, call_often, &calls[i]) == 0);
      }
      for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
      for (int i = 0; i < 4; i++) CHECK(calls[i].same);
      function(NULL, again, 1);
      CHECK(isnan(again[0]) && isnan(again[OUT - 1]) && !isnan(again[OUT]));
      CHECK(lorasc_last_error()->status == LORASC_E_ARGUMENT);
      function(n.x, NULL, 1);
      function(n.x, again, SIZE_MAX);
      CHECK(lorasc_last_error()->status == LORASC_E_SHAPE);
    }
  }
  network_close(&n);
  float y[OUT];
  if (function) {
    function(n.x, y, 1);
    CHECK(!isnan(y[0]));
    CHECK_OK(lorasc_unbind(LORASC_BOUND(function)));
    CHECK_STATUS(lorasc_unbind(LORASC_BOUND(function)), LORASC_E_HANDLE);
  }
  if (module) CHECK_OK(lorasc_unbind(LORASC_BOUND(module)));
}

typedef struct scalar_call {
  lorasc_scalar_fn function;
  double x[IN];
  double expected;
  bool same;
} scalar_call;

static void *call_scalar_often(void *user) {
  scalar_call *call = user;
  call->same = true;
  for (int i = 0; i < 2000; i++)
    if (call->function(IN, call->x) != call->expected) call->same = false;
  return NULL;
}

void layers_scalar(void) {
  network n;
  lorasc_scalar_fn function = NULL;
  float expected[LAYER_ROWS] = {0};
  const lorasc_layer_call merged = {.struct_size = sizeof merged,
                                    .weights = LORASC_WEIGHTS_MERGED};
  if (network_open(&n, "lora", OUT))
    CHECK_STATUS(lorasc_bind_scalar(n.layer, &function), LORASC_E_SHAPE);
  network_close(&n);
  if (network_open(&n, "lorasc", 1)) {
    lorasc_activations x = rows(n.x), y = rows(n.y);
    for (int i = 0; i < 5; i++) CHECK(train(&n));
    CHECK_OK(lorasc_layer_forward(n.layer, &x, &y, &merged));
    memcpy(expected, n.y, sizeof expected);
    CHECK_STATUS(lorasc_bind_scalar(n.layer, NULL), LORASC_E_ARGUMENT);
    CHECK_STATUS(lorasc_bind_scalar(NULL, &function), LORASC_E_HANDLE);
    CHECK(function == NULL);
    CHECK_OK(lorasc_bind_scalar(n.layer, &function));
    for (int i = 0; i < 5; i++) CHECK(train(&n));
  }
  network_close(&n);
  if (!CHECK(function != NULL)) return;
  scalar_call calls[LAYER_ROWS];
  pthread_t threads[LAYER_ROWS];
  for (int row = 0; row < LAYER_ROWS; row++) {
    for (int k = 0; k < IN; k++) calls[row].x[k] = n.x[row * IN + k];
    calls[row].function = function;
    calls[row].expected = function(IN, calls[row].x);
  }
  for (int row = 0; row < LAYER_ROWS; row++)
    CHECK(pthread_create(&threads[row], NULL, call_scalar_often, &calls[row]) == 0);
  for (int row = 0; row < LAYER_ROWS; row++) pthread_join(threads[row], NULL);
  for (int row = 0; row < LAYER_ROWS; row++) {
    CHECK_NEAR(calls[row].expected, expected[row], 1e-6);
    CHECK(calls[row].same);
  }
  CHECK(isnan(function(IN - 1, calls[0].x)));
  CHECK(lorasc_last_error()->status == LORASC_E_SHAPE);
  CHECK_TEXT(lorasc_last_error()->subject, "n");
  CHECK(isnan(function(-1, calls[0].x)));
  CHECK(isnan(function(IN, NULL)));
  CHECK(lorasc_last_error()->status == LORASC_E_ARGUMENT);
  CHECK_OK(lorasc_unbind(LORASC_BOUND(function)));
  CHECK_STATUS(lorasc_unbind(LORASC_BOUND(function)), LORASC_E_HANDLE);
}
