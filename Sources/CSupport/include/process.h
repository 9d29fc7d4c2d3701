/* Per-thread and per-process facts that must exist without any Swift object. */
#ifndef LORASC_CSUPPORT_PROCESS_H
#define LORASC_CSUPPORT_PROCESS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The thread's last error: begins as the public lorasc_error does. Fixed buffers, so that
   the strings a host holds stay readable when the next error comes. */
typedef struct lorasc_thread_error {
  int32_t status;
  int32_t system_error;
  const char *message;
  const char *subject;
  char message_text[2048];
  char subject_text[1024];
} lorasc_thread_error;

/* Shared inside the library, not part of its interface. */
#define LORASC_HIDDEN __attribute__((visibility("hidden")))

/* The calling thread's; never NULL. */
LORASC_HIDDEN lorasc_thread_error *lorasc_thread_error_get(void);

/* Handles' interrupt words, one a slot, never freed: an interrupt from a signal handler
   compares and stores here and takes no lock. NULL beyond the last slot. */
#define LORASC_SLOT_COUNT 65536
LORASC_HIDDEN uint64_t *lorasc_slot_word(size_t slot);

/* True in a child made by fork() after the library was loaded. */
LORASC_HIDDEN bool lorasc_is_forked_child(void);
#endif
