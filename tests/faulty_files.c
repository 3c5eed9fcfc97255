/* Makes files behave as on weak, read-only or full file systems; see faulty_files.py.

The library is preloaded. Rules are in the variable FAULTS, or in a call of set_faults, one a line:

    PATTERN KIND VALUE [AFTER]

PATTERN is a shell pattern of absolute paths, in which * also matches /. The first rule of a kind
whose pattern matches a path holds for it. Calls that libc makes inside itself, such as those of
fwrite, are not seen.

    lock      flock and locks of fcntl fail with the errno VALUE
    sync      fsync and fdatasync fail with VALUE
    link      hard links fail with VALUE
    replace   renaming over a file that exists fails with VALUE
    move      renaming a folder fails with VALUE
    gap       renaming over a file deletes that, and takes VALUE milliseconds before it renames
    slow      every renaming takes VALUE milliseconds
    change    everything that changes a file or a folder fails with VALUE: a read-only file system
    grow      everything that takes space or inodes fails with VALUE, after AFTER such calls; the
              first call that fails, if it writes, still writes a half, as on a disk that is full
    seconds   times of files have no fractions of a second; VALUE is not used
*/

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

struct rule {
  char pattern[PATH_MAX];
  char kind[16];
  int value;
  long after;
  atomic_long calls;
};

static struct rule rules[32];
static atomic_int num_rules;

void set_faults(const char *line) {
  int count = 0;
  num_rules = 0; /* Other threads see no rule while the rules change. */
  while (line && *line && count < 32) {
    struct rule *rule = &rules[count];
    rule->after = rule->calls = 0;
    if (sscanf(line, "%4095s %15s %d %ld", rule->pattern, rule->kind, &rule->value, &rule->after) >= 3)
      count++;
    line = strchr(line, '\n');
    line += line != NULL;
  }
  num_rules = count;
}

__attribute__((constructor)) static void read_faults(void) { set_faults(getenv("FAULTS")); }

static struct rule *find(const char *path, const char *kind) {
  for (int i = 0; path && i < num_rules; i++)
    if (!strcmp(rules[i].kind, kind) && !fnmatch(rules[i].pattern, path, 0)) return &rules[i];
  return NULL;
}

/* Writes the absolute path of a path below a folder's descriptor, or of a descriptor if path is "". */
static const char *absolute(int folder, const char *path, char *out) {
  char link[64];
  ssize_t size;
  if (path[0] == '/') return path;
  if (folder == AT_FDCWD) {
    if (!getcwd(out, PATH_MAX)) return NULL;
  } else {
    snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    if ((size = readlink(link, out, PATH_MAX - 1)) < 0) return NULL;
    out[size] = 0;
  }
  if (path[0]) {
    size = strlen(out);
    snprintf(out + size, PATH_MAX - size, "/%s", path);
  }
  return out;
}

/* Returns whether a call must fail, and sets errno. */
static int fails(const char *kind, int folder, const char *path) {
  char out[PATH_MAX];
  int before = errno;
  struct rule *rule = path ? find(absolute(folder, path, out), kind) : NULL;
  errno = before;
  if (!rule || atomic_fetch_add(&rule->calls, 1) < rule->after) return 0;
  errno = rule->value;
  return 1;
}

static int changes(int folder, const char *path) { return fails("change", folder, path); }

/* Returns how much of a write to do before the disk is full: all, a half, or nothing. */
static ssize_t room(int file, size_t size) {
  char out[PATH_MAX];
  int before = errno;
  if (changes(file, "")) return -1;
  struct rule *rule = find(absolute(file, "", out), "grow");
  errno = before;
  long calls = rule ? atomic_fetch_add(&rule->calls, 1) : 0;
  if (!rule || calls < rule->after) return size;
  if (calls == rule->after && size > 1) return size / 2;
  errno = rule->value;
  return -1;
}

static int grows(int folder, const char *path) {
  return changes(folder, path) || fails("grow", folder, path);
}

#define REAL(type, name, ...) ((type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name))

/* ------------------------------------------------------------------------------- Opening */

static int opening_fails(int folder, const char *path, int flags) {
  struct stat status;
  int before = errno;
  if (!(flags & (O_CREAT | O_WRONLY | O_RDWR | O_TRUNC))) return 0;
  int is_new = (flags & O_CREAT) && fstatat(folder, path, &status, 0) != 0;
  if (flags & O_TMPFILE & ~O_DIRECTORY) is_new = 1;
  errno = before;
  if (is_new) return grows(folder, path);
  return changes(folder, path);
}

#define OPEN(name) \
  int name(const char *path, int flags, ...) { \
    va_list more; \
    va_start(more, flags); \
    mode_t mode = va_arg(more, mode_t); \
    va_end(more); \
    if (opening_fails(AT_FDCWD, path, flags)) return -1; \
    return REAL(int, name, const char *, int, ...)(path, flags, mode); \
  }
