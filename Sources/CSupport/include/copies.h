#ifndef LORASC_COPIES_H
#define LORASC_COPIES_H
#include <stddef.h>

#include "process.h"

/* to[0 .. n) = from[0 .. n), which don't overlap, past the caches: for what isn't read again soon.
   Ordinary stores read each line that they write, and take up to four times as long where it is in
   no cache. Ordered before what the thread writes next. */
LORASC_HIDDEN void lorasc_copy_past_caches(const float *from, float *to, ptrdiff_t n);

#endif
