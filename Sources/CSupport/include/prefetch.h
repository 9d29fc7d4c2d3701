#ifndef LORASC_PREFETCH_H
#define LORASC_PREFETCH_H
#include <stddef.h>

/* Asks for the cache line at p, for the second-level cache: many rows at equal distances would drive
 * each other out of the first. p needn't be anybody's memory. */
static inline void lorasc_prefetch(const void *p) { __builtin_prefetch(p, 0, 2); }

/* The same of rows of so many bytes, `stride` bytes apart. */
static inline void lorasc_prefetch_rows(const void *p, ptrdiff_t rows, ptrdiff_t bytes,
                                        ptrdiff_t stride) {
  for (ptrdiff_t r = 0; r < rows; r++)
    for (ptrdiff_t i = 0; i < bytes; i += 64) lorasc_prefetch((const char *)p + r * stride + i);
}

#endif