OPEN(open)
OPEN(open64)

#define OPENAT(name) \
  int name(int folder, const char *path, int flags, ...) { \
    va_list more; \
    va_start(more, flags); \
    mode_t mode = va_arg(more, mode_t); \
    va_end(more); \
    if (opening_fails(folder, path, flags)) return -1; \
    return REAL(int, name, int, const char *, int, ...)(folder, path, flags, mode); \
  }
OPENAT(openat)
OPENAT(openat64)

#define FOPEN(name) \
  FILE *name(const char *path, const char *mode) { \
    int flags = mode[0] == 'r' ? (strchr(mode, '+') ? O_RDWR : 0) : O_WRONLY | O_CREAT; \
    if (opening_fails(AT_FDCWD, path, flags)) return NULL; \
    return REAL(FILE *, name, const char *, const char *)(path, mode); \
  }
FOPEN(fopen)
FOPEN(fopen64)

/* ------------------------------------------------------------------------------- Writing */

#define SIZED(name, declared, passed, ...) \
  ssize_t name declared { \
    if (size && (ssize_t)(size = room(file, size)) < 0) return -1; \
    return REAL(ssize_t, name, __VA_ARGS__) passed; \
  }
SIZED(write, (int file, const void *bytes, size_t size), (file, bytes, size), int, const void *, size_t)
SIZED(pwrite, (int file, const void *bytes, size_t size, off_t at), (file, bytes, size, at), int,
      const void *, size_t, off_t)
SIZED(pwrite64, (int file, const void *bytes, size_t size, off64_t at), (file, bytes, size, at), int,
      const void *, size_t, off64_t)

#define WRITE(name, declared, passed, ...) \
  ssize_t name declared { \
    if (grows(file, "")) return -1; \
    return REAL(ssize_t, name, __VA_ARGS__) passed; \
  }
WRITE(writev, (int file, const struct iovec *parts, int count), (file, parts, count), int,
      const struct iovec *, int)
WRITE(pwritev64v2, (int file, const struct iovec *parts, int count, off64_t at, int flags),
      (file, parts, count, at, flags), int, const struct iovec *, int, off64_t, int)
WRITE(sendfile64, (int file, int from, off64_t *at, size_t size), (file, from, at, size), int, int,
      off64_t *, size_t)

ssize_t copy_file_range(int from, off64_t *at, int file, off64_t *to, size_t size, unsigned flags) {
  if (grows(file, "")) return -1;
  return REAL(ssize_t, copy_file_range, int, off64_t *, int, off64_t *, size_t, unsigned)(
      from, at, file, to, size, flags);
}

/* ------------------------------------------------------------------------------- Folders, names */

int mkdir(const char *path, mode_t mode) {
  struct stat status;
  if (stat(path, &status) != 0 && grows(AT_FDCWD, path)) return -1;
  return REAL(int, mkdir, const char *, mode_t)(path, mode);
}

int mkdirat(int folder, const char *path, mode_t mode) {
  struct stat status;
  if (fstatat(folder, path, &status, 0) != 0 && grows(folder, path)) return -1;
  return REAL(int, mkdirat, int, const char *, mode_t)(folder, path, mode);
}

#define CHANGE(name, folder, path, declared, passed, ...) \
  int name declared { \
    if (changes(folder, path)) return -1; \
    return REAL(int, name, __VA_ARGS__) passed; \
  }
CHANGE(unlink, AT_FDCWD, path, (const char *path), (path), const char *)
CHANGE(rmdir, AT_FDCWD, path, (const char *path), (path), const char *)
CHANGE(unlinkat, folder, path, (int folder, const char *path, int flags), (folder, path, flags), int,
       const char *, int)
CHANGE(chmod, AT_FDCWD, path, (const char *path, mode_t mode), (path, mode), const char *, mode_t)
CHANGE(truncate64, AT_FDCWD, path, (const char *path, off64_t size), (path, size), const char *,
       off64_t)
CHANGE(utimensat, folder, path,
       (int folder, const char *path, const struct timespec times[2], int flags),
       (folder, path, times, flags), int, const char *, const struct timespec *, int)

int access(const char *path, int mode) {
  if ((mode & W_OK) && changes(AT_FDCWD, path)) return -1;
  return REAL(int, access, const char *, int)(path, mode);
}

static int link_fails(int folder, const char *path) {
  return fails("link", folder, path) || grows(folder, path);
}
int link(const char *from, const char *to) {
  if (link_fails(AT_FDCWD, to)) return -1;
  return REAL(int, link, const char *, const char *)(from, to);
}
int linkat(int source, const char *from, int target, const char *to, int flags) {
  if (link_fails(target, to)) return -1;
  return REAL(int, linkat, int, const char *, int, const char *, int)(source, from, target, to, flags);
}

