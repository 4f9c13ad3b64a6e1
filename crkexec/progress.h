/*
 * What an operator watches: on a terminal one line per phase that fills up, otherwise a plain
 * line when a phase has ended. Nothing is written once filesystems are frozen: the output may
 * be a file on one of them.
 */
#ifndef CRKEXEC_PROGRESS_H
#define CRKEXEC_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
	int fd, kept_fd;	/* kept_fd: what fd was, while it must not wait */
	bool tty, quiet;	/* quiet: also while filesystems are frozen */
	char name[24];		/* of the phase being shown */
};

void progress_init(struct progress *p, int fd);
void progress_begin(struct progress *p, const char *name, const char *doing);
/* Replaces the text behind the phase's name while it runs. Terminals only. */
void progress_detail(struct progress *p, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* result as phases give it; the detail is printed behind the time. */
void progress_end(struct progress *p, const char *name, int result, uint64_t usec,
		  const char *detail);
/* A line of its own between the phases. */
void progress_line(struct progress *p, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/*
 * Between these two nothing waits for a terminal that is stopped (control-S) or a pipe that nobody
 * reads: services stand still, and rather a line is lost. For all that is written to fd, also by
 * others. A file, a socket and what cannot be opened anew go on to wait.
 */
void progress_hurry(struct progress *p);
void progress_no_hurry(struct progress *p);

/* "1.5 GiB", "12 KiB": static storage, four calls deep. */
const char *bytes_text(uint64_t bytes);

#endif
