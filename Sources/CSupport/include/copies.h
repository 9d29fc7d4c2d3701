#ifndef LORASC_COPIES_H
#define LORASC_COPIES_H
#include <stddef.h>

#include "process.h"

/* to (rows, cols), without gaps, = from, whose rows are `ld` apart; they don't overlap. Past the
   caches: for what isn't read again soon. Ordinary stores read each line that they write, and take
   up to four times as long where it is in no cache. Ordered before what the thread writes next. */
LORASC_HIDDEN void lorasc_copy_past_caches(const float *from, ptrdiff_t ld, float *to,
                                           ptrdiff_t rows, ptrdiff_t cols);

/* Reads n floats in their order, which memory is fastest at: what takes them in another order finds
   them in the cache. */
LORASC_HIDDEN void lorasc_read_ahead(const float *values, ptrdiff_t n);

#endif
