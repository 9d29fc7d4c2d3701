/* Matrix products' rates in GFLOP/s on all threads, a line each: oneDNN's with weights packed
 * once, by dtype, and OpenBLAS's. Geometric means over products of the benchmarks' models.
 *
 *   gemm <threads>
 */
#define _POSIX_C_SOURCE 200809L
#include <cblas.h>
#include <dnnl.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { ROWS = 2048, LARGEST = 1536, REPEATS = 12 };

/* (in, out) of the linear modules of MiniLM, SmolLM2 and ViT-S. */
static const int shapes[][2] = {{384, 384}, {384, 1536}, {1536, 384}, {576, 576}, {576, 1536},
                                {1536, 576}};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

static float *x, *w, *y;
static void *packed;

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void check(dnnl_status_t status) {
  if (status == dnnl_success) return;
  fprintf(stderr, "oneDNN: status %d\n", (int)status);
  exit(1);
}

static double openblas(int in, int out) {
  double best = 1e9;
  for (int repeat = 0; repeat < REPEATS; repeat++) {
    double start = now();
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, ROWS, out, in, 1, x, in, w, in, 0, y,
                out);
    double seconds = now() - start;
    if (seconds < best) best = seconds;
  }
  return best;
}

static double onednn(int in, int out, dnnl_data_type_t type) {
  dnnl_engine_t engine;
  dnnl_stream_t stream;
  check(dnnl_engine_create(&engine, dnnl_cpu, 0));
  check(dnnl_stream_create(&stream, engine, dnnl_stream_default_flags));
  dnnl_memory_desc_t from, weights, to;
  const dnnl_dims_t rows = {ROWS, in}, inner = {in, out}, result = {ROWS, out};
  check(dnnl_memory_desc_init_by_tag(&from, 2, rows, type, dnnl_ab));
  check(dnnl_memory_desc_init_by_tag(&weights, 2, inner, type, dnnl_format_tag_any));
  check(dnnl_memory_desc_init_by_tag(&to, 2, result, dnnl_f32, dnnl_ab));
  dnnl_matmul_desc_t operation;
  check(dnnl_matmul_desc_init(&operation, &from, &weights, NULL, &to));
  dnnl_primitive_desc_t description;
  check(dnnl_primitive_desc_create(&description, &operation, NULL, engine, NULL));
  dnnl_primitive_t product;
  check(dnnl_primitive_create(&product, description));
  const dnnl_memory_desc_t *layout =
      dnnl_primitive_desc_query_md(description, dnnl_query_weights_md, 0);
  dnnl_memory_t source, matrix, target;
  check(dnnl_memory_create(&source, &from, engine, x));
  check(dnnl_memory_create(&matrix, layout, engine, packed));
  check(dnnl_memory_create(&target, &to, engine, y));
  const dnnl_exec_arg_t arguments[] = {
      {DNNL_ARG_SRC, source}, {DNNL_ARG_WEIGHTS, matrix}, {DNNL_ARG_DST, target}};
  double best = 1e9;
  for (int repeat = 0; repeat < REPEATS; repeat++) {
    double start = now();
    check(dnnl_primitive_execute(product, stream, 3, arguments));
    check(dnnl_stream_wait(stream));
    double seconds = now() - start;
    if (seconds < best) best = seconds;
  }
  dnnl_memory_destroy(source);
  dnnl_memory_destroy(matrix);
  dnnl_memory_destroy(target);
  dnnl_primitive_destroy(product);
  dnnl_primitive_desc_destroy(description);
  dnnl_stream_destroy(stream);
  dnnl_engine_destroy(engine);
  return best;
}

int main(int argc, char **argv) {
  int threads = argc > 1 ? atoi(argv[1]) : 2;
  openblas_set_num_threads(threads);
  omp_set_num_threads(threads);
  x = calloc((size_t)ROWS * LARGEST, sizeof *x);
  w = calloc((size_t)LARGEST * LARGEST, sizeof *w);
  y = calloc((size_t)ROWS * LARGEST, sizeof *y);
  packed = calloc((size_t)LARGEST * LARGEST, 2 * sizeof *w);
  if (!x || !w || !y || !packed) return fputs("out of memory\n", stderr), 1;
  for (int i = 0; i < ROWS * LARGEST; i++) x[i] = (float)(i % 13) - 6;
  for (int i = 0; i < LARGEST * LARGEST; i++) w[i] = (float)(i % 11) - 5;
  double logs[3] = {0, 0, 0};
  for (int i = 0; i < SHAPES; i++) {
    int in = shapes[i][0], out = shapes[i][1];
    double flops = 2e-9 * ROWS * in * out;
    logs[0] += log(flops / onednn(in, out, dnnl_f32));
    logs[1] += log(flops / onednn(in, out, dnnl_bf16));
    logs[2] += log(flops / openblas(in, out));
  }
  static const char *const names[] = {"float32", "bfloat16", "OpenBLAS float32"};
  for (int i = 0; i < 3; i++) printf("%s %.1f\n", names[i], exp(logs[i] / SHAPES));
  free(x);
  free(w);
  free(y);
  free(packed);
  return 0;
}
