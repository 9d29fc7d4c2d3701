#ifndef LORASC_LANES_H
#define LORASC_LANES_H

/* What Swift's vectors have no operation for. Inlined into kernels that are compiled for the CPU level
 * in question, called from nowhere else. */

#if defined(__x86_64__)
typedef float lorasc_lanes __attribute__((ext_vector_type(16)));
typedef int lorasc_int_lanes __attribute__((ext_vector_type(16)));

/* Lane i of the result is element index[i] mod 32 of `low` followed by `high`: one instruction. */
__attribute__((target("avx512f"))) static inline lorasc_lanes
lorasc_lanes_chosen(lorasc_lanes low, lorasc_lanes high, lorasc_int_lanes index) {
  return __builtin_ia32_vpermi2varps512(low, index, high);
}
#endif

#endif
