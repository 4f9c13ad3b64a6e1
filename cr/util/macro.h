/*
 * Ownership by scope: cleanup attributes and the few macros everything uses.
 * Ownership leaves a scope through take_fd() and take_ptr().
 */
#ifndef CR_UTIL_MACRO_H
#define CR_UTIL_MACRO_H

#include <dirent.h>
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
/* Each use has names of its own, so that they can be nested. */
#define PICK_(op, a, b, x, y)	\
	({ __typeof__(a) x = (a); __typeof__(b) y = (b); x op y ? x : y; })
#define PICK(op, a, b, n)	PICK_(op, a, b, CONCAT(_pick_a, n), CONCAT(_pick_b, n))
#define CONCAT_(a, b)	a##b
#define CONCAT(a, b)	CONCAT_(a, b)
#define MIN(a, b)	PICK(<, a, b, __COUNTER__)
#define MAX(a, b)	PICK(>, a, b, __COUNTER__)
#define ROUND_UP(v, to)	(((v) + (to) - 1) / (to) * (to))

#define PAGE_BYTES	4096u

#define _printf_(f, a)	__attribute__((format(printf, f, a)))
#define _must_check_	__attribute__((warn_unused_result))
#define _unused_	__attribute__((unused))
#define _cleanup_(fn)	__attribute__((cleanup(fn)))

static inline void close_fdp(int *fd)
{
	if (*fd >= 0) {
		int saved = errno;

		close(*fd);
		errno = saved;
	}
}

static inline void freep(void *p)
{
	free(*(void **)p);
}

static inline void fclosep(FILE **f)
{
	if (*f)
		fclose(*f);
}

static inline void closedirp(DIR **d)
{
	if (*d)
		closedir(*d);
}

#define _cleanup_close_		_cleanup_(close_fdp)
#define _cleanup_free_		_cleanup_(freep)
#define _cleanup_fclose_	_cleanup_(fclosep)
#define _cleanup_closedir_	_cleanup_(closedirp)

static inline int take_fd(int *fd)
{
	int r = *fd;

	*fd = -EBADF;
	return r;
}

#define take_ptr(p)	({ __typeof__(p) _p = (p); (p) = NULL; _p; })

/* The negative of errno, never 0: for "return neg_errno();" after a failed call. */
static inline int neg_errno(void)
{
	return errno > 0 ? -errno : -EIO;
}

#endif
