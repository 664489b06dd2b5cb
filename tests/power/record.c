/* Records, in order, what processes do to files beneath one directory: LD_PRELOAD this with
 * TIERS_POWER_ROOT (the directory) and TIERS_POWER_LOG (the record, elsewhere). One lock is held over
 * each call and its entry, so the order in the record is the order in which things happened.
 *
 * entry: op u8 | inode u64 | offset or size i64 | length u32 | payload        (little-endian)
 *   C path         created: a file          N path        created: a directory
 *   W bytes        written at offset        D bytes       the same, durable when it returned (O_DSYNC)
 *   T              size is now offset       S             fsync, fdatasync: of a file or a directory
 *   R old \0 new   renamed                  U path        a name is gone
 * A file that is mapped for writing is not followed: LMDB writes so into its lock file only.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int record = -1;
static char root[PATH_MAX];
static size_t root_length;


__attribute__((constructor)) static void begin(void) {
    const char *to = getenv("TIERS_POWER_LOG"), *below = getenv("TIERS_POWER_ROOT");
    if (!to || !below || !realpath(below, root)) return;
    root_length = strlen(root);
    record = syscall(SYS_openat, AT_FDCWD, to, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

/* One at a time: of all threads, and of all processes that write to the same record. */
static void enter(void) {
    pthread_mutex_lock(&lock);
    if (record >= 0) syscall(SYS_flock, record, LOCK_EX);
}

static void leave(void) {
    if (record >= 0) syscall(SYS_flock, record, LOCK_UN);
    pthread_mutex_unlock(&lock);
}

static int inside(const char *path) {
    return record >= 0 && strncmp(path, root, root_length) == 0 &&
           (path[root_length] == '/' || path[root_length] == 0);
}

static void entry(char op, uint64_t inode, int64_t at, const void *data, uint32_t size) {
    unsigned char head[21];
    head[0] = op;
    memcpy(head + 1, &inode, 8), memcpy(head + 9, &at, 8), memcpy(head + 17, &size, 4);
    /* One call: another process may append to the same record. */
    struct iovec parts[2] = {{head, sizeof head}, {(void *)data, size}};
    if (syscall(SYS_writev, record, parts, 2) != (ssize_t)(sizeof head + size)) abort();
}

/* The path of a descriptor if it is ours: a file or a directory beneath the root. */
static int ours(int fd, struct stat *found) {
    char link[64], path[PATH_MAX];
    if (record < 0 || fd < 0 || fstat(fd, found) || !(S_ISREG(found->st_mode) || S_ISDIR(found->st_mode)))
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0) return 0;
    path[size] = 0;
    return inside(path);
}

