/* Atomic words at addresses the caller owns, for code that may run in a signal
   handler or before any Swift type exists. */
#ifndef LORASC_CSUPPORT_ATOMICS_H
#define LORASC_CSUPPORT_ATOMICS_H
#include <stdbool.h>
#include <stdint.h>

static inline uint64_t lorasc_atomic_load(const uint64_t *word) {
  return __atomic_load_n(word, __ATOMIC_SEQ_CST);
}
static inline void lorasc_atomic_store(uint64_t *word, uint64_t value) {
  __atomic_store_n(word, value, __ATOMIC_SEQ_CST);
}
static inline bool lorasc_atomic_compare_exchange(uint64_t *word, uint64_t expected,
                                                  uint64_t desired) {
  return __atomic_compare_exchange_n(word, &expected, desired, false, __ATOMIC_SEQ_CST,
                                     __ATOMIC_SEQ_CST);
}
static inline uint64_t lorasc_atomic_fetch_add(uint64_t *word, uint64_t amount) {
  return __atomic_fetch_add(word, amount, __ATOMIC_SEQ_CST);
}
#endif
