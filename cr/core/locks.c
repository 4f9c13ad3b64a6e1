/*
 * File locks: POSIX (owned by a process), flock(2) and OFD (owned by a struct file), leases.
 *
 *   dump     the "lock:" lines of fdinfo, which show a lock on the descriptor it was set by
 *   restore  flock(2) and F_OFD_SETLK on the engine's descriptor, which is the same struct
 *            file; F_SETLK and F_SETLEASE by the task itself
 *
 * A POSIX lock goes away when any descriptor of the file is closed by its owner: they are set
 * when the descriptor table is complete.
 */
#include <ctype.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/syscall.h>

#include "core/files.h"
#include "core/files_dump.h"

#define LOCK_TYPE_BREAKING 4u

/* "1: POSIX  ADVISORY  WRITE 712 fe:00:1234 0 EOF" after "lock:\t". */
int lock_line_parse(const char *line, struct lock_line *ret)
{
	char kind[16], state[16], mode[16], end[24];
	long long pid, start, last;
	unsigned long long ino;
	unsigned int major, minor;
	char *rest;

	*ret = (struct lock_line){ 0 };
	if (sscanf(line, "%*d: %15s %15s %15s %lld %x:%x:%llu %lld %23s", kind, state, mode, &pid,
		   &major, &minor, &ino, &start, end) != 9)
		return -EBADMSG;
	ret->flag = !strcmp(kind, "POSIX") ? LOCK_FLAG_POSIX :
		    !strcmp(kind, "FLOCK") ? LOCK_FLAG_FLOCK :
		    !strcmp(kind, "OFDLCK") ? LOCK_FLAG_OFD :
		    !strcmp(kind, "LEASE") ? LOCK_FLAG_LEASE : 0;
	ret->type = !strcmp(mode, "READ") ? F_RDLCK : !strcmp(mode, "WRITE") ? F_WRLCK :
		    !strcmp(mode, "UNLCK") ? F_UNLCK : UINT32_MAX;
	if (ret->type == UINT32_MAX || start < 0)
		return -EBADMSG;
	if (ret->flag == LOCK_FLAG_LEASE && !strcmp(state, "BREAKING"))
		ret->type |= LOCK_TYPE_BREAKING;
	ret->pid = pid;
	ret->start = start;
	if (!strcmp(end, "EOF"))
		return 0;
	errno = 0;
	last = strtoll(end, &rest, 10);
	if (errno || *rest || last < start || last == INT64_MAX)
		return -EBADMSG;
	ret->len = last - start + 1;
	return 0;
}

static int lock_put(struct dump_ctx *ctx, struct dump_process *p, int t_fd,
		    const struct lock_line *l)
{
	struct files_state *s = dump_files_state(ctx);
	FileLockEntry e = FILE_LOCK_ENTRY__INIT;
	struct image_writer *w = NULL;
	int r;

	r = dump_writer(ctx, &s->w_locks, &image_filelocks, &w);
	if (r < 0 || !w)
		return r;
	e.flag = l->flag;
	e.type = l->type;
	e.pid = (int32_t)p->pid_virtual;
	e.fd = t_fd;
	e.start = l->start;
	e.len = l->len;
	r = image_put(w, &e.base);
	return r < 0 ? log_err(r, "cannot write filelocks.img") : 0;
}

static int lock_dump(struct dump_ctx *ctx, struct dump_process *p, const struct dump_fd *d,
		     const char *line)
{
	struct lock_line l;
	int r;

	r = lock_line_parse(line, &l);
	if (r < 0)
		return log_err(r, "lock line \"%.60s\" cannot be understood", line);
	if (!l.flag)
		return log_obstacle("release it before", "%s: a lock of unknown kind: %.60s",
				    d->file->link, line);
	if (!ctx->opts->file_locks)
		return log_obstacle("--file-locks saves it", "%s: holds a file lock: %.60s",
				    d->file->link, line);
	if (l.flag == LOCK_FLAG_LEASE && l.type & LOCK_TYPE_BREAKING)
		return log_obstacle("try again when it is gone",
				    "%s: a lease that is being broken", d->file->link);
	/* Of the struct file, however many descriptors show it. */
	if (l.flag != LOCK_FLAG_POSIX && (d->file->owner != p || d->file->t_fd != d->t_fd))
		return 0;
	return lock_put(ctx, p, d->t_fd, &l);
}

int dump_locks(struct dump_ctx *ctx, struct dump_process *p)
{
	for (size_t i = 0; i < p->n_fds; i++) {
		const struct dump_fd *d = &p->fds[i];
		const char *line = d->fdinfo;

		LOG_SCOPE("fd %d", d->t_fd);
		while ((line = strstr(line, "lock:\t"))) {
			_cleanup_free_ char *one = NULL;
			int r;

			line += strlen("lock:\t");
			one = strndup(line, strcspn(line, "\n"));
			if (!one)
				return log_err(-ENOMEM, "locks");
			r = dump_files_obstacle(ctx, lock_dump(ctx, p, d, one));
			if (r < 0)
				return r;
		}
	}
	return 0;
}

/* In a task's table no number names them, by which filelocks.img goes. */
int dump_locks_queued(struct dump_ctx *ctx)
{
	for (size_t i = 0; i < ctx->n_files; i++) {
		const struct dump_file *f = ctx->files[i];
		int r;

		if (f->t_fd >= 0 || !strstr(f->fdinfo, "lock:\t"))
			continue;
		r = log_obstacle("try again when it has been received",
				 "process %d (%s): %s holds a file lock, and waits in a socket's queue to be received",
				 f->owner->pid, f->owner->comm, f->link);
		r = dump_files_obstacle(ctx, r);
		if (r < 0)
			return r;
	}
	return 0;
}

