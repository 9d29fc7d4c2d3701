/* The OpenMP threads of the process, where GNU's libgomp is in it: looked for at run time. */
#ifndef LORASC_CSUPPORT_OPENMP_H
#define LORASC_CSUPPORT_OPENMP_H
#include <stdbool.h>
#include <stddef.h>

#include "process.h"
#include "threads.h"

LORASC_HIDDEN bool lorasc_openmp_is_available(void);

/* body(task, lane) for each task on the calling thread's team of at most `threads` threads, whose
 * numbers are the lanes. Only where OpenMP is available. */
LORASC_HIDDEN void lorasc_openmp_run(lorasc_task_body body, ptrdiff_t tasks, unsigned threads);
#endif
