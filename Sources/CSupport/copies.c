#include "copies.h"

#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

typedef float four __attribute__((ext_vector_type(4)));

static void copy_row(const float *from, float *to, ptrdiff_t n) {
  ptrdiff_t i = 0;
  for (; i < n && (uintptr_t)(to + i) % sizeof(four) != 0; i++) to[i] = from[i];
  for (; i + 4 <= n; i += 4) {
    four values;
    memcpy(&values, from + i, sizeof values);
    __builtin_nontemporal_store(values, (four *)(to + i));
  }
  for (; i < n; i++) to[i] = from[i];
}

void lorasc_copy_past_caches(const float *from, ptrdiff_t ld, float *to, ptrdiff_t rows,
                             ptrdiff_t cols) {
  for (ptrdiff_t r = 0; r < rows; r++) copy_row(from + r * ld, to + r * cols, cols);
  /* Such stores are ordered by a fence alone. */
  atomic_thread_fence(memory_order_seq_cst);
}

void lorasc_read_ahead(const float *values, ptrdiff_t n) {
  const ptrdiff_t line = 64 / sizeof *values;
  for (ptrdiff_t i = 0; i < n; i += line) (void)*(const volatile float *)(values + i);
}
