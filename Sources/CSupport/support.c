#include <pthread.h>

#include "atomics.h"
#include "kernels.h"
#include "process.h"

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
