#include "openmp.h"

#include <pthread.h>

#include "dynamic.h"

/* What compilers call for a parallel region, and omp.h's own: stable since GCC 4.9. */
static void (*parallel)(void (*region)(void *), void *data, unsigned threads, unsigned flags);
static int (*thread_number)(void);
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

/* Not once for all: the library may come into the process later. */
bool lorasc_openmp_is_available(void) {
  pthread_mutex_lock(&mutex);
  bool is_there = (parallel != NULL && thread_number != NULL) ||
                  (resolve(RTLD_DEFAULT, "omp_get_thread_num", &thread_number) &&
                   resolve(RTLD_DEFAULT, "GOMP_parallel", &parallel));
  pthread_mutex_unlock(&mutex);
  return is_there;
}

typedef struct job {
  lorasc_task_body body;
  ptrdiff_t tasks;
  ptrdiff_t next;
} job;

static void take_tasks(void *data) {
  job *job = data;
  ptrdiff_t lane = thread_number();
  while (true) {
    ptrdiff_t task = __atomic_fetch_add(&job->next, 1, __ATOMIC_RELAXED);
    if (task >= job->tasks) return;
    lorasc_task_body_call(job->body, task, lane);
  }
}

void lorasc_openmp_run(lorasc_task_body body, ptrdiff_t tasks, unsigned threads) {
  job job = {body, tasks, 0};
  parallel(take_tasks, &job, threads, 0);
}
