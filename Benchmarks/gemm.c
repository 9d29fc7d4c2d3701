/* The float32 GEMM rate of OpenBLAS in GFLOP/s: geometric mean over products of the benchmarks'
 * models, on all threads.
 *
 *   gemm <threads>
 */
#define _POSIX_C_SOURCE 200809L
#include <cblas.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* (in, out) of the linear modules of MiniLM, SmolLM2 and ViT-S. */
static const int shapes[][2] = {{384, 384}, {384, 1536}, {1536, 384}, {576, 576}, {576, 1536},
                                {1536, 576}};

int main(int argc, char **argv) {
  enum { ROWS = 2048, LARGEST = 1536 };
  openblas_set_num_threads(argc > 1 ? atoi(argv[1]) : 2);
  float *x = calloc((size_t)ROWS * LARGEST, sizeof *x);
  float *w = calloc((size_t)LARGEST * LARGEST, sizeof *w);
  float *y = calloc((size_t)ROWS * LARGEST, sizeof *y);
  if (!x || !w || !y) return fputs("out of memory\n", stderr), 1;
  for (int i = 0; i < ROWS * LARGEST; i++) x[i] = (float)(i % 13) - 6;
  for (int i = 0; i < LARGEST * LARGEST; i++) w[i] = (float)(i % 11) - 5;
  double logs = 0;
  int count = (int)(sizeof shapes / sizeof shapes[0]);
  for (int i = 0; i < count; i++) {
    int in = shapes[i][0], out = shapes[i][1];
    double best = 1e9;
    for (int repeat = 0; repeat < 12; repeat++) {
      double start = now();
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, ROWS, out, in, 1, x, in, w, in, 0, y,
                  out);
      double seconds = now() - start;
      if (seconds < best) best = seconds;
    }
    logs += log(2.0 * ROWS * in * out / best / 1e9);
  }
  printf("%.1f\n", exp(logs / count));
  free(x);
  free(w);
  free(y);
  return 0;
}
