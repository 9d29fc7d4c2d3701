#include <pthread.h>

#include "atomics.h"
#include "kernels.h"
#include "process.h"
#include "threads.h"

static _Thread_local lorasc_thread_error thread_error;

lorasc_thread_error *lorasc_thread_error_get(void) {
  if (thread_error.message == NULL) {
    thread_error.message = thread_error.message_text;
    thread_error.subject = thread_error.subject_text;
  }
  return &thread_error;
}

static uint64_t slot_words[LORASC_SLOT_COUNT];

uint64_t *lorasc_slot_word(size_t slot) {
  return slot < LORASC_SLOT_COUNT ? &slot_words[slot] : NULL;
}

static volatile bool forked;

static void after_fork_in_child(void) { forked = true; }

__attribute__((constructor)) static void watch_forks(void) {
  pthread_atfork(NULL, NULL, after_fork_in_child);
}

bool lorasc_is_forked_child(void) { return forked; }

/* Swift's calling convention passes a closure as function and context, and the context again in
 * a register of its own when it calls. Swift declares this by its symbol. */
LORASC_HIDDEN __attribute__((swiftcall)) lorasc_task_body lorasc_task_body_of(
    const void *function, const void *context) {
  return (lorasc_task_body){function, context};
}

void lorasc_task_body_call(lorasc_task_body body, ptrdiff_t task, ptrdiff_t lane) {
  typedef __attribute__((swiftcall)) void function(
      ptrdiff_t task, ptrdiff_t lane, __attribute__((swift_context)) const void *context);
  ((function *)body.function)(task, lane, body.context);
}
