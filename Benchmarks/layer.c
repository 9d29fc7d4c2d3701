/* What a call of the host's own layer costs beyond its products:
 *
 *   layer
 *
 * For each shape a forward and a backward of a LoRA layer on one thread, and the same products asked
 * of OpenBLAS directly; then functions bound to the layer beside lorasc_layer_forward with the
 * merged weight, and beside the sum written in C. Both sides take turns. Prints a line for each:
 * name, median microseconds of the call and of what it stands beside.
 *
 * Larger products than these a layer cuts into chunks by their shape, for the same bits on any
 * number of threads: beside uncut ones they would tell of the cut, not of the call.
 */
#define _POSIX_C_SOURCE 200809L
#include <cblas.h>
#include <lorasc.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { TURNS = 41, LARGEST_ROWS = 32, LARGEST = 384, RANK = 8 };

static float w[LARGEST * LARGEST], bias[LARGEST], x[LARGEST_ROWS * LARGEST],
    y[LARGEST_ROWS * LARGEST], dx[LARGEST_ROWS * LARGEST], projected[LARGEST_ROWS * RANK],
    scratch[LARGEST_ROWS * RANK], da[RANK * LARGEST], db[LARGEST * RANK];
static double wide[LARGEST];

typedef struct host {
  int rows, in, out, rank;
  float *a, *b;
  lorasc_options *options;
  lorasc_model *model;
  lorasc_adapter *adapter;
  lorasc_trainer *trainer;
  lorasc_layer *layer;
  lorasc_activations x, y, dx;
  lorasc_layer_gradients gradients;
  lorasc_forward_fn forward;
  lorasc_scalar_fn scalar;
} host;

static void check(lorasc_status status) {
  if (status == LORASC_OK) return;
  fprintf(stderr, "%s: %s\n", lorasc_status_name(status), lorasc_last_error()->message);
  exit(1);
}

static lorasc_activations rows_of(float *values, int rows) {
  return (lorasc_activations){.struct_size = sizeof(lorasc_activations), .values = values,
                              .tokens = (size_t)rows};
}

static host host_open(int rows, int in, int out, int rank) {
  host h = {.rows = rows, .in = in, .out = out, .rank = rank};
  char r[8];
  snprintf(r, sizeof r, "%d", rank);
  const char *settings[][2] = {{"method", "lora"}, {"r", r}, {"lora_alpha", r}, {"threads", "1"},
                               {"schedule", "constant"}, {"max_batch_tokens", "32"},
                               {"products", "openblas"}};
  lorasc_matrix matrix = {.struct_size = sizeof matrix, .name = "w", .values = w,
                          .out_features = (size_t)out, .in_features = (size_t)in, .bias = bias};
  check(lorasc_options_create(&h.options));
  for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++)
    check(lorasc_options_set(h.options, settings[i][0], settings[i][1]));
  check(lorasc_model_from_host(&matrix, 1, h.options, &h.model));
  check(lorasc_adapter_create(h.model, h.options, NULL, &h.adapter));
  check(lorasc_trainer_create(h.model, h.adapter, h.options, &h.trainer));
  check(lorasc_layer_create(h.trainer, "w", &h.layer));
  check(lorasc_adapter_tensor_data(h.adapter, "w.lora_A.weight", &h.a));
  check(lorasc_adapter_tensor_data(h.adapter, "w.lora_B.weight", &h.b));
  for (int i = 0; i < out * rank; i++) h.b[i] = 0.01f * (float)(i % 7 - 3);
  h.x = rows_of(x, rows);
  h.y = rows_of(y, rows);
  h.dx = rows_of(dx, rows);
  h.gradients = (lorasc_layer_gradients){.struct_size = sizeof h.gradients, .a = da, .b = db};
  check(lorasc_bind_forward(h.layer, &h.forward));
  if (out == 1) check(lorasc_bind_scalar(h.layer, &h.scalar));
  return h;
}

static void host_close(host *h) {
  check(lorasc_unbind(LORASC_BOUND(h->forward)));
  if (h->scalar) check(lorasc_unbind(LORASC_BOUND(h->scalar)));
  lorasc_layer_free(h->layer);
  lorasc_trainer_free(h->trainer);
  lorasc_adapter_free(h->adapter);
  lorasc_model_free(h->model);
  lorasc_options_free(h->options);
}

/* ---- The calls and what they stand beside ---------------------------------------- */

static void forward(host *h) { check(lorasc_layer_forward(h->layer, &h->x, &h->y, NULL)); }

static void backward(host *h) {
  check(lorasc_layer_backward(h->layer, &h->x, &h->y, &h->dx, NULL, &h->gradients));
}

