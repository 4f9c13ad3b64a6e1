/*
 * Descriptor tables on dump: /proc/PID/fd and /proc/PID/fdinfo/N → fdinfo-N.img, and the
 * shared images of the file part.
 *
 * Tasks that share their table (CLONE_FILES) have one files_id and one fdinfo image.
 */
#include <ctype.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>

#include "core/files.h"
#include "core/files_dump.h"
#include "kind/kind.h"

static const char *fdinfo_value(const char *fdinfo, const char *key)
{
	size_t n = strlen(key);

	for (const char *line = fdinfo; line; line = strchr(line, '\n')) {
		if (*line == '\n')
			line++;
		if (strncmp(line, key, n) || line[n] != ':')
			continue;
		line += n + 1;
		return line + strspn(line, " \t");
	}
	return NULL;
}

int fdinfo_u64(const char *fdinfo, const char *key, int base, uint64_t *ret)
{
	const char *v = fdinfo_value(fdinfo, key);
	char *end;

	if (!v)
		return -ENOENT;
	if (!isxdigit((unsigned char)*v))
		return -EBADMSG;
	errno = 0;
	*ret = strtoull(v, &end, base);
	if (errno || end == v || (*end && !isspace((unsigned char)*end)))
		return -EBADMSG;
	return 0;
}

int fdinfo_parse(const char *text, struct dump_fd *ret)
{
	uint64_t flags, mnt_id;
	int r;

	r = fdinfo_u64(text, "flags", 8, &flags);
	if (r < 0)
		return -EBADMSG;
	ret->cloexec = flags & O_CLOEXEC;
	ret->flags = (uint32_t)flags & ~(uint32_t)O_CLOEXEC;
	ret->fdinfo = text;
	/* "pos:" is signed: a device may be at -1. */
	ret->pos = 0;
	if (fdinfo_u64(text, "pos", 10, &ret->pos) < 0)
		ret->pos = UINT64_MAX;
	ret->mnt_id = -1;
	if (!fdinfo_u64(text, "mnt_id", 10, &mnt_id) && mnt_id <= INT32_MAX)
		ret->mnt_id = (int)mnt_id;
	ret->ino = 0;
	r = fdinfo_u64(text, "ino", 10, &ret->ino);	/* Linux 5.14 */
	return r == -EBADMSG ? r : 0;
}

static int table_write(struct dump_ctx *ctx, const struct dump_process *p)
{
	const struct dump_fd *t = p->fds;
	uint32_t files_id = p->ids->files_id;
	_cleanup_image_writer_ struct image_writer *w = NULL;
	int r;

	if (ctx->opts->log_obstacles_only || !p->n_fds)
		return 0;
	r = image_create(ctx->store, &image_fdinfo, &w, (uint64_t)files_id);
	if (r < 0)
		return log_err(r, "cannot create fdinfo-%u.img", files_id);
	for (size_t i = 0; i < p->n_fds; i++) {
		FdinfoEntry e = FDINFO_ENTRY__INIT;

		e.id = t[i].file->id;
		e.type = t[i].file->fe->type;
		e.fd = (uint32_t)t[i].t_fd;
		e.flags = t[i].cloexec ? FD_CLOEXEC : 0;
		r = image_put(w, &e.base);
		if (r < 0)
			return log_err(r, "cannot write fdinfo-%u.img", files_id);
	}
	r = image_close(take_ptr(w));
	return r < 0 ? log_err(r, "cannot write fdinfo-%u.img", files_id) : 0;
}

static int table_dump(struct dump_ctx *ctx, struct dump_process *p)
{
	int r;

	for (size_t i = 0; i < p->n_fds; i++) {
		r = dump_file_get(ctx, p, p->fds[i].t_fd, &p->fds[i].file);
		if (r < 0)
			return r;
	}
	r = table_write(ctx, p);
	return r < 0 ? r : dump_locks(ctx, p);
}

int dump_fds(struct dump_ctx *ctx, struct dump_process *p)
{
	struct files_state *s = dump_files_state(ctx);
	int r;

	if (!s)
		return log_err(-ENOMEM, "its files");
	if (map_get(&s->tables_done, p->ids->files_id))
		return 0;
	r = map_put(&s->tables_done, p->ids->files_id, p);
	if (r < 0)
		return log_err(r, "cannot remember its descriptors");
	r = dump_fd_infos(ctx, p);
	files_same_begin(ctx, p);
	if (r >= 0)
		r = table_dump(ctx, p);
	files_same_begin(ctx, NULL);
	return r;
}

