/* What the thread pool needs and Swift's Glibc module doesn't give. */
#ifndef LORASC_CSUPPORT_THREADS_H
#define LORASC_CSUPPORT_THREADS_H
#include <sched.h>
#include <stddef.h>
#include <sys/types.h>

#include "process.h"

/* Declared by <sched.h> only under _GNU_SOURCE, which a module can't rely on. */
extern int sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set);

/* Processors that this process may run on; 0 if the system doesn't say (more than 1024). */
static inline ptrdiff_t lorasc_available_processors(void) {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return 0;
  const unsigned char *bytes = (const unsigned char *)&set;
  ptrdiff_t count = 0;
  for (size_t i = 0; i < sizeof set; i++) count += __builtin_popcount(bytes[i]);
  return count;
}

/* A Swift closure (task, lane) that doesn't escape, as the two words that Swift hands it over in:
 * other threads can call it while its owner waits, and nothing is allocated, as
 * withoutActuallyEscaping would. Made by lorasc_task_body_of in support.c. */
typedef struct lorasc_task_body {
  const void *function;
  const void *context;
} lorasc_task_body;

LORASC_HIDDEN void lorasc_task_body_call(lorasc_task_body body, ptrdiff_t task, ptrdiff_t lane);

/* One turn of a spin loop: tells the core that this thread only waits. */
static inline void lorasc_cpu_pause(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}
#endif
