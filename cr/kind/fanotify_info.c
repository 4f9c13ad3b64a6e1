/*
 * fdinfo of a fanotify group (proc(5)):
 *
 *	fanotify flags:N event-flags:N					the group, not a mark
 *	fanotify ino:N sdev:N mflags:N mask:N ignored_mask:N fhandle-bytes:N ...
 *	fanotify mnt_id:N mflags:N mask:N ignored_mask:N
 *	fanotify sdev:N mflags:N mask:N ignored_mask:N
 *	fanotify mnt_ns:N mflags:N mask:N ignored_mask:N		Linux 6.15
 *
 * and, from it alone, whether the group decides on accesses.
 */
#include <string.h>

#include "kind/fanotify.h"

#define GROUP_LINE "\nfanotify flags:"

int fanotify_info_parse(const char *fdinfo, struct fanotify_info *ret)
{
	const char *s = strstr(fdinfo, GROUP_LINE);

	if (!s || sscanf(s, GROUP_LINE "%x event-flags:%x", &ret->flags, &ret->event_flags) != 2)
		return -EBADMSG;
	return 0;
}

const char *fanotify_next_mark(const char *text)
{
	while ((text = strstr(text, "\nfanotify ")) && str_starts(text, GROUP_LINE))
		text++;
	return text ? text + 1 : NULL;
}

int fanotify_line_parse(const char *line, struct fanotify_line *ret)
{
	unsigned int id = 0, sdev = 0;
	unsigned long long ino = 0;
	int at = 0;

	*ret = (struct fanotify_line){ 0 };
	if (sscanf(line, "fanotify ino:%llx sdev:%x %n", &ino, &sdev, &at) == 2 && at)
		ret->object = FANOTIFY_INODE;
	else if (sscanf(line, "fanotify sdev:%x %n", &sdev, &at) == 1 && at)
		ret->object = FANOTIFY_FILESYSTEM;
	else if (sscanf(line, "fanotify mnt_id:%x %n", &id, &at) == 1 && at)
		ret->object = FANOTIFY_MOUNT;
	else if (sscanf(line, "fanotify mnt_ns:%u %n", &id, &at) == 1 && at)
		ret->object = FANOTIFY_MNTNS;
	else
		return -EBADMSG;
	ret->mnt_id = id;
	ret->inode.sdev = sdev;
	ret->inode.ino = ino;
	if (sscanf(line + at, "mflags:%x mask:%x ignored_mask:%x", &ret->mflags, &ret->mask,
		   &ret->ignored_mask) != 3)
		return -EBADMSG;
	return ret->object == FANOTIFY_INODE ? watched_parse_handle(line, &ret->inode) : 0;
}

static bool asks_for_verdicts(const char *fdinfo)
{
	struct fanotify_line l;

	while ((fdinfo = fanotify_next_mark(fdinfo)))
		if (!fanotify_line_parse(fdinfo, &l) && (l.mask | l.ignored_mask) & FANOTIFY_VERDICT_MASK)
			return true;
	return false;
}

static int fd_check(struct dump_ctx *ctx, struct dump_process *p, const struct dump_fd *d)
{
	const char *fdinfo;
	int r;

	if (!link_is_anon(d->link, "fanotify"))
		return 0;
	LOG_SCOPE("fd %d", d->t_fd);
	r = fdinfo_read(ctx, p, d->t_fd, &fdinfo);
	if (r < 0 || !asks_for_verdicts(fdinfo))
		return r;
	return log_obstacle("stop the file access monitor before",
			    "%s: it decides on accesses to files (permission events); while it is stopped"
			    " they wait, those of the dump too", d->link);
}

int fanotify_check(struct dump_ctx *ctx, struct dump_process *p)
{
	int r = 0;

	LOG_SCOPE("process %d (%s)", p->pid, p->comm);
	for (size_t i = 0; i < p->n_fds && r >= 0; i++)
		r = fd_check(ctx, p, &p->fds[i]);
	return r;
}
