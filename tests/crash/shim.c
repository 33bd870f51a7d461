/* A disk that forgets: preloaded into the workload process, it sees what the process writes
 * below one directory, and keeps, outside of it, only what a disk would hold after a loss of
 * power.
 *
 * Environment:
 *   POWER_LIVE    the directory; absolute
 *   POWER_DISK    where the disk's state is kept: `journal`, and a file for each file's data
 *   POWER_CUT_AT  the power is cut (SIGKILL) in place of the call with this number
 *   POWER_DISHONEST  if set, fdatasync answers 0 and does nothing. It is what our
 *                 sync_file_range calls, so this gives sled back the function that it comes
 *                 with, which makes nothing durable; sled's own calls of fsync stay honest.
 *                 It is also all that redb flushes with.
 *
 * Data: a page (4 KiB) that was written is on the disk once fsync or fdatasync of its file has
 * returned. Until then it is in the live directory alone; the test may let some of these pages
 * survive (the difference of the live file and the disk's), as a real disk does.
 *
 * Names and lengths: as ext4 and xfs keep them. Creating, renaming, removing and truncating go
 * in order into one journal. It is committed, up to its end, by fsync of a directory and by
 * fsync or fdatasync of a file that has been created, renamed or changed in length since it
 * was last synced. An fdatasync of a file that was only overwritten commits nothing. After
 * the cut, what follows the last commit may survive up to any point, never with gaps.
 *
 * The kernel's own fsync is not called: the disk's state needs to survive SIGKILL only.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { PAGE = 4096, DESCRIPTORS_MAX = 65536 };

/* A file of the live directory. */
struct file {
    long id;              /* its data is POWER_DISK/<id> */
    char *path;           /* from the live directory on; NULL once it was removed */
    int unsynced_length;  /* created, renamed or changed in length since it was last synced */
    off_t length;
    unsigned char *dirty; /* a byte for each page */
    size_t pages;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct file **files;
static size_t file_count;
static long next_id;
static struct file *open_files[DESCRIPTORS_MAX];
static char live[PATH_MAX], disk[PATH_MAX];
static size_t live_length;
static int journal = -1;
static int dishonest;
static long calls, cut_at;

static void fail(const char *what) {
    dprintf(2, "shim: %s: %s\n", what, strerror(errno));
    abort();
}

static void note(const char *format, ...) {
    char line[2 * PATH_MAX];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (syscall(SYS_write, journal, line, (size_t)length) != length) fail("journal");
}

static struct file *add(long id, const char *path) {
    struct file *file = calloc(1, sizeof *file);
    files = realloc(files, (file_count + 1) * sizeof *files);
    if (!file || !files || !(file->path = strdup(path))) fail("memory");
    file->id = id;
    files[file_count++] = file;
    if (id >= next_id) next_id = id + 1;
    return file;
}

static struct file *find(const char *path) {
    for (size_t i = 0; i < file_count; i++)
        if (files[i]->path && !strcmp(files[i]->path, path)) return files[i];
    return NULL;
}

/* The test has written what is on the disk at the start into the journal. */
static void read_journal(const char *path) {
    FILE *lines = fopen(path, "r");
    char line[PATH_MAX + 64], name[PATH_MAX];
    long id;
    if (!lines) fail("journal");
    while (fgets(line, sizeof line, lines)) {
        if (sscanf(line, "link %ld %s", &id, name) != 2) continue;
        struct file *file = add(id, name);
        struct stat status;
        char full[2 * PATH_MAX];
        snprintf(full, sizeof full, "%s/%s", live, name);
        if (stat(full, &status)) fail(full);
        file->length = status.st_size;
    }
    fclose(lines);
}

__attribute__((constructor)) static void start(void) {
    const char *live_name = getenv("POWER_LIVE"), *disk_name = getenv("POWER_DISK");
    const char *cut = getenv("POWER_CUT_AT");
    if (!live_name || !disk_name || !cut) return;
    char path[PATH_MAX + 16];
    snprintf(live, sizeof live, "%s", live_name);
    snprintf(disk, sizeof disk, "%s", disk_name);
    snprintf(path, sizeof path, "%s/journal", disk);
    live_length = strlen(live);
    cut_at = atol(cut);
    dishonest = getenv("POWER_DISHONEST") != NULL;
    read_journal(path);
    journal = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_APPEND | O_CLOEXEC, 0);
    if (journal < 0) fail("journal");
}

