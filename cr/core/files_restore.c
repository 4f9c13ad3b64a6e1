/*
 * Files made again in the engine and handed to the tasks.
 *
 * The engine creates each struct file once and keeps a descriptor; every task takes its copies
 * with pidfd_getfd(2), called there by batch. Nothing is passed over sockets. What depends on
 * the caller (epoll's keys, POSIX locks) follows by batch when the table is complete.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>

#include "core/files.h"
#include "core/files_restore.h"
#include "kind/kind.h"
#include "ns/ns.h"

struct restore_file *restore_file_find(struct restore_ctx *ctx, uint32_t id)
{
	return map_get(&ctx->files_by_id, id);
}

/* An owner of SIGIO that is a thread: threads are made after the files. */
struct late_fown {
	struct late_fown *next;
	struct restore_file *f;
	FownEntry *fown;
	uint32_t tid;
};

enum owner_is { OWNER_UNKNOWN, OWNER_NOW, OWNER_LATER };

static enum owner_is owner_find(struct restore_ctx *ctx, const FownEntry *fown)
{
	for (size_t i = 0; i < ctx->n_procs; i++) {
		const PstreeEntry *pst = ctx->procs[i].pst;

		if (!pst)
			continue;
		if (fown->pid == (fown->pid_type == F_OWNER_PGRP ? pst->pgid : pst->pid))
			return OWNER_NOW;
		for (size_t k = 0; fown->pid_type == F_OWNER_TID && k < pst->n_threads; k++)
			if (pst->threads[k] == fown->pid)
				return OWNER_LATER;
	}
	return OWNER_UNKNOWN;
}

/*
 * The setter's ids are those inside the tree's user namespace; the kernel wants ours. An owner
 * that is not of the tree would get signals that are not for it.
 */
static int fown_prepare(struct restore_ctx *ctx, struct restore_file *f)
{
	ProtobufCMessage *sub = file_sub_message(f->fe);
	FownEntry *fown = sub ? file_fown(sub) : NULL;
	struct late_fown *late;

	if (!fown || !fown->pid)
		return 0;
	fown->uid = ns_restore_uid(ctx, fown->uid);
	fown->euid = ns_restore_uid(ctx, fown->euid);
	switch (owner_find(ctx, fown)) {
	case OWNER_NOW:
		fown->pid = (uint32_t)(fown->pid_type == F_OWNER_PGRP ? restore_pgid(ctx, fown->pid) :
				       restore_pid(ctx, fown->pid));
		return fown->pid ? 0 : log_fail(-ESRCH, "its SIGIO owner is not there");
	case OWNER_LATER:
		late = ARENA_NEW(&ctx->arena, struct late_fown);
		if (!late)
			return log_err(-ENOMEM, "SIGIO owner");
		*late = (struct late_fown){ ctx->late_fowns, f, fown, fown->pid };
		ctx->late_fowns = late;
		break;
	default:
		log_warn("its SIGIO owner %u is not in the tree: it comes back without", fown->pid);
	}
	fown->pid = 0;
	return 0;
}

static int late_fowns_set(struct restore_ctx *ctx)
{
	for (struct late_fown *l = ctx->late_fowns; l; l = l->next) {
		int r;

		if (l->f->fd < 0)
			continue;
		l->fown->pid = (uint32_t)restore_pid(ctx, l->tid);
		r = restore_flags_fown(l->f->fd, file_flags(ctx, l->f->fe), l->fown);
		if (r < 0)
			return log_err(r, "cannot make thread %u the SIGIO owner of file %u",
				       l->tid, l->f->id);
	}
	return 0;
}

/* The kind's restore(), or its finish(), in the network namespace of f if that is a socket. */
static int run_at_socket(struct restore_ctx *ctx, struct restore_file *f, int *ret_fd)
{
	struct ns_visit v;
	int r = ns_restore_visit_socket(ctx, f->fe, &v), left;

	if (r < 0)
		return r;
	r = ret_fd ? f->kind->restore(ctx, f, ret_fd) : f->kind->finish(ctx, f);
	left = ns_visit_end(&v);
	return left < 0 ? left : r;
}

