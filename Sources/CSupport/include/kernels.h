/* The table of elementwise kernels. Each CPU level (baseline, AVX2, AVX-512)
   compiles the same Swift sources and fills one table with C function pointers,
   so that no Swift type or generic crosses from a level's object files.

   Conventions: matrices are row-major float32; `ld` is the distance of two rows
   in elements (>= columns); counts are >= 0 and pointers may be NULL only where
   said. Input and output may be the same pointer, never overlap otherwise.
   No kernel allocates, locks or uses threads: the caller splits the rows.
   Pointers are non-null unless marked: so Swift sees fields that need no `!`. */
#ifndef LORASC_CSUPPORT_KERNELS_H
#define LORASC_CSUPPORT_KERNELS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__clang__)
#define LORASC_NULLABLE _Nullable
#pragma clang assume_nonnull begin
#else
#define LORASC_NULLABLE
#endif

typedef enum lorasc_activation {
  LORASC_ACTIVATION_GELU = 0,      /* x Phi(x), exact erf form            */
  LORASC_ACTIVATION_GELU_TANH = 1, /* tanh form ("gelu_new", "gelu_pytorch_tanh") */
  LORASC_ACTIVATION_RELU = 2,
  LORASC_ACTIVATION_SILU = 3,
  LORASC_ACTIVATION_TANH = 4
} lorasc_activation;

/* Quantised blocks of GGUF files, by their tags there. */
typedef enum lorasc_block {
  LORASC_BLOCK_Q4_0 = 2, /* 32 values in 18 bytes  */
  LORASC_BLOCK_Q4_1 = 3, /* 32 in 20               */
  LORASC_BLOCK_Q5_0 = 6, /* 32 in 22               */
  LORASC_BLOCK_Q5_1 = 7, /* 32 in 24               */
  LORASC_BLOCK_Q8_0 = 8, /* 32 in 34               */
  LORASC_BLOCK_Q2_K = 10, /* 256 in 84             */
  LORASC_BLOCK_Q3_K = 11, /* 256 in 110            */
  LORASC_BLOCK_Q4_K = 12, /* 256 in 144            */
  LORASC_BLOCK_Q5_K = 13, /* 256 in 176            */
  LORASC_BLOCK_Q6_K = 14  /* 256 in 210            */
} lorasc_block;

/* Philox4x32-10. Element i of a stream takes word (i & 3) of the block with
   counter (i >> 2, stream) under `key`: any range can be made on its own. */
typedef struct lorasc_random_stream {
  uint64_t key;
  uint64_t stream;
} lorasc_random_stream;