/* The absolute path of what `at` and `name` mean, without links in its directory. */
static int absolute(int at, const char *name, char *path) {
    char base[PATH_MAX], whole[PATH_MAX], link[64];
    if (record < 0) return 0;
    if (name[0] == '/') snprintf(whole, sizeof whole, "%s", name);
    else {
        snprintf(link, sizeof link, at == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", at);
        ssize_t size = readlink(link, base, sizeof base - 1);
        if (size < 0) return 0;
        base[size] = 0;
        if (snprintf(whole, sizeof whole, "%s/%s", base, name) >= (int)sizeof whole) return 0;
    }
    for (size_t n = strlen(whole); n > 1 && whole[n - 1] == '/'; n--) whole[n - 1] = 0;
    char *slash = strrchr(whole, '/');
    if (!slash) return 0;
    *slash = 0;
    if (!realpath(slash == whole ? "/" : whole, base)) return 0;
    if (snprintf(path, PATH_MAX, "%s/%s", base, slash + 1) >= PATH_MAX) return 0;
    return inside(path);
}

/* -- opening ------------------------------------------------------------------------------- */

static int opened(int at, const char *name, int flags, mode_t mode) {
    char path[PATH_MAX];
    struct stat found;
    if (record < 0 || !(flags & (O_CREAT | O_TRUNC)))
        return syscall(SYS_openat, at, name, flags, mode);
    enter();
    int mine = absolute(at, name, path), there = mine && lstat(path, &found) == 0;
    int fd = syscall(SYS_openat, at, name, flags, mode), error = errno;
    if (fd >= 0 && mine && fstat(fd, &found) == 0) {
        if (!there) entry('C', found.st_ino, 0, path, strlen(path));
        else if (flags & O_TRUNC) entry('T', found.st_ino, 0, "", 0);
    }
    leave();
    errno = error;
    return fd;
}

static mode_t mode_of(int flags, va_list *more) {
    return flags & (O_CREAT | O_TMPFILE) ? va_arg(*more, mode_t) : 0;
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        va_list more; \
        va_start(more, flags); \
        mode_t mode = mode_of(flags, &more); \
        va_end(more); \
        return opened(AT_FDCWD, path, flags, mode); \
    }
OPEN(open)
OPEN(open64)
#define OPENAT(name) \
    int name(int at, const char *path, int flags, ...) { \
        va_list more; \
        va_start(more, flags); \
        mode_t mode = mode_of(flags, &more); \
        va_end(more); \
        return opened(at, path, flags, mode); \
    }
OPENAT(openat)
OPENAT(openat64)

/* -- writing ------------------------------------------------------------------------------- */

static void wrote(int fd, struct stat *found, int64_t at, const struct iovec *parts, int count, size_t done) {
    char op = fcntl(fd, F_GETFL) & O_DSYNC ? 'D' : 'W';
    for (int i = 0; i < count && done; i++) {
        size_t size = parts[i].iov_len < done ? parts[i].iov_len : done;
        entry(op, found->st_ino, at, parts[i].iov_base, size);
        at += size, done -= size;
    }
}

static ssize_t writing(int fd, const struct iovec *parts, int count, off_t at, int placed) {
    struct stat found;
    enter();
    int mine = ours(fd, &found);
    ssize_t done = placed ? syscall(SYS_pwritev, fd, parts, count, at, at >> 32 >> 32)
                          : syscall(SYS_writev, fd, parts, count);
    int error = errno;
    if (mine && done > 0)
        wrote(fd, &found, placed ? at : lseek(fd, 0, SEEK_CUR) - done, parts, count, done);
    leave();
    errno = error;
    return done;
}

ssize_t write(int fd, const void *data, size_t size) {
    struct stat found;
    struct iovec part = {(void *)data, size};
    if (!ours(fd, &found)) return syscall(SYS_write, fd, data, size); /* a pipe may block */
    return writing(fd, &part, 1, 0, 0);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    struct stat found;
    if (!ours(fd, &found)) return syscall(SYS_writev, fd, parts, count);
    return writing(fd, parts, count, 0, 0);
}

#define PWRITE(name) \
    ssize_t name(int fd, const void *data, size_t size, off_t at) { \
        struct iovec part = {(void *)data, size}; \
        return writing(fd, &part, 1, at, 1); \
    }
PWRITE(pwrite)
PWRITE(pwrite64)
#define PWRITEV(name) \
    ssize_t name(int fd, const struct iovec *parts, int count, off_t at) { \
        return writing(fd, parts, count, at, 1); \
    }
PWRITEV(pwritev)
PWRITEV(pwritev64)

#define SIZED(name, number) \
    int name(int fd, off_t size) { \
        struct stat found; \
        enter(); \
        int mine = ours(fd, &found), done = syscall(number, fd, size), error = errno; \
        if (mine && done == 0) entry('T', found.st_ino, size, "", 0); \
        leave(); \
        errno = error; \
        return done; \
    }
SIZED(ftruncate, SYS_ftruncate)
SIZED(ftruncate64, SYS_ftruncate)

#define SYNC(name, number) \
    int name(int fd) { \
        struct stat found; \
        enter(); \
        int mine = ours(fd, &found), done = syscall(number, fd), error = errno; \
        if (mine && done == 0) entry('S', found.st_ino, 0, "", 0); \
        leave(); \
        errno = error; \
        return done; \
    }
SYNC(fsync, SYS_fsync)
SYNC(fdatasync, SYS_fdatasync)

/* -- names --------------------------------------------------------------------------------- */

static int making(int at, const char *name, mode_t mode) {
    char path[PATH_MAX];
    struct stat found;
    enter();
    int mine = absolute(at, name, path), done = syscall(SYS_mkdirat, at, name, mode), error = errno;
    if (mine && done == 0 && lstat(path, &found) == 0) entry('N', found.st_ino, 0, path, strlen(path));
    leave();
    errno = error;
    return done;
}
int mkdir(const char *name, mode_t mode) { return making(AT_FDCWD, name, mode); }
int mkdirat(int at, const char *name, mode_t mode) { return making(at, name, mode); }

static int renaming(int at, const char *name, int to, const char *target, unsigned flags) {
    char both[2 * PATH_MAX], path[PATH_MAX];
    struct stat found;
    enter();
    int mine = absolute(at, name, both) && absolute(to, target, path) && lstat(both, &found) == 0;
    int done = syscall(SYS_renameat2, at, name, to, target, flags), error = errno;
    if (mine && done == 0) {
        size_t length = strlen(both) + 1;
        strcpy(both + length, path);
        entry('R', found.st_ino, 0, both, length + strlen(path));
    }
    leave();
    errno = error;
    return done;
}
int rename(const char *name, const char *target) { return renaming(AT_FDCWD, name, AT_FDCWD, target, 0); }
int renameat(int at, const char *name, int to, const char *target) { return renaming(at, name, to, target, 0); }
int renameat2(int at, const char *name, int to, const char *target, unsigned flags) {
    return renaming(at, name, to, target, flags);
}

static int removing(int at, const char *name, int flags) {
    char path[PATH_MAX];
    struct stat found;
    enter();
    int mine = absolute(at, name, path) && lstat(path, &found) == 0;
    int done = syscall(SYS_unlinkat, at, name, flags), error = errno;
    if (mine && done == 0) entry('U', found.st_ino, 0, path, strlen(path));
    leave();
    errno = error;
    return done;
}
int unlink(const char *name) { return removing(AT_FDCWD, name, 0); }
int unlinkat(int at, const char *name, int flags) { return removing(at, name, flags); }
int rmdir(const char *name) { return removing(AT_FDCWD, name, AT_REMOVEDIR); }