/* The path from the live directory on, or NULL if it is not below it. */
static const char *below(const char *path) {
    if (journal < 0 || strncmp(path, live, live_length) || path[live_length] != '/') return NULL;
    return path + live_length + 1;
}

static struct file *file_of(int fd) {
    return fd >= 0 && fd < DESCRIPTORS_MAX ? open_files[fd] : NULL;
}

/* Counts a call that changes something. With the lock held, so that nothing follows the cut. */
static void count_call(void) {
    if (++calls != cut_at) return;
    syscall(SYS_kill, getpid(), SIGKILL);
    for (;;) pause();
}

static void mark(struct file *file, off_t from, ssize_t bytes) {
    if (bytes <= 0) return;
    size_t last = (size_t)(from + bytes - 1) / PAGE;
    if (last >= file->pages) {
        size_t pages = (last + 1) * 2;
        file->dirty = realloc(file->dirty, pages);
        if (!file->dirty) fail("memory");
        memset(file->dirty + file->pages, 0, pages - file->pages);
        file->pages = pages;
    }
    memset(file->dirty + from / PAGE, 1, last - (size_t)(from / PAGE) + 1);
    if (from + bytes > file->length) {
        file->length = from + bytes;
        file->unsynced_length = 1;
    }
}

static void set_length(struct file *file, off_t length) {
    if (file->length == length) return;
    note("truncate %ld %lld\n", file->id, (long long)length);
    /* What was written past a shorter end is gone, and must not come back with a longer one. */
    if (length < file->length) mark(file, length, file->length - length);
    file->length = length;
    file->unsynced_length = 1;
}

/* Brings the written pages of a file to the disk, then what the journal holds about it. */
static void sync_file(int fd, struct file *file) {
    char path[PATH_MAX + 32], page[PAGE], source[64];
    snprintf(path, sizeof path, "%s/%ld", disk, file->id);
    snprintf(source, sizeof source, "/proc/self/fd/%d", fd);
    int from = (int)syscall(SYS_openat, AT_FDCWD, source, O_RDONLY | O_CLOEXEC, 0);
    int to = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (from < 0 || to < 0) fail(path);
    for (size_t i = 0; i < file->pages; i++) {
        if (!file->dirty[i]) continue;
        ssize_t bytes = syscall(SYS_pread64, from, page, PAGE, (off_t)i * PAGE);
        if (bytes < 0 || syscall(SYS_pwrite64, to, page, bytes, (off_t)i * PAGE) != bytes)
            fail(path);
        file->dirty[i] = 0;
    }
    if (file->unsynced_length) {
        if (syscall(SYS_ftruncate, to, file->length)) fail(path);
        note("commit\n");
        file->unsynced_length = 0;
    }
    syscall(SYS_close, from);
    syscall(SYS_close, to);
}

static int sync_any(int fd) {
    struct stat status;
    char link[64], path[PATH_MAX];
    if (fstat(fd, &status)) return -1;
    pthread_mutex_lock(&lock);
    struct file *file = file_of(fd);
    if (file) {
        count_call();
        sync_file(fd, file);
    } else if (S_ISDIR(status.st_mode)) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t length = readlink(link, path, sizeof path - 1);
        path[length > 0 ? length : 0] = 0;
        if (below(path) || !strcmp(path, live)) {
            count_call();
            note("commit\n");
        }
    }
    pthread_mutex_unlock(&lock);
    return 0;
}

int fsync(int fd) { return sync_any(fd); }

int fdatasync(int fd) {
    if (dishonest) return 0;
    return sync_any(fd);
}

