/* oneDNN's matrix products, where its library (2.x, libdnnl.so.2) is installed: it is looked for
   at run time and never linked. Each call works on the calling thread alone, between
   lorasc_onednn_enter and lorasc_onednn_leave. */
#ifndef LORASC_CSUPPORT_ONEDNN_H
#define LORASC_CSUPPORT_ONEDNN_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "process.h"

/* Looks for the library once a process. Its version, as 20603 for 2.6.3; 0: there is none. */
LORASC_HIDDEN int32_t lorasc_onednn_version(void);

/* oneDNN splits its work over OpenMP's threads: the calling thread's number of them becomes one,
   and what it was again. Nothing happens where the library isn't loaded. */
LORASC_HIDDEN void lorasc_onednn_enter(void);
LORASC_HIDDEN void lorasc_onednn_leave(void);

/* C (m, n) = alpha op(A) op(B) + beta C, row-major float32; k > 0. beta = 0 doesn't read C.
   False where it could not be done. */
LORASC_HIDDEN bool lorasc_onednn_sgemm(bool transpose_a, bool transpose_b, int64_t m, int64_t n,
                                       int64_t k, float alpha, const float *a, int64_t lda,
                                       const float *b, int64_t ldb, float beta, float *c,
                                       int64_t ldc);
/* The same with A and B in bfloat16. */
LORASC_HIDDEN bool lorasc_onednn_bf16_gemm(bool transpose_a, bool transpose_b, int64_t m, int64_t n,
                                           int64_t k, float alpha, const uint16_t *a, int64_t lda,
                                           const uint16_t *b, int64_t ldb, float beta, float *c,
                                           int64_t ldc);

/* ---- Y (rows, columns) = X (rows, inner) W (inner, columns) with W packed beforehand;
   X and Y without gaps between rows ---- */

typedef struct lorasc_product {
  int64_t rows;
  int64_t inner;
  int64_t columns;
  bool is_bfloat16; /* X and W; the sums are float32 */
  bool rounds;      /* Y in bfloat16, too; else it is float32 */
  bool accumulates; /* Y += X W */
  bool has_bias;    /* (columns), float32 */
} lorasc_product;

/* How the packed values of a W lie: oneDNN's description of them. */
enum { LORASC_PACKING_BYTES = 696 };
typedef struct lorasc_packing {
  size_t bytes;
  uint64_t description[LORASC_PACKING_BYTES / 8];
} lorasc_packing;

typedef struct lorasc_matmul lorasc_matmul;

/* NULL where this CPU or memory has no such product.
   packing: of the W that it will get; NULL: as suits it best.
   lanes: calls that may run at the same time. */
LORASC_HIDDEN lorasc_matmul *lorasc_matmul_create(const lorasc_product *product,
                                                  const lorasc_packing *packing, size_t lanes);
LORASC_HIDDEN void lorasc_matmul_free(lorasc_matmul *matmul);
LORASC_HIDDEN void lorasc_matmul_packing(const lorasc_matmul *matmul, lorasc_packing *packing);
/* Memory that a run needs, 64-byte aligned. */
LORASC_HIDDEN size_t lorasc_matmul_scratch_bytes(const lorasc_matmul *matmul);
/* x, y: float32 or bfloat16; two runs of one lane never at the same time. */
LORASC_HIDDEN bool lorasc_matmul_run(lorasc_matmul *matmul, size_t lane, const void *x,
                                     const void *packed, const float *bias, void *y,
                                     void *scratch);

/* Packs W (inner, columns), whose element (i, j) is values[i inner_stride + j column_stride],
   rounded where the packing is of bfloat16. */
LORASC_HIDDEN bool lorasc_pack(const lorasc_packing *packing, int64_t inner, int64_t columns,
                               const float *values, int64_t inner_stride, int64_t column_stride,
                               void *packed);
#endif