typedef struct lorasc_kernels {
  const char *name; /* "baseline", "avx2", "avx512" */

  /* y[r,c] = bias[c]; bias NULL: zero. */
  void (*broadcast_rows)(const float *LORASC_NULLABLE bias, float *y, ptrdiff_t rows,
                         ptrdiff_t cols, ptrdiff_t ld);
  /* out[c] += sum over r of x[r,c]: 64 rows in order make a block, blocks are added in order. */
  void (*column_sums)(const float *x, ptrdiff_t rows, ptrdiff_t cols, ptrdiff_t ld, float *out);

  /* y[r,c] = k[c] y[r,c] + bias[c]; bias NULL: zero. */
  void (*scale_columns)(const float *k, const float *LORASC_NULLABLE bias, float *y,
                        ptrdiff_t rows, ptrdiff_t cols, ptrdiff_t ldy);
  /* dx[r,c] = k[c] dy[r,c]; dk[c] += sum over r of dy[r,c] x[r,c], in blocks of rows as
   * column_sums. */
  void (*scale_columns_backward)(const float *k, const float *dy, const float *x, float *dx,
                                 float *dk, ptrdiff_t rows, ptrdiff_t cols, ptrdiff_t lddy,
                                 ptrdiff_t ldx, ptrdiff_t lddx);
  /* The same with dy and dx in bfloat16, dx rounded to nearest even. */
  void (*scale_columns_backward_bf16)(const float *k, const uint16_t *dy, const float *x,
                                      uint16_t *dx, float *dk, ptrdiff_t rows, ptrdiff_t cols,
                                      ptrdiff_t lddy, ptrdiff_t ldx, ptrdiff_t lddx);
  /* y[r,c] += k[c] x[r,c]. */
  void (*add_scaled_columns)(const float *k, const float *x, float *y, ptrdiff_t rows,
                             ptrdiff_t cols, ptrdiff_t ldx, ptrdiff_t ldy);

  void (*activation_forward)(int32_t kind, const float *x, float *y, ptrdiff_t n);
  /* dx = dy * f'(x). */
  void (*activation_backward)(int32_t kind, const float *x, const float *dy, float *dx, ptrdiff_t n);
  /* y = f(gate) up. */
  void (*gate_forward)(int32_t kind, const float *gate, const float *up, float *y, ptrdiff_t n);
  /* dgate = dy up f'(gate), dup = dy f(gate); dup may be dy, or either may be its own factor. */
  void (*gate_backward)(int32_t kind, const float *gate, const float *up, const float *dy,
                        float *dgate, float *dup, ptrdiff_t n);
  /* The same of arrays in bfloat16, in float32 arithmetic, results rounded to nearest even. */
  void (*activation_forward_bf16)(int32_t kind, const uint16_t *x, uint16_t *y, ptrdiff_t n);
  void (*activation_backward_bf16)(int32_t kind, const uint16_t *x, const uint16_t *dy,
                                   uint16_t *dx, ptrdiff_t n);
  void (*gate_forward_bf16)(int32_t kind, const uint16_t *gate, const uint16_t *up, uint16_t *y,
                            ptrdiff_t n);
  void (*gate_backward_bf16)(int32_t kind, const uint16_t *gate, const uint16_t *up,
                             const uint16_t *dy, uint16_t *dgate, uint16_t *dup, ptrdiff_t n);

  /* sum = x + residual (residual NULL: sum = x); y = LayerNorm(sum) * gamma + beta.
     `sum` may equal x. y as float32, as bfloat16 in `rounded`, or both: NULL where it isn't
     wanted. mean, rstd: one per row, both NULL for inference. */
  void (*layer_norm_forward)(const float *x, const float *LORASC_NULLABLE residual,
                             const float *gamma, const float *beta, float eps, float *sum,
                             float *LORASC_NULLABLE y, uint16_t *LORASC_NULLABLE rounded,
                             float *LORASC_NULLABLE mean, float *LORASC_NULLABLE rstd,
                             ptrdiff_t rows, ptrdiff_t cols);
  /* dx = add + the gradient by sum, from dy, the saved sum, mean, rstd; add NULL: 0; dx may be
     dy or add. rounded = dx in bfloat16, NULL: not wanted. dgamma, dbeta (cols) are added to;
     both may be NULL. */
  void (*layer_norm_backward)(const float *dy, const float *sum, const float *gamma,
                              const float *mean, const float *rstd,
                              const float *LORASC_NULLABLE add, float *dx,
                              uint16_t *LORASC_NULLABLE rounded, float *LORASC_NULLABLE dgamma,
                              float *LORASC_NULLABLE dbeta, ptrdiff_t rows, ptrdiff_t cols);
  /* The same without mean and beta: y = sum / sqrt(average of sum^2 + eps) * gamma. */
  void (*rms_norm_forward)(const float *x, const float *LORASC_NULLABLE residual,
                           const float *gamma, float eps, float *sum, float *LORASC_NULLABLE y,
                           uint16_t *LORASC_NULLABLE rounded, float *LORASC_NULLABLE rstd,
                           ptrdiff_t rows, ptrdiff_t cols);
  void (*rms_norm_backward)(const float *dy, const float *sum, const float *gamma,
                            const float *rstd, const float *LORASC_NULLABLE add, float *dx,
                            uint16_t *LORASC_NULLABLE rounded, float *LORASC_NULLABLE dgamma,
                            ptrdiff_t rows, ptrdiff_t cols);

  /* Rotary positions in place: of each head of head_size columns, pairs (i, i + head_size / 2)
     turn by the angle with cosines[p, i] and direction * sines[p, i] (tables of head_size / 2
     columns), p = positions[r]; `heads` heads side by side, rows `ld` apart. */
  void (*rotate)(float *x, ptrdiff_t rows, ptrdiff_t heads, ptrdiff_t head_size, ptrdiff_t ld,
                 const float *cosines, const float *sines, const int32_t *positions,
                 float direction);
  void (*rotate_bf16)(uint16_t *x, ptrdiff_t rows, ptrdiff_t heads, ptrdiff_t head_size,
                      ptrdiff_t ld, const float *cosines, const float *sines,
                      const int32_t *positions, float direction);

  /* x[r,:] = softmax(scale * x[r,:]), scale > 0; lse[r] = log sum exp(scale * x[r,:]) (may be NULL).
   * With `rounded` (ld as x) the probabilities go there alone, in bfloat16, and x is used up. */
  void (*softmax_forward)(float *x, ptrdiff_t rows, ptrdiff_t cols, ptrdiff_t ld, float scale,
                          float *LORASC_NULLABLE lse, uint16_t *LORASC_NULLABLE rounded);
  /* x[r,c] = exp(scale * x[r,c] - lse[r * lse_stride]): the same probabilities again. No lse is
   * below its row's largest scale * x; results below the smallest normal number are 0. In
   * bfloat16 in `rounded` (ld as x), too; NULL: not wanted. */
  void (*softmax_again)(float *x, ptrdiff_t rows, ptrdiff_t cols, ptrdiff_t ld, float scale,
                        const float *lse, ptrdiff_t lse_stride, uint16_t *LORASC_NULLABLE rounded);
  /* dp[r,c] = scale * p[r,c] * (dp[r,c] - sum over k of p[r,k] dp[r,k]); with `rounded` (ld as dp)
   * it goes there alone, in bfloat16. */
  void (*softmax_backward)(const float *p, float *dp, ptrdiff_t rows, ptrdiff_t cols, ptrdiff_t ld,
                           float scale, uint16_t *LORASC_NULLABLE rounded);

  /* The skinny products of adapters; NULL where a level has none that beat a library's.
   * P[r,j] = sum over k of X[r,k] F[k,j]. Rows of F hold any numbers from `columns` to the next
   * multiple of 8. */
  void (*LORASC_NULLABLE skinny_product)(const float *x, ptrdiff_t rows, ptrdiff_t inner,
                                         ptrdiff_t ldx, const float *f, ptrdiff_t ldf, float *p,
                                         ptrdiff_t columns, ptrdiff_t ldp);
  /* C[j,c] = sum over r of P[r,j] X[r,c], width >= 32. */
  void (*LORASC_NULLABLE skinny_sum)(const float *p, ptrdiff_t rows, ptrdiff_t columns,
                                     ptrdiff_t ldp, const float *x, ptrdiff_t width, ptrdiff_t ldx,
                                     float *c, ptrdiff_t ldc);
  /* The same of bfloat16, F and P in pairs of rows (pair_rows); the products' inner is even. */
  void (*LORASC_NULLABLE skinny_product_bf16)(const uint16_t *x, ptrdiff_t rows, ptrdiff_t inner,
                                              ptrdiff_t ldx, const uint16_t *f, ptrdiff_t ldf,
                                              float *p, ptrdiff_t columns, ptrdiff_t ldp);
  /* y[r,c] += sum over k of P[r,k] F[k,c], F in pairs of rows, columns a multiple of 16; with
   * `rounded` the sums go there alone, in bfloat16. */
  void (*LORASC_NULLABLE skinny_add_bf16)(const uint16_t *p, ptrdiff_t rows, ptrdiff_t inner,
                                          ptrdiff_t ldp, const uint16_t *f, ptrdiff_t ldf, float *y,
                                          ptrdiff_t columns, ptrdiff_t ldy,
                                          uint16_t *LORASC_NULLABLE rounded, ptrdiff_t ldr);
  void (*LORASC_NULLABLE skinny_sum_bf16)(const uint16_t *p, ptrdiff_t rows, ptrdiff_t columns,
                                          ptrdiff_t ldp, const uint16_t *x, ptrdiff_t width,
                                          ptrdiff_t ldx, float *c, ptrdiff_t ldc);
  /* y[i / 2, c, i % 2] = scale * x[i,c] in bfloat16 (nearest even), rows of pairs 2 ldy apart; 0 for
   * the row that an odd number of rows lacks. */
  void (*pair_rows)(const float *x, ptrdiff_t rows, ptrdiff_t cols, ptrdiff_t ldx, float scale,
                    uint16_t *y, ptrdiff_t ldy);

  void (*fill)(float value, float *y, ptrdiff_t n);
  /* y = alpha x + beta y; beta = 0 never reads y. */
  void (*axpby)(float alpha, const float *x, float beta, float *y, ptrdiff_t n);
  /* sum x*y in float32 lanes, for rows of activations. */
  float (*dot)(const float *x, const float *y, ptrdiff_t n);
  /* Sums in float64. Element i goes to lane i mod 16 and lanes are added in
     order, so every CPU level gives the same bits. */
  double (*sum)(const float *x, ptrdiff_t n);
  double (*sum_squared_deviations)(const float *x, double center, ptrdiff_t n);
  /* Largest |x|, +Inf if any element is NaN or infinite; 0 for n = 0. */
  float (*max_abs)(const float *x, ptrdiff_t n);

  /* PyTorch's AdamW: g = grad_scale * grad; p *= 1 - lr * weight_decay;
     m = b1 m + (1-b1) g; v = b2 v + (1-b2) g^2;
     p -= (lr / correction1) * m / (sqrt(v) / sqrt_correction2 + eps). 1-b, 1 - lr *
     weight_decay and lr / correction1 are taken in float64, as there. */
  void (*adamw)(float *p, const float *grad, float *m, float *v, ptrdiff_t n, double grad_scale,
                double lr, double beta1, double beta2, double eps, double weight_decay,
                double correction1, double sqrt_correction2);
  /* PyTorch's SGD: g = grad_scale * grad + weight_decay * p;
     buf = first ? g : momentum * buf + g; p -= lr * buf. buf NULL: no momentum. */
  void (*sgd)(float *p, const float *grad, float *LORASC_NULLABLE buf, ptrdiff_t n,
              double grad_scale, double lr, double momentum, double weight_decay, int32_t first);

  /* out[i] = base[i] + (u_i - 0.5) * width, u_i in [0,1) with 24 bits, element
     first + i of the stream; base NULL: 0. */
  void (*add_uniform)(const float *LORASC_NULLABLE base, float *out, ptrdiff_t n,
                      lorasc_random_stream stream, uint64_t first, float width);
  /* out[i] = base[i] + deviation * z_i, z standard normal (Box-Muller over word
     pairs (0,1) and (2,3) of the element's block); base NULL: 0. Same bits at
     every CPU level: no fused multiply-add anywhere in it. */
  void (*add_normal)(const float *LORASC_NULLABLE base, float *out, ptrdiff_t n,
                     lorasc_random_stream stream, uint64_t first, float deviation);
  /* y[i] = x[i] * (word(first + i) >= p * 2^32 ? 1 / (1 - p) : 0). */
  void (*dropout)(const float *x, float *y, ptrdiff_t n, lorasc_random_stream stream,
                  uint64_t first, float p);

  void (*bf16_to_f32)(const uint16_t *x, float *y, ptrdiff_t n);
  void (*f16_to_f32)(const uint16_t *x, float *y, ptrdiff_t n);
  /* Round to nearest even; NaN stays NaN; overflow to infinity. */
  void (*f32_to_bf16)(const float *x, uint16_t *y, ptrdiff_t n);
  void (*f32_to_f16)(const float *x, uint16_t *y, ptrdiff_t n);

  /* n blocks of a kind to n times their values, as the gguf package's dequantize: the same bits
     at every CPU level. blocks needs no alignment. Unknown kinds do nothing. */
  void (*dequantize)(int32_t kind, const uint8_t *blocks, float *y, ptrdiff_t n);
  /* 32 n finite values to n blocks of Q8_0, as the gguf package's quantize; blocks at an even
     address. */
  void (*quantize_q8_0)(const float *x, uint8_t *blocks, ptrdiff_t n);
} lorasc_kernels;

/* 0 baseline, 1 AVX2 (Haswell: with FMA, F16C, BMI, LZCNT), 2 AVX-512 (Skylake-X: F, CD, BW, DQ,
   VL): the best this CPU runs. Each instruction set the compiler may use at a level is asked for. */
static inline int32_t lorasc_cpu_level(void) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (!(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
        __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
        __builtin_cpu_supports("popcnt") && __builtin_cpu_supports("f16c") &&
        __builtin_cpu_supports("lzcnt") && __builtin_cpu_supports("movbe")))
    return 0;
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512cd") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("adx") &&
      __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul"))
    return 2;
  return 1;
#else
  return 0;
#endif
}

/* Dot products of bfloat16, beside level 2. */
static inline bool lorasc_cpu_has_bf16(void) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

#if defined(__clang__)
#pragma clang assume_nonnull end
#endif
#endif
