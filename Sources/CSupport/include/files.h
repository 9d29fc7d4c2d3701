/* System calls that Swift's Glibc module doesn't show. */
#ifndef LORASC_CSUPPORT_FILES_H
#define LORASC_CSUPPORT_FILES_H
#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Starts writing a file's bytes to the disk, and waits for nothing (sync_file_range with
   SYNC_FILE_RANGE_WRITE). Whether it can is all the same: fsync does it again. */
static inline void lorasc_start_writing(int descriptor, long offset, long count) {
#ifdef SYS_sync_file_range
  const unsigned write = 2; /* SYNC_FILE_RANGE_WRITE */
  syscall(SYS_sync_file_range, descriptor, offset, count, write);
#else
  (void)descriptor, (void)offset, (void)count;
#endif
}

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