static int renaming_fails(int source, const char *from, int target, const char *to) {
  char out[PATH_MAX];
  struct stat before, after;
  struct rule *rule;
  int exists = fstatat(target, to, &after, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(after.st_mode);
  int is_folder = fstatat(source, from, &before, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(before.st_mode);
  if (changes(source, from) || changes(target, to)) return 1;
  if (is_folder && fails("move", target, to)) return 1;
  if (exists && fails("replace", target, to)) return 1;
  if ((rule = find(absolute(target, to, out), "slow"))) usleep(1000 * rule->value);
  if (exists && (rule = find(absolute(target, to, out), "gap"))) {
    unlinkat(target, to, 0);
    usleep(1000 * rule->value);
  }
  return 0;
}
int rename(const char *from, const char *to) {
  if (renaming_fails(AT_FDCWD, from, AT_FDCWD, to)) return -1;
  return REAL(int, rename, const char *, const char *)(from, to);
}
int renameat(int source, const char *from, int target, const char *to) {
  if (renaming_fails(source, from, target, to)) return -1;
  return REAL(int, renameat, int, const char *, int, const char *)(source, from, target, to);
}
int renameat2(int source, const char *from, int target, const char *to, unsigned flags) {
  if (renaming_fails(source, from, target, to)) return -1;
  return REAL(int, renameat2, int, const char *, int, const char *, unsigned)(
      source, from, target, to, flags);
}

/* ------------------------------------------------------------------------------- Locks, flushing */

int flock(int file, int how) {
  if (fails("lock", file, "")) return -1;
  return REAL(int, flock, int, int)(file, how);
}

#define FCNTL(name) \
  int name(int file, int command, ...) { \
    va_list more; \
    va_start(more, command); \
    void *argument = va_arg(more, void *); \
    va_end(more); \
    int locks = command == F_SETLK || command == F_SETLKW || command == F_OFD_SETLK || \
                command == F_OFD_SETLKW; \
    if (locks && fails("lock", file, "")) return -1; \
    return REAL(int, name, int, int, ...)(file, command, argument); \
  }
FCNTL(fcntl)
FCNTL(fcntl64)

#define SYNC(name) \
  int name(int file) { \
    if (fails("sync", file, "")) return -1; \
    return REAL(int, name, int)(file); \
  }
SYNC(fsync)
SYNC(fdatasync)

/* ------------------------------------------------------------------------------- Times */

#define CUT(folder, path) \
  if (done == 0 && find(absolute(folder, path, out), "seconds")) { \
    status->st_mtim.tv_nsec = status->st_ctim.tv_nsec = status->st_atim.tv_nsec = 0; \
  } \
  return done;
#define STAT(name, type) \
  int name(const char *path, type *status) { \
    char out[PATH_MAX]; \
    int done = REAL(int, name, const char *, type *)(path, status); \
    CUT(AT_FDCWD, path) \
  }
STAT(stat, struct stat)
STAT(stat64, struct stat64)
STAT(lstat, struct stat)
STAT(lstat64, struct stat64)
#define FSTAT(name, type) \
  int name(int file, type *status) { \
    char out[PATH_MAX]; \
    int done = REAL(int, name, int, type *)(file, status); \
    CUT(file, "") \
  }
FSTAT(fstat, struct stat)
FSTAT(fstat64, struct stat64)
#define FSTATAT(name, type) \
  int name(int folder, const char *path, type *status, int flags) { \
    char out[PATH_MAX]; \
    int done = REAL(int, name, int, const char *, type *, int)(folder, path, status, flags); \
    CUT(folder, path) \
  }
FSTATAT(fstatat, struct stat)
FSTATAT(fstatat64, struct stat64)

/* The names before glibc 2.33, which programs for older systems call. */
int __xstat(int version, const char *path, struct stat *status) { return stat(path, status); }
int __xstat64(int version, const char *path, struct stat64 *status) { return stat64(path, status); }
int __lxstat(int version, const char *path, struct stat *status) { return lstat(path, status); }
int __lxstat64(int version, const char *path, struct stat64 *status) { return lstat64(path, status); }
int __fxstat(int version, int file, struct stat *status) { return fstat(file, status); }
int __fxstat64(int version, int file, struct stat64 *status) { return fstat64(file, status); }
int __fxstatat(int version, int folder, const char *path, struct stat *status, int flags) {
  return fstatat(folder, path, status, flags);
}
int __fxstatat64(int version, int folder, const char *path, struct stat64 *status, int flags) {
  return fstatat64(folder, path, status, flags);
}