static void merged_forward(host *h) {
  static const lorasc_layer_call merged = {.struct_size = sizeof merged,
                                           .weights = LORASC_WEIGHTS_MERGED};
  check(lorasc_layer_forward(h->layer, &h->x, &h->y, &merged));
}

static void bound_forward(host *h) { h->forward(x, y, (size_t)h->rows); }

static void bound_scalar(host *h) { wide[0] = h->scalar(h->in, wide) > 0; }

static void written_scalar(host *h) {
  double sum = bias[0];
  for (int i = 0; i < h->in; i++) sum += (double)w[i] * wide[i];
  wide[0] = sum > 0;
}

/* c (m, n) = alpha a b + beta c, a matrix-vector product where m is 1, as the layer's. */
static void product(bool is_a_transposed, bool is_b_transposed, int m, int n, int k, const float *a,
                    const float *b, float beta, float *c) {
  if (m == 1) {
    cblas_sgemv(CblasRowMajor, is_b_transposed ? CblasNoTrans : CblasTrans,
                is_b_transposed ? n : k, is_b_transposed ? k : n, 1, b, is_b_transposed ? k : n, a,
                1, beta, c, 1);
    return;
  }
  cblas_sgemm(CblasRowMajor, is_a_transposed ? CblasTrans : CblasNoTrans,
              is_b_transposed ? CblasTrans : CblasNoTrans, m, n, k, 1, a, is_a_transposed ? m : k,
              b, is_b_transposed ? k : n, beta, c, n);
}

/* y = x W^T + (x A^T) B^T */
static void forward_products(host *h) {
  product(false, true, h->rows, h->rank, h->in, x, h->a, 0, projected);
  product(false, true, h->rows, h->out, h->in, x, w, 1, y);
  product(false, true, h->rows, h->out, h->rank, projected, h->b, 1, y);
}

/* dB += G^T (x A^T), dA += (G B)^T x, dx = G W + (G B) A */
static void backward_products(host *h) {
  product(false, true, h->rows, h->rank, h->in, x, h->a, 0, projected);
  product(false, false, h->rows, h->rank, h->out, y, h->b, 0, scratch);
  product(true, false, h->out, h->rank, h->rows, y, projected, 1, db);
  product(true, false, h->rank, h->in, h->rows, scratch, x, 1, da);
  product(false, false, h->rows, h->in, h->out, y, w, 0, dx);
  product(false, false, h->rows, h->in, h->rank, scratch, h->a, 1, dx);
}

/* ---- Turns ------------------------------------------------------------------------ */

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static int ascending(const void *a, const void *b) {
  double left = *(const double *)a, right = *(const double *)b;
  return (left > right) - (left < right);
}

static double microseconds(void (*call)(host *), host *h, int repeats) {
  double start = now();
  for (int i = 0; i < repeats; i++) call(h);
  return 1e6 * (now() - start) / repeats;
}

static void compare(const char *name, void (*call)(host *), void (*beside)(host *), host *h) {
  double mine[TURNS], other[TURNS];
  int repeats = 1 + (int)(500 / (microseconds(call, h, 3) + 0.01));
  for (int turn = 0; turn < TURNS; turn++) {
    other[turn] = microseconds(beside, h, repeats);
    mine[turn] = microseconds(call, h, repeats);
  }
  qsort(mine, TURNS, sizeof mine[0], ascending);
  qsort(other, TURNS, sizeof other[0], ascending);
  printf("%s %dx%d to %d, r %d\t%.4f\t%.4f\n", name, h->rows, h->in, h->out, h->rank,
         mine[TURNS / 2], other[TURNS / 2]);
}

int main(void) {
  static const int shapes[][4] = {/* rows, in, out, r */ {1, 8, 8, 1},   {8, 16, 16, 2},
                                  {1, 64, 64, 8},        {32, 64, 64, 8}, {1, 384, 384, 8}};
  openblas_set_num_threads(1);
  for (int i = 0; i < LARGEST * LARGEST; i++) w[i] = 0.01f * (float)(i % 11 - 5);
  for (int i = 0; i < LARGEST_ROWS * LARGEST; i++) x[i] = 0.1f * (float)(i % 13 - 6);
  for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
    host h = host_open(shapes[i][0], shapes[i][1], shapes[i][2], shapes[i][3]);
    compare("layer forward", forward, forward_products, &h);
    compare("layer backward", backward, backward_products, &h);
    compare("bound function", bound_forward, merged_forward, &h);
    host_close(&h);
  }
  for (int in = 1; in <= 16; in *= 4) {
    host h = host_open(1, in, 1, 1);
    compare("bound scalar", bound_scalar, written_scalar, &h);
    host_close(&h);
  }
  return 0;
}