int restore_file_get(struct restore_ctx *ctx, uint32_t id, int *ret_fd)
{
	struct restore_file *f = restore_file_find(ctx, id);
	int r, fd = -EBADF;

	if (!f)
		return log_fail(-EBADMSG, "file %u is not in files.img", id);
	if (f->fd >= 0) {
		*ret_fd = f->fd;
		return 0;
	}
	LOG_SCOPE("file %u (%s)", id, f->kind->name);
	if (f->in_progress)
		return log_fail(-EBADMSG, "files.img: it needs itself to be made");
	f->in_progress = true;
	r = fown_prepare(ctx, f);
	if (r >= 0)
		r = run_at_socket(ctx, f, &fd);
	f->in_progress = false;
	if (r < 0)
		return r;
	f->fd = fd;
	*ret_fd = fd;
	return 0;
}

struct mapped_node {
	struct mapped_node *next;
	uint32_t id;
	int mode, fd;
};

int restore_file_get_mapped(struct restore_ctx *ctx, uint32_t id, uint32_t fdflags, int *ret_fd)
{
	int mode = (int)fdflags & O_ACCMODE, r, fd, flags;
	struct mapped_node *n;

	r = restore_file_get(ctx, id, &fd);
	if (r < 0)
		return r;
	flags = fcntl(fd, F_GETFL);
	if (!(flags & O_PATH) && ((flags & O_ACCMODE) == mode || (flags & O_ACCMODE) == O_RDWR)) {
		*ret_fd = fd;
		return 0;
	}
	for (n = ctx->mapped_files; n; n = n->next) {
		if (n->id != id || n->mode != mode)
			continue;
		*ret_fd = n->fd;
		return 0;
	}
	n = ARENA_NEW(&ctx->arena, struct mapped_node);
	if (!n)
		return log_err(-ENOMEM, "file %u", id);
	r = reopen_fd(fd, mode, &n->fd);
	if (r < 0)
		return log_err(r, "cannot open file %u again for its mapping", id);
	n->id = id;
	n->mode = mode;
	n->next = ctx->mapped_files;
	ctx->mapped_files = n;
	*ret_fd = n->fd;
	return 0;
}

/*
 * One descriptor of the task. *next is the lowest free number of its table, which has only the
 * descriptors placed so far and the engine's pidfd above all: so the number that pidfd_getfd(2)
 * gives is known beforehand.
 */
static int fd_install(struct restore_ctx *ctx, struct batch *b, const FdinfoEntry *e,
		      uint32_t *next)
{
	bool cloexec = e->flags & FD_CLOEXEC;
	int r, fd, get, dup;

	r = restore_file_get(ctx, e->id, &fd);
	if (r < 0)
		return r;
	r = batch_make_room(b, 3, 0);
	if (r < 0)
		return r;
	get = batch_call(b, SYS_pidfd_getfd, ctx->pidfd_t_fd, fd, 0);
	if (e->fd == *next) {
		/* Already where it belongs; pidfd_getfd(2) always sets close-on-exec. */
		(*next)++;
		if (!cloexec)
			batch_call(b, SYS_fcntl, e->fd, F_SETFD, 0);
		return 0;
	}
	dup = batch_call(b, SYS_dup3, 0, e->fd, cloexec ? O_CLOEXEC : 0);
	batch_link(b, get, dup, 0);
	batch_call(b, SYS_close, *next);
	return 0;
}

/*
 * SIGIO's si_fd is the number that turned O_ASYNC on: the task's own, not the engine's. The
 * engine has turned it on already, so off first.
 */
static int async_by_task(struct restore_ctx *ctx, struct restore_file *f, struct batch *b)
{
	int flags = fcntl(f->fd, F_GETFL), r;

	if (!(file_flags(ctx, f->fe) & O_ASYNC) || flags < 0)
		return 0;
	r = batch_make_room(b, 2, 0);
	if (r < 0)
		return r;
	batch_call(b, SYS_fcntl, f->t_fd, F_SETFL, flags & ~O_ASYNC);
	batch_call(b, SYS_fcntl, f->t_fd, F_SETFL, flags);
	return 0;
}

static int fds_attach(struct restore_ctx *ctx, struct restore_process *p, struct batch *b)
{
	int r;

	for (size_t i = 0; i < p->n_fds; i++) {
		struct restore_file *f = restore_file_find(ctx, p->fds[i]->id);

		if (f->owner != p || f->t_fd != (int)p->fds[i]->fd)
			continue;
		LOG_SCOPE("fd %d (%s)", f->t_fd, f->kind->name);
		r = async_by_task(ctx, f, b);
		if (r >= 0 && f->kind->attach)
			r = f->kind->attach(ctx, f, p, b);
		if (r < 0)
			return r;
	}
	return 0;
}

