/*
 * files.img and fdinfo-N.img read back, with everything checked that the rest relies on: each
 * entry has the sub-message of its type, ids are unique, descriptors name files of their type.
 */
#include <string.h>
#include <sys/resource.h>

#include "core/files.h"
#include "core/files_restore.h"
#include "kind/kind.h"

/* The field of file_entry that belongs to each type. */
static const struct {
	FdTypes type;
	const char *field;
} sub_messages[] = {
	{ FD_TYPES__REG, "reg" },	{ FD_TYPES__PIPE, "pipe" },
	{ FD_TYPES__FIFO, "fifo" },	{ FD_TYPES__INETSK, "isk" },
	{ FD_TYPES__UNIXSK, "usk" },	{ FD_TYPES__EVENTFD, "efd" },
	{ FD_TYPES__EVENTPOLL, "epfd" },	{ FD_TYPES__INOTIFY, "ify" },
	{ FD_TYPES__SIGNALFD, "sgfd" },	{ FD_TYPES__PACKETSK, "psk" },
	{ FD_TYPES__TTY, "tty" },	{ FD_TYPES__FANOTIFY, "ffy" },
	{ FD_TYPES__NETLINKSK, "nlsk" },	{ FD_TYPES__NS, "nsf" },
	{ FD_TYPES__TUNF, "tunf" },	{ FD_TYPES__EXT, "ext" },
	{ FD_TYPES__TIMERFD, "tfd" },	{ FD_TYPES__MEMFD, "memfd" },
	{ FD_TYPES__BPFMAP, "bpf" },	{ FD_TYPES__PIDFD, "pidfd" },
	{ FD_TYPES__IO_URING, "uring" },
};

ProtobufCMessage *file_sub_message(const FileEntry *fe)
{
	const ProtobufCFieldDescriptor *fd;

	for (size_t i = 0; i < ARRAY_SIZE(sub_messages); i++) {
		if (sub_messages[i].type != fe->type)
			continue;
		fd = protobuf_c_message_descriptor_get_field_by_name(fe->base.descriptor,
								     sub_messages[i].field);
		return fd ? *(ProtobufCMessage *const *)((const char *)fe + fd->offset) : NULL;
	}
	return NULL;
}

FownEntry *file_fown(ProtobufCMessage *sub)
{
	const ProtobufCFieldDescriptor *fd;

	fd = protobuf_c_message_descriptor_get_field_by_name(sub->descriptor, "fown");
	return fd ? *(FownEntry **)((char *)sub + fd->offset) : NULL;
}

uint32_t file_flags(struct restore_ctx *ctx, const FileEntry *fe)
{
	ProtobufCMessage *sub = file_sub_message(fe);
	const ProtobufCFieldDescriptor *fd;
	struct restore_file *path;

	if (fe->type == FD_TYPES__FIFO) {
		path = restore_file_find(ctx, fe->fifo->regf_id);
		return path && path->fe->reg ? path->fe->reg->flags : 0;
	}
	if (fe->type == FD_TYPES__EXT)
		return fe->ext->mqueue ? fe->ext->mqueue->flags : 0;
	fd = protobuf_c_message_descriptor_get_field_by_name(sub->descriptor, "flags");
	return fd ? *(uint32_t *)((char *)sub + fd->offset) : 0;
}

int file_entry_check(const FileEntry *fe)
{
	ProtobufCMessage *sub = file_sub_message(fe);
	const ProtobufCFieldDescriptor *fd;

	if (!sub)
		return log_fail(-EBADMSG, "files.img: file %u of type %d lacks its description",
				fe->id, (int)fe->type);
	fd = protobuf_c_message_descriptor_get_field_by_name(sub->descriptor, "id");
	if (!fd || *(uint32_t *)((char *)sub + fd->offset) != fe->id)
		return log_fail(-EBADMSG, "files.img: file %u: two different ids", fe->id);
	if (!fe->id)
		return log_fail(-EBADMSG, "files.img: a file with id 0");
	return 0;
}

static int file_load(struct restore_ctx *ctx, const FileEntry *fe)
{
	struct restore_file *f, **slot;
	int r;

	r = file_entry_check(fe);
	if (r < 0)
		return r;
	if (map_get(&ctx->files_by_id, fe->id))
		return log_fail(-EBADMSG, "files.img: two files with id %u", fe->id);
	f = ARENA_NEW(&ctx->arena, struct restore_file);
	slot = ARENA_PUSH(&ctx->arena, ctx->files, ctx->n_files);
	if (!f || !slot)
		return log_err(-ENOMEM, "files.img");
	*f = (struct restore_file){ .id = fe->id, .fe = fe, .fd = -EBADF, .t_fd = -1 };
	f->kind = kind_by_type(fe->type);
	if (!f->kind || !f->kind->restore)
		return log_fail(-EOPNOTSUPP, "files.img: file %u is of a type (%d) that cannot be"
				" restored", fe->id, (int)fe->type);
	*slot = f;
	r = map_put(&ctx->files_by_id, fe->id, f);
	return r < 0 ? log_err(r, "files.img") : 0;
}

