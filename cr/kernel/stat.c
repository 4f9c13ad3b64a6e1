#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "kernel/stat.h"
#include "util/io.h"

#define STAT_MAX	8192u
/* include/linux/sched.h of the kernel */
#define PF_EXITING	0x4u

/* Numbers of fields as the manual counts them. */
enum { FIELD_STATE = 3, FIELD_PPID, FIELD_PGRP, FIELD_SESSION, FIELD_TTY, FIELD_TTY_PGRP,
       FIELD_FLAGS, FIELD_THREADS = 20, FIELD_START = 22, FIELD_EXIT_SIGNAL = 38, FIELD_EXIT_CODE = 52 };

dev_t dev_of_kernel(uint32_t nr)
{
	return makedev(nr >> 8 & 0xfff, (nr & 0xff) | (nr >> 12 & 0xfff00));
}

int proc_stat_parse(const char *text, struct proc_stat *ret)
{
	/* A name may hold anything, a parenthesis too. */
	const char *begin = strchr(text, '('), *s = strrchr(text, ')');
	unsigned int field = FIELD_STATE;

	*ret = (struct proc_stat){ 0 };
	if (!begin || !s || s < begin || s[1] != ' ' || !s[2] || s[3] != ' ')
		return -EBADMSG;
	snprintf(ret->comm, sizeof(ret->comm), "%.*s", (int)MIN(s - begin - 1, 15), begin + 1);
	ret->state = s[2];
	for (s += 3; *s == ' '; s += strcspn(s, " \n")) {
		s++;
		switch (++field) {
		case FIELD_PPID:	ret->ppid = (pid_t)strtol(s, NULL, 10); break;
		case FIELD_PGRP:	ret->pgrp = (pid_t)strtol(s, NULL, 10); break;
		case FIELD_SESSION:	ret->session = (pid_t)strtol(s, NULL, 10); break;
		case FIELD_TTY:		ret->tty = dev_of_kernel((uint32_t)strtol(s, NULL, 10)); break;
		case FIELD_TTY_PGRP:	ret->tty_pgrp = (pid_t)strtol(s, NULL, 10); break;
		case FIELD_FLAGS:	ret->flags = (unsigned int)strtoul(s, NULL, 10); break;
		case FIELD_THREADS:	ret->n_threads = (unsigned int)strtoul(s, NULL, 10); break;
		case FIELD_START:	ret->start_ticks = strtoull(s, NULL, 10); break;
		case FIELD_EXIT_SIGNAL:	ret->exit_signal = (int)strtol(s, NULL, 10); break;
		case FIELD_EXIT_CODE:	ret->exit_code = (uint32_t)strtoul(s, NULL, 10); break;
		}
	}
	return field < FIELD_EXIT_CODE ? -EBADMSG : 0;
}

int proc_stat_read(int proc_fd, struct proc_stat *ret)
{
	_cleanup_free_ char *text = NULL;
	int r = read_file_at(proc_fd, "stat", STAT_MAX, &text, NULL);

	return r < 0 ? r : proc_stat_parse(text, ret);
}

int proc_stat_of(pid_t pid, struct proc_stat *ret)
{
	_cleanup_free_ char *text = NULL;
	char path[32];
	int r;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	r = read_file_at(AT_FDCWD, path, STAT_MAX, &text, NULL);
	return r < 0 ? r : proc_stat_parse(text, ret);
}

bool proc_stat_is_ending(const struct proc_stat *st)
{
	return st->flags & PF_EXITING || st->state == 'Z' || st->state == 'X';
}