int dump_locks_finish(struct dump_ctx *ctx)
{
	struct files_state *s = dump_files_state(ctx);
	int r = s ? image_close(take_ptr(s->w_locks)) : 0;

	return r < 0 ? log_err(r, "cannot write filelocks.img") : 0;
}

/* All locks of the images, grouped by the virtual pid of their holder. */
struct locks_state {
	FileLockEntry **locks;
	size_t n;
};

static int lock_check(struct restore_ctx *ctx, const FileLockEntry *e)
{
	bool flag_ok = e->flag == LOCK_FLAG_POSIX || e->flag == LOCK_FLAG_FLOCK ||
		       e->flag == LOCK_FLAG_OFD || e->flag == LOCK_FLAG_LEASE;

	if (!flag_ok || e->type > F_UNLCK || e->start < 0 || e->len < 0 ||
	    (e->len && e->start > INT64_MAX - e->len))
		return log_fail(-EBADMSG, "filelocks.img: lock %u/%u of process %d is out of range",
				e->flag, e->type, e->pid);
	if (e->pid <= 0 || !restore_process_find(ctx, (uint32_t)e->pid))
		return log_fail(-EBADMSG, "filelocks.img: process %d is not in the tree", e->pid);
	return 0;
}

static struct locks_state *locks_state(struct restore_ctx *ctx)
{
	struct locks_state **s = (struct locks_state **)&ctx->kind_state[FD_TYPES__UND];

	if (!*s)
		*s = ARENA_NEW(&ctx->arena, struct locks_state);
	return *s;
}

int restore_locks_load(struct restore_ctx *ctx)
{
	_cleanup_image_reader_ struct image_reader rd = { 0 };
	struct locks_state *s = locks_state(ctx);
	FileLockEntry *e, **slot;
	int r;

	if (!s)
		return log_err(-ENOMEM, "file locks");
	r = image_open_optional(ctx->store, &image_filelocks, &rd);
	if (r < 0)
		return log_err(r, "cannot open filelocks.img");
	while ((r = image_get(&rd, &ctx->arena, file_lock_entry, &e)) > 0) {
		r = lock_check(ctx, e);
		if (r < 0)
			return r;
		slot = ARENA_PUSH(&ctx->arena, s->locks, s->n);
		if (!slot)
			return log_err(-ENOMEM, "file locks");
		*slot = e;
	}
	return r;
}

static const FdinfoEntry *fd_of(const struct restore_process *p, int32_t fd)
{
	for (size_t i = 0; i < p->n_fds; i++)
		if (p->fds[i]->fd == (uint32_t)fd)
			return p->fds[i];
	return NULL;
}

static int lock_set(struct restore_ctx *ctx, const FdinfoEntry *fe, const FileLockEntry *e)
{
	struct flock fl = {
		.l_type = (short)e->type, .l_whence = SEEK_SET,
		.l_start = e->start, .l_len = e->len,
	};
	int r, fd;

	r = restore_file_get(ctx, fe->id, &fd);
	if (r < 0)
		return r;
	if (e->flag == LOCK_FLAG_FLOCK)
		r = flock(fd, (e->type == F_RDLCK ? LOCK_SH : LOCK_EX) | LOCK_NB);
	else
		r = fcntl(fd, F_OFD_SETLK, &fl);
	return r < 0 ? log_err(neg_errno(), "cannot take the file lock again") : 0;
}

int restore_locks_files(struct restore_ctx *ctx, struct restore_process *p)
{
	struct locks_state *s = locks_state(ctx);

	for (size_t i = 0; s && i < s->n; i++) {
		const FileLockEntry *e = s->locks[i];
		const FdinfoEntry *fe;
		int r;

		if ((uint32_t)e->pid != p->pst->pid)
			continue;
		LOG_SCOPE("lock on fd %d", e->fd);
		fe = fd_of(p, e->fd);
		if (!fe)
			return log_fail(-EBADMSG, "filelocks.img: there is no such descriptor");
		if (e->flag != LOCK_FLAG_FLOCK && e->flag != LOCK_FLAG_OFD)
			continue;
		r = lock_set(ctx, fe, e);
		if (r < 0)
			return r;
	}
	return 0;
}

int restore_locks_calls(struct restore_ctx *ctx, struct restore_process *p, struct batch *b)
{
	struct locks_state *s = locks_state(ctx);
	int r;

	for (size_t i = 0; s && i < s->n; i++) {
		const FileLockEntry *e = s->locks[i];
		struct flock fl = {
			.l_type = (short)e->type, .l_whence = SEEK_SET,
			.l_start = e->start, .l_len = e->len,
		};

		if ((uint32_t)e->pid != p->pst->pid)
			continue;
		r = batch_make_room(b, 1, sizeof(fl) + 16);
		if (r < 0)
			return r;
		if (e->flag == LOCK_FLAG_POSIX)
			batch_call(b, SYS_fcntl, e->fd, F_SETLK, batch_put(b, &fl, sizeof(fl)));
		else if (e->flag == LOCK_FLAG_LEASE)
			batch_call(b, SYS_fcntl, e->fd, F_SETLEASE, e->type);
	}
	return 0;
}