uint32_t dump_file_new_id(struct dump_ctx *ctx)
{
	if (!ctx->next_file_id)
		ctx->next_file_id = 1;
	return ctx->next_file_id++;
}

int dump_writer(struct dump_ctx *ctx, struct image_writer **slot, const struct image_type *type,
		struct image_writer **ret)
{
	int r;

	if (!*slot && !ctx->opts->log_obstacles_only) {
		r = image_create(ctx->store, type, slot);
		if (r < 0)
			return log_err(r, "cannot create %s", type->file_fmt);
	}
	*ret = *slot;
	return 0;
}

int dump_file_put(struct dump_ctx *ctx, const FileEntry *fe)
{
	struct image_writer *w = NULL;
	int r;

	r = dump_writer(ctx, &ctx->w_files, &image_files, &w);
	if (r < 0 || !w)
		return r;
	r = image_put(w, &fe->base);
	return r < 0 ? log_err(r, "cannot write files.img") : 0;
}

int reopen_fd(int fd, int flags, int *ret_fd)
{
	char path[48];
	int n;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = open(path, flags | O_CLOEXEC | O_NOCTTY);
	if (n < 0)
		return neg_errno();
	*ret_fd = n;
	return 0;
}

int reopen_for_read(int fd, int *ret_fd)
{
	/* O_NOATIME may be refused (not the owner), O_NONBLOCK keeps a lease from blocking us. */
	int r = reopen_fd(fd, O_RDONLY | O_NONBLOCK | O_NOATIME, ret_fd);

	return r == -EPERM ? reopen_fd(fd, O_RDONLY | O_NONBLOCK, ret_fd) : r;
}

static int close_writer(struct image_writer **slot, const char *name)
{
	int r = image_close(take_ptr(*slot));

	return r < 0 ? log_err(r, "cannot write %s", name) : 0;
}

int dump_files_finish(struct dump_ctx *ctx)
{
	static const struct { size_t off; const char *name; } writers[] = {
		{ offsetof(struct dump_ctx, w_files), "files.img" },
		{ offsetof(struct dump_ctx, w_remap), "remap-fpath.img" },
		{ offsetof(struct dump_ctx, w_pipes_data), "pipes-data.img" },
		{ offsetof(struct dump_ctx, w_fifo_data), "fifo-data.img" },
		{ offsetof(struct dump_ctx, w_sk_queues), "sk-queues.img" },
	};
	int r, first = 0;

	for (size_t i = 0; kinds[i]; i++) {
		r = kinds[i]->dump_queued ? kinds[i]->dump_queued(ctx) : 0;
		if (r < 0)
			return r;
	}
	r = dump_locks_queued(ctx);
	if (r < 0)
		return r;
	for (size_t i = 0; kinds[i]; i++) {
		if (!kinds[i]->dump_end)
			continue;
		r = kinds[i]->dump_end(ctx);
		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < ARRAY_SIZE(writers); i++) {
		r = close_writer((struct image_writer **)((char *)ctx + writers[i].off),
				 writers[i].name);
		if (r < 0 && !first)
			first = r;
	}
	r = dump_locks_finish(ctx);
	if (first || r < 0)
		return first ? first : r;
	/* A check that went on after obstacles says so here. */
	return ctx->obstacles ? -EOPNOTSUPP : 0;
}

void dump_files_done(struct dump_ctx *ctx, bool keep_links)
{
	struct files_state *s = ctx->kind_state[FD_TYPES__UND];

	image_abandonp(&ctx->w_files);
	image_abandonp(&ctx->w_remap);
	image_abandonp(&ctx->w_pipes_data);
	image_abandonp(&ctx->w_fifo_data);
	image_abandonp(&ctx->w_sk_queues);
	map_done(&ctx->files_by_key);
	if (!s)
		return;
	image_abandonp(&s->w_locks);
	for (size_t i = 0; i < s->n_kept; i++)
		close(s->kept[i]);
	s->n_kept = 0;
	for (struct made_link *l = s->made_links; l; l = l->next) {
		if (!keep_links && unlinkat(l->dir_fd, l->name, 0) < 0)
			log_warn("cannot remove %s", l->name);
		close(l->dir_fd);
	}
	s->made_links = NULL;
	map_done(&s->tables_done);
	map_done(&s->links);
	for (size_t i = 0; kinds[i]; i++)
		if (kinds[i]->dump_done)
			kinds[i]->dump_done(ctx);
}