int restore_files_begin(struct restore_ctx *ctx)
{
	for (size_t i = 0; kinds[i]; i++) {
		int r = kinds[i]->begin ? kinds[i]->begin(ctx) : 0;

		if (r < 0)
			return r;
	}
	return 0;
}

int restore_fds_install(struct restore_ctx *ctx, struct restore_process *p)
{
	_cleanup_free_ struct batch *b = NULL;
	uint32_t next = 0;
	int r;

	if (p->shares_fds || !p->n_threads)
		return 0;
	LOG_SCOPE("process %u", p->pst->pid);
	b = malloc(sizeof(*b));
	if (!b)
		return log_err(-ENOMEM, "descriptors");
	batch_begin(b, &p->threads[0].task);
	for (size_t i = 0; i < p->n_fds; i++) {
		LOG_SCOPE("fd %u", p->fds[i]->fd);
		r = fd_install(ctx, b, p->fds[i], &next);
		if (r < 0)
			return r;
	}
	r = restore_locks_files(ctx, p);
	if (r < 0)
		return r;
	r = fds_attach(ctx, p, b);
	if (r < 0)
		return r;
	r = restore_locks_calls(ctx, p, b);
	if (r < 0)
		return r;
	r = batch_run(b);
	return r < 0 ? log_err(r, "cannot install its descriptors") : 0;
}

static void directory_close(struct restore_ctx *ctx, uint32_t id)
{
	struct restore_file *f = restore_file_find(ctx, id);

	if (!f || f->owner)
		return;
	close_fdp(&f->fd);
	f->fd = -EBADF;
}

/* All are in theirs, and nobody else has these open: that they are closed would be heard, too. */
static void directories_close(struct restore_ctx *ctx)
{
	for (size_t i = 0; i < ctx->n_procs; i++) {
		const FsEntry *fs = ctx->procs[i].fs;

		if (!fs)
			continue;
		directory_close(ctx, fs->cwd_id);
		directory_close(ctx, fs->root_id);
		for (size_t k = 1; k < ctx->procs[i].n_threads; k++) {
			fs = ctx->procs[i].threads[k].core->thread_core->own_fs;
			if (!fs)
				continue;
			directory_close(ctx, fs->cwd_id);
			directory_close(ctx, fs->root_id);
		}
	}
}

int restore_files_watch(struct restore_ctx *ctx)
{
	for (size_t i = 0; kinds[i]; i++) {
		int r = kinds[i]->restore_queued ? kinds[i]->restore_queued(ctx) : 0;

		if (r < 0)
			return r;
	}
	for (size_t i = 0; kinds[i]; i++)
		if (kinds[i]->settled)
			kinds[i]->settled(ctx);
	directories_close(ctx);
	for (size_t i = 0; i < ctx->n_files; i++) {
		struct restore_file *f = ctx->files[i];
		int r;

		if (f->fd < 0 || !f->kind->watch)
			continue;
		LOG_SCOPE("file %u (%s)", f->id, f->kind->name);
		r = f->kind->watch(ctx, f);
		if (r < 0)
			return r;
	}
	return 0;
}

int restore_files_finish(struct restore_ctx *ctx)
{
	int late = late_fowns_set(ctx);

	if (late < 0)
		return late;
	for (size_t i = 0; i < ctx->n_files; i++) {
		struct restore_file *f = ctx->files[i];
		int r;

		if (f->fd < 0 || !f->kind->finish)
			continue;
		LOG_SCOPE("file %u (%s)", f->id, f->kind->name);
		r = run_at_socket(ctx, f, NULL);
		if (r < 0)
			return r;
	}
	return 0;
}

void restore_files_done(struct restore_ctx *ctx)
{
	for (size_t i = 0; kinds[i]; i++)
		if (kinds[i]->restore_done)
			kinds[i]->restore_done(ctx);
	for (struct mapped_node *n = ctx->mapped_files; n; n = n->next)
		close(n->fd);
	ctx->mapped_files = NULL;
	for (size_t i = 0; i < ctx->n_files; i++) {
		close_fdp(&ctx->files[i]->fd);
		ctx->files[i]->fd = -EBADF;
	}
	map_done(&ctx->files_by_id);
}
