/* Preloaded into a process: makes the n-th change of a file below a directory fail, or the process die there.
 *
 * rig(directory, n, what): what > 0 is an errno that the n-th call and all later ones return; KILL dies before the call;
 * TORN dies after half of what it should write. SQLite's anomaly tests do the same (https://www.sqlite.org/testing.html 3). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { KILL = -1, TORN = -2 };

static char below[4096];
static int left, action, struck;

void rig(const char *directory, int n, int what) {
    snprintf(below, sizeof below, "%s/", directory);
    left = n;
    action = what;
    struck = 0;
}

int rig_struck(void) { return struck; }

static int is_below(const char *path) { return below[0] && strncmp(path, below, strlen(below)) == 0; }

static int fd_is_below(int fd) {
    char link[64], path[4097];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = below[0] ? readlink(link, path, sizeof path - 2) : -1;
    if (length < 0) return 0;
    path[length] = '/'; /* so that the directory itself counts */
    path[length + 1] = 0;
    return is_below(path);
}

static int at_is_below(int fd, const char *path) { return path[0] == '/' ? is_below(path) : fd_is_below(fd); }

/* Whether the call is to fail now (errno is set), after `tear` has done half of it. */
static int fails(int counts) {
    if (!counts || left == 0 || --left > 0) return 0;
    left = struck = 1;
    if (action == KILL || action == TORN) kill(getpid(), SIGKILL);
    errno = action;
    return 1;
}

static int about_to_tear(int counts) { return counts && left == 1 && action == TORN; }

#define REAL(name) __typeof__(name) *real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

ssize_t write(int fd, const void *buffer, size_t size) {
    REAL(write);
    int counts = fd_is_below(fd);
    if (about_to_tear(counts)) real(fd, buffer, size / 2);
    return fails(counts) ? -1 : real(fd, buffer, size);
}

ssize_t pwrite(int fd, const void *buffer, size_t size, off_t at) {
    REAL(pwrite);
    int counts = fd_is_below(fd);
    if (about_to_tear(counts)) real(fd, buffer, size / 2, at);
    return fails(counts) ? -1 : real(fd, buffer, size, at);
}

ssize_t pwrite64(int fd, const void *buffer, size_t size, off64_t at) {
    REAL(pwrite64);
    int counts = fd_is_below(fd);
    if (about_to_tear(counts)) real(fd, buffer, size / 2, at);
    return fails(counts) ? -1 : real(fd, buffer, size, at);
}

int fsync(int fd) {
    REAL(fsync);
    return fails(fd_is_below(fd)) ? -1 : real(fd);
}

int fdatasync(int fd) {
    REAL(fdatasync);
    return fails(fd_is_below(fd)) ? -1 : real(fd);
}

int ftruncate(int fd, off_t size) {
    REAL(ftruncate);
    return fails(fd_is_below(fd)) ? -1 : real(fd, size);
}

int ftruncate64(int fd, off64_t size) {
    REAL(ftruncate64);
    return fails(fd_is_below(fd)) ? -1 : real(fd, size);
}

int unlink(const char *path) {
    REAL(unlink);
    return fails(is_below(path)) ? -1 : real(path);
}

int link(const char *from, const char *to) {
    REAL(link);
    return fails(is_below(to)) ? -1 : real(from, to);
}

int linkat(int from_fd, const char *from, int to_fd, const char *to, int flags) {
    REAL(linkat);
    return fails(is_below(to)) ? -1 : real(from_fd, from, to_fd, to, flags);
}

int mkdir(const char *path, mode_t mode) {
    REAL(mkdir);
    return fails(is_below(path)) ? -1 : real(path, mode);
}

int open(const char *path, int flags, ...) {
    REAL(open);
    va_list rest;
    va_start(rest, flags);
    mode_t mode = va_arg(rest, mode_t);
    va_end(rest);
    return fails((flags & O_CREAT) && is_below(path)) ? -1 : real(path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    REAL(open64);
    va_list rest;
    va_start(rest, flags);
    mode_t mode = va_arg(rest, mode_t);
    va_end(rest);
    return fails((flags & O_CREAT) && is_below(path)) ? -1 : real(path, flags, mode);
}

int openat(int at, const char *path, int flags, ...) {
    REAL(openat);
    va_list rest;
    va_start(rest, flags);
    mode_t mode = va_arg(rest, mode_t);
    va_end(rest);
    return fails((flags & O_CREAT) && at_is_below(at, path)) ? -1 : real(at, path, flags, mode);
}

int openat64(int at, const char *path, int flags, ...) {
    REAL(openat64);
    va_list rest;
    va_start(rest, flags);
    mode_t mode = va_arg(rest, mode_t);
    va_end(rest);
    return fails((flags & O_CREAT) && at_is_below(at, path)) ? -1 : real(at, path, flags, mode);
}

int unlinkat(int at, const char *path, int flags) {
    REAL(unlinkat);
    return fails(at_is_below(at, path)) ? -1 : real(at, path, flags);
}

int rename(const char *from, const char *to) {
    REAL(rename);
    return fails(is_below(to)) ? -1 : real(from, to);
}

int renameat(int from_at, const char *from, int to_at, const char *to) {
    REAL(renameat);
    return fails(at_is_below(to_at, to)) ? -1 : real(from_at, from, to_at, to);
}

int fchmod(int fd, mode_t mode) {
    REAL(fchmod);
    return fails(fd_is_below(fd)) ? -1 : real(fd, mode);
}

int fchown(int fd, uid_t owner, gid_t group) {
    REAL(fchown);
    return fails(fd_is_below(fd)) ? -1 : real(fd, owner, group);
}
