/*
 * What would have to be undone, written down in /run before it is done.
 *
 * One line for each step ("thaw /sys/fs/cgroup/...", "start nginx.service"). The phases' undo
 * functions take lines back from the end; when crkexec was killed, `crkexec recover` takes back
 * all of them. So there is one piece of code for each kind of undoing, and every one of them
 * may find its step not done, or undone already.
 */
#ifndef CRKEXEC_UNDO_H
#define CRKEXEC_UNDO_H

#include <stdbool.h>
#include <sys/types.h>

#include "util/macro.h"

#define UNDO_MAX_BYTES	(4 << 20)

struct undo_log {
	int fd;
	off_t end;
};

struct undo_kind {
	const char *name;
	const char *doing;
	int (*run)(const char *arg);
};
extern const struct undo_kind undo_kinds[];	/* undo_kinds.c; ends with a NULL name */

/* The file "undo" in dirfd; made when create. */
int undo_open(struct undo_log *log, int dirfd, bool create) _must_check_;
void undo_close(struct undo_log *log);
#define UNDO_LOG_INIT	{ .fd = -EBADF }

/* Before the step itself. arg holds no newline. */
int undo_push(struct undo_log *log, const char *kind, const char *arg) _must_check_;

/* A place to come back to. */
static inline off_t undo_mark(const struct undo_log *log)
{
	return log->end;
}

/*
 * Undoes everything after mark (0: all), last first. Goes on after errors; the first one is
 * returned, each is logged. What could not be undone stays in the file, to be tried again.
 */
int undo_rewind(struct undo_log *log, off_t mark, const struct undo_kind *kinds) _must_check_;

/* The steps after mark turned out not to have been taken. */
int undo_forget(struct undo_log *log, off_t mark) _must_check_;

/* Which phase it is in, for whoever finds the directory: file "phase" in dirfd. */
int undo_note_phase(int dirfd, const char *name) _must_check_;

#endif
