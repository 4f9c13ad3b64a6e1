/* Small I/O helpers: whole reads and writes, /proc files as strings, numbers from text. */
#ifndef CR_UTIL_IO_H
#define CR_UTIL_IO_H

#include <stdbool.h>
#include <sys/types.h>

#include "util/macro.h"

/* Reads exactly n bytes; -ENODATA on early end of file. */
int read_full(int fd, void *buf, size_t n) _must_check_;
int pread_full(int fd, void *buf, size_t n, off_t off) _must_check_;
int write_full(int fd, const void *buf, size_t n) _must_check_;
int pwrite_full(int fd, const void *buf, size_t n, off_t off) _must_check_;

/*
 * The whole file as a NUL-terminated heap string (caller frees). dirfd may be AT_FDCWD.
 * Suits /proc: sizes are not believed. *ret_len (may be NULL) excludes the NUL.
 * -EFBIG beyond max bytes.
 */
int read_file_at(int dirfd, const char *path, size_t max, char **ret, size_t *ret_len) _must_check_;
#define READ_FILE_MAX (64u << 20)
/*
 * Idem, of /proc/PID/smaps. The kernel makes its text a page at a time, by whole areas; one that does
 * not fit any more is thrown away and made anew at the next read, by one more walk over the area's pages.
 * So less than a page is asked for: then it ends with the area that makes enough.
 */
int read_smaps_at(int proc_fd, char **ret) _must_check_;

/* One write(2) of text to an existing file, as sysfs, procfs and cgroupfs want it. */
int write_file_at(int dirfd, const char *path, const char *text) _must_check_;
int write_filef(const char *text, const char *path_fmt, ...) _printf_(2, 3) _must_check_;

/*
 * The next stretch of a file at or behind *off that is no hole, as far as the first size bytes go:
 * 1, and [*off, *ret_end); 0: none.
 */
int file_next_data(int fd, uint64_t size, uint64_t *off, uint64_t *ret_end) _must_check_;

/* A directory's entries, through a descriptor of its own. NULL with errno. */
DIR *dir_open_at(int dirfd, const char *path);

/* readlinkat into a heap string. */
int readlink_at(int dirfd, const char *path, char **ret) _must_check_;

/* Whole-string conversions; -EINVAL on anything else than one number, -ERANGE when too large. */
int parse_u64(const char *s, int base, uint64_t *ret) _must_check_;
int parse_u32(const char *s, int base, uint32_t *ret) _must_check_;
int parse_int(const char *s, int *ret) _must_check_;

/* A name in directory dir_fd, O_PATH or not, of the file st is of; heap. -ENOENT. */
struct stat;
int name_by_inode(int dir_fd, const struct stat *st, char **ret) _must_check_;

/* asprintf that returns NULL on failure. */
char *str_fmt(const char *fmt, ...) _printf_(1, 2);

bool str_starts(const char *s, const char *prefix);

#endif
