/* System calls that Swift's Glibc module doesn't show. */
#ifndef LORASC_CSUPPORT_FILES_H
#define LORASC_CSUPPORT_FILES_H
#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Swaps two names atomically (renameat2 with RENAME_EXCHANGE). Both must exist
   on one file system. 0, or -1 with errno: EINVAL where the file system can't,
   ENOSYS where the kernel can't. */
static inline int lorasc_rename_exchange(const char *a, const char *b) {
#ifdef SYS_renameat2
  const int current_folder = -100; /* AT_FDCWD */
  const unsigned exchange = 2;     /* RENAME_EXCHANGE */
  return (int)syscall(SYS_renameat2, current_folder, a, current_folder, b, exchange);
#else
  errno = ENOSYS;
  return -1;
#endif
}
#endif
