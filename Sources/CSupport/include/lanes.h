#ifndef LORASC_LANES_H
#define LORASC_LANES_H

/* What Swift's vectors have no operation for. Inlined into kernels that are compiled for the CPU level
 * in question, called from nowhere else. */

typedef float lorasc_lanes __attribute__((ext_vector_type(16)));

/* a b + c, fused. Swift's own is one of each lane, which the compiler doesn't put together everywhere. */
static inline lorasc_lanes lorasc_lanes_multiply_add(lorasc_lanes a, lorasc_lanes b,
                                                     lorasc_lanes c) {
  return __builtin_elementwise_fma(a, b, c);
}

#if defined(__x86_64__)
typedef int lorasc_int_lanes __attribute__((ext_vector_type(16)));
typedef float lorasc_eight_lanes __attribute__((ext_vector_type(8)));
typedef int lorasc_eight_int_lanes __attribute__((ext_vector_type(8)));
typedef __bf16 lorasc_sixteen_pairs __attribute__((vector_size(64)));
typedef __bf16 lorasc_eight_pairs __attribute__((vector_size(32)));

/* Lane i of the result is element index[i] mod 32 of `low` followed by `high`: one instruction. */
__attribute__((target("avx512f"))) static inline lorasc_lanes
lorasc_lanes_chosen(lorasc_lanes low, lorasc_lanes high, lorasc_int_lanes index) {
  return __builtin_ia32_vpermi2varps512(low, index, high);
}
/* The larger of each two; b where one is NaN. What the compiler knows it takes apart where few lanes of
 * the result are used. */
__attribute__((target("avx512f"))) static inline lorasc_lanes
lorasc_lanes_larger(lorasc_lanes a, lorasc_lanes b) {
  return __builtin_ia32_maxps512(a, b, 4);
}
/* a + b, kept whole likewise. */
__attribute__((target("avx512f"))) static inline lorasc_lanes
lorasc_lanes_sum(lorasc_lanes a, lorasc_lanes b) {
  return __builtin_ia32_addps512(a, b, 8);
}

/* sums + a b of pairs of bfloat16 in each lane, both products at once: one instruction. */
__attribute__((target("avx512bf16"))) static inline lorasc_lanes
lorasc_lanes_add_pairs(lorasc_lanes sums, lorasc_int_lanes a, lorasc_int_lanes b) {
  return __builtin_ia32_dpbf16ps_512(sums, (lorasc_sixteen_pairs)a, (lorasc_sixteen_pairs)b);
}

__attribute__((target("avx512bf16,avx512vl"))) static inline lorasc_eight_lanes
lorasc_eight_lanes_add_pairs(lorasc_eight_lanes sums, lorasc_eight_int_lanes a,
                             lorasc_eight_int_lanes b) {
  return __builtin_ia32_dpbf16ps_256(sums, (lorasc_eight_pairs)a, (lorasc_eight_pairs)b);
}
#endif

#endif
