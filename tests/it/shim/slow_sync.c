/* Holds SQLite inside a commit: preloaded into the app, it delays fdatasync (and fsync) of a WAL
 * for as long as the file named by TIDEMILL_TEST_HOLD_SYNC exists.
 *
 * At that point the commit's frames are in the WAL file, but the writer has not yet published them
 * in the WAL index: whoever reads the file sees a commit that the database does not have. A
 * process killed here leaves exactly that, which is otherwise a matter of luck.
 *
 * "<file>.hit" appears when a commit has arrived, so that the test need not guess.
 *
 * TIDEMILL_TEST_SLOW_SYNC=FILE makes each such sync last a few milliseconds, as on a disk in a data
 * centre, and keeps FILE for as long: one that is there after a kill says where it fell.
 *
 * TIDEMILL_TEST_FAIL_SYNC=FILE makes each such sync fail with EIO while FILE exists.
 *
 * TIDEMILL_TEST_FULL_DISK=FILE makes each write to a WAL fail with ENOSPC while FILE exists. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Longer than any test waits; a forgotten flag must not hang a process for ever. */
#define HOLD_MAX_MS 60000
#define STEP_MS 2
#define SLOW_MS 3

static int is_wal(int fd) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path);
    return length >= 4 && memcmp(path + length - 4, "-wal", 4) == 0;
}

static void hold(int fd) {
    const char *flag = getenv("TIDEMILL_TEST_HOLD_SYNC");
    if (flag == NULL || access(flag, F_OK) != 0 || !is_wal(fd)) {
        return;
    }
    char hit[PATH_MAX];
    snprintf(hit, sizeof hit, "%s.hit", flag);
    int mark = open(hit, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    if (mark >= 0) {
        close(mark);
    }
    struct timespec step = {0, STEP_MS * 1000000L};
    for (int waited = 0; waited < HOLD_MAX_MS && access(flag, F_OK) == 0; waited += STEP_MS) {
        nanosleep(&step, NULL);
    }
}

static int fails(int fd) {
    const char *flag = getenv("TIDEMILL_TEST_FAIL_SYNC");
    return flag != NULL && access(flag, F_OK) == 0 && is_wal(fd);
}

static int sync_with(long call, int fd) {
    hold(fd);
    if (fails(fd)) {
        errno = EIO;
        return -1;
    }
    const char *mark = getenv("TIDEMILL_TEST_SLOW_SYNC");
    if (mark == NULL || !is_wal(fd)) {
        return (int)syscall(call, fd);
    }
    int file = open(mark, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    if (file >= 0) {
        close(file);
    }
    struct timespec slow = {0, SLOW_MS * 1000000L};
    nanosleep(&slow, NULL);
    int result = (int)syscall(call, fd);
    unlink(mark);
    return result;
}

static int is_full(int fd) {
    const char *flag = getenv("TIDEMILL_TEST_FULL_DISK");
    return flag != NULL && access(flag, F_OK) == 0 && is_wal(fd);
}

ssize_t pwrite64(int fd, const void *data, size_t bytes, off64_t at) {
    if (is_full(fd)) {
        errno = ENOSPC;
        return -1;
    }
    return syscall(SYS_pwrite64, fd, data, bytes, at);
}

ssize_t pwrite(int fd, const void *data, size_t bytes, off_t at) {
    return pwrite64(fd, data, bytes, at);
}

int fdatasync(int fd) { return sync_with(SYS_fdatasync, fd); }

int fsync(int fd) { return sync_with(SYS_fsync, fd); }