int openat(int folder, const char *path, int flags, ...) {
    mode_t mode = 0;
    if (flags & O_CREAT) {
        va_list arguments;
        va_start(arguments, flags);
        mode = va_arg(arguments, mode_t);
        va_end(arguments);
    }
    const char *name = below(path);
    if (!name) return (int)syscall(SYS_openat, folder, path, flags, mode);
    pthread_mutex_lock(&lock);
    struct file *file = find(name);
    if ((!file && flags & O_CREAT) || (file && flags & O_TRUNC)) count_call();
    int fd = (int)syscall(SYS_openat, folder, path, flags, mode);
    if (fd >= DESCRIPTORS_MAX) fail("too many descriptors");
    if (fd >= 0) {
        if (!file && flags & O_CREAT) {
            file = add(next_id, name);
            file->unsynced_length = 1;
            note("link %ld %s\n", file->id, name);
        } else if (file && flags & O_TRUNC) {
            set_length(file, 0);
        }
        open_files[fd] = file;
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

int openat64(int folder, const char *path, int flags, ...) __attribute__((alias("openat")));

int open(const char *path, int flags, ...) {
    mode_t mode = 0;
    if (flags & O_CREAT) {
        va_list arguments;
        va_start(arguments, flags);
        mode = va_arg(arguments, mode_t);
        va_end(arguments);
    }
    return openat(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...) __attribute__((alias("open")));

int creat(const char *path, mode_t mode) {
    return openat(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

int close(int fd) {
    pthread_mutex_lock(&lock);
    if (fd >= 0 && fd < DESCRIPTORS_MAX) open_files[fd] = NULL;
    int result = (int)syscall(SYS_close, fd);
    pthread_mutex_unlock(&lock);
    return result;
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
    struct file *file = file_of(fd);
    if (!file) return syscall(SYS_pwrite64, fd, bytes, count, at);
    pthread_mutex_lock(&lock);
    count_call();
    ssize_t written = syscall(SYS_pwrite64, fd, bytes, count, at);
    mark(file, at, written);
    pthread_mutex_unlock(&lock);
    return written;
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) {
    return pwrite64(fd, bytes, count, at);
}

ssize_t write(int fd, const void *bytes, size_t count) {
    struct file *file = file_of(fd);
    if (!file) return syscall(SYS_write, fd, bytes, count);
    pthread_mutex_lock(&lock);
    count_call();
    ssize_t written = syscall(SYS_write, fd, bytes, count);
    mark(file, lseek(fd, 0, SEEK_CUR) - written, written);
    pthread_mutex_unlock(&lock);
    return written;
}

/* As many bytes as the first vector holds: a short write, which every caller must expect. */
ssize_t writev(int fd, const struct iovec *vectors, int count) {
    if (!file_of(fd)) return syscall(SYS_writev, fd, vectors, count);
    return count > 0 ? write(fd, vectors[0].iov_base, vectors[0].iov_len) : 0;
}

int ftruncate(int fd, off_t length) {
    pthread_mutex_lock(&lock);
    struct file *file = file_of(fd);
    if (file) count_call();
    int result = (int)syscall(SYS_ftruncate, fd, length);
    if (file && !result) set_length(file, length);
    pthread_mutex_unlock(&lock);
    return result;
}

int ftruncate64(int fd, off64_t length) __attribute__((alias("ftruncate")));

static void forget(const char *name) {
    struct file *file = find(name);
    if (!file) return;
    free(file->path);
    file->path = NULL;
}

int unlink(const char *path) {
    const char *name = below(path);
    if (!name) return (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    pthread_mutex_lock(&lock);
    count_call();
    int result = (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    if (!result) {
        note("unlink %s\n", name);
        forget(name);
    }
    pthread_mutex_unlock(&lock);
    return result;
}

int rename(const char *from, const char *to) {
    const char *old_name = below(from), *new_name = below(to);
    if (!old_name || !new_name) return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    pthread_mutex_lock(&lock);
    count_call();
    int result = (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    struct file *file = find(old_name);
    if (!result && file) {
        note("rename %s %s\n", old_name, new_name);
        forget(new_name);
        free(file->path);
        if (!(file->path = strdup(new_name))) fail("memory");
        file->unsynced_length = 1;
    }
    pthread_mutex_unlock(&lock);
    return result;
}

int mkdir(const char *path, mode_t mode) {
    const char *name = below(path);
    if (!name) return (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
    pthread_mutex_lock(&lock);
    count_call();
    int result = (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
    if (!result) note("mkdir %s\n", name);
    pthread_mutex_unlock(&lock);
    return result;
}