static int files_img_load(struct restore_ctx *ctx)
{
	_cleanup_image_reader_ struct image_reader rd = { 0 };
	FileEntry *fe;
	int r, k;

	r = image_open_optional(ctx->store, &image_files, &rd);
	if (r < 0)
		return log_err(r, "cannot open files.img");
	while ((r = image_get(&rd, &ctx->arena, file_entry, &fe)) > 0) {
		k = file_load(ctx, fe);
		if (k < 0)
			return k;
	}
	return r;
}

static int by_number(const void *a, const void *b)
{
	const FdinfoEntry *x = *(FdinfoEntry *const *)a, *y = *(FdinfoEntry *const *)b;

	return (x->fd > y->fd) - (x->fd < y->fd);
}

static int fd_check(struct restore_ctx *ctx, struct restore_process *p, const FdinfoEntry *e)
{
	struct restore_file *f = restore_file_find(ctx, e->id);

	if (!f)
		return log_fail(-EBADMSG, "fdinfo-%u.img: fd %u is file %u, which is not there",
				p->ids->files_id, e->fd, e->id);
	if (f->fe->type != e->type)
		return log_fail(-EBADMSG, "fdinfo-%u.img: fd %u is of type %d, its file %u of %d",
				p->ids->files_id, e->fd, (int)e->type, e->id, (int)f->fe->type);
	if (e->fd >= FD_NUMBER_MAX)
		return log_fail(-EBADMSG, "fdinfo-%u.img: fd %u is out of range",
				p->ids->files_id, e->fd);
	return 0;
}

static int table_load(struct restore_ctx *ctx, struct restore_process *p)
{
	_cleanup_image_reader_ struct image_reader rd = { 0 };
	FdinfoEntry *e, **slot;
	int r;

	r = image_open_optional(ctx->store, &image_fdinfo, &rd, (uint64_t)p->ids->files_id);
	if (r < 0)
		return log_err(r, "cannot open fdinfo-%u.img", p->ids->files_id);
	/* Those of other programs do not tell whether there ever was one. */
	if (!rd.bytes && !ctx->inventory->n_images)
		log_warn("there is no fdinfo-%u.img: it comes back without descriptors",
			 p->ids->files_id);
	while ((r = image_get(&rd, &ctx->arena, fdinfo_entry, &e)) > 0) {
		r = fd_check(ctx, p, e);
		if (r < 0)
			return r;
		slot = ARENA_PUSH(&ctx->arena, p->fds, p->n_fds);
		if (!slot)
			return log_err(-ENOMEM, "fdinfo-%u.img", p->ids->files_id);
		*slot = e;
	}
	if (r < 0)
		return r;
	if (p->n_fds)
		qsort(p->fds, p->n_fds, sizeof(*p->fds), by_number);
	for (size_t i = 1; i < p->n_fds; i++)
		if (p->fds[i]->fd == p->fds[i - 1]->fd)
			return log_fail(-EBADMSG, "fdinfo-%u.img: fd %u is there twice",
					p->ids->files_id, p->fds[i]->fd);
	return 0;
}

/* Who holds each file first, and the highest number of all. */
static void owners_find(struct restore_ctx *ctx, struct restore_process *p, uint32_t *max)
{
	for (size_t i = 0; i < p->n_fds; i++) {
		struct restore_file *f = restore_file_find(ctx, p->fds[i]->id);

		*max = MAX(*max, p->fds[i]->fd);
		if (f->owner)
			continue;
		f->owner = p;
		f->t_fd = (int)p->fds[i]->fd;
	}
}

static int process_load(struct restore_ctx *ctx, struct restore_process *p)
{
	/* A zombie has no descriptors. */
	if (!p->ids || p->shares_fds)
		return 0;
	LOG_SCOPE("process %u", p->pst->pid);
	return table_load(ctx, p);
}

/* Room for one descriptor per file in the engine, and for the pidfd's number in the tasks. */
static int raise_nofile(struct restore_ctx *ctx)
{
	size_t need = ctx->n_files * 2 + 1024;
	struct rlimit rl;

	need = MAX(need, (size_t)ctx->pidfd_t_fd + 64);
	if (getrlimit(RLIMIT_NOFILE, &rl) < 0)
		return log_err(neg_errno(), "getrlimit");
	if (rl.rlim_cur >= need)
		return 0;
	if (rl.rlim_max < need)
		log_warn("the tree has %zu files and descriptors up to %d; the limit of open files"
			 " is %llu", ctx->n_files, ctx->pidfd_t_fd - 1,
			 (unsigned long long)rl.rlim_max);
	rl.rlim_cur = rl.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &rl) < 0)
		return log_err(neg_errno(), "cannot raise the limit of open files");
	return 0;
}

int restore_files_load(struct restore_ctx *ctx)
{
	uint32_t max = 2;
	int r;

	r = files_img_load(ctx);
	for (size_t i = 0; r >= 0 && i < ctx->n_procs; i++) {
		r = process_load(ctx, &ctx->procs[i]);
		if (r >= 0)
			owners_find(ctx, &ctx->procs[i], &max);
	}
	if (r < 0)
		return r;
	ctx->pidfd_t_fd = (int)max + 1;
	r = raise_nofile(ctx);
	if (r < 0)
		return r;
	for (size_t i = 0; kinds[i]; i++) {
		if (!kinds[i]->prepare)
			continue;
		r = kinds[i]->prepare(ctx);
		if (r < 0)
			return r;
	}
	return restore_locks_load(ctx);
}
