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

int fdinfo_read(struct dump_ctx *ctx, struct dump_process *p, int t_fd, const char **ret)
{
	_cleanup_free_ char *heap = NULL;
	_cleanup_close_ int fd = -EBADF;
	char path[32], buf[2048];
	ssize_t n;
	int r;

	snprintf(path, sizeof(path), "fdinfo/%d", t_fd);
	fd = openat(p->proc_fd, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return log_err(neg_errno(), "cannot open /proc/%d/%s", p->pid, path);
	n = read(fd, buf, sizeof(buf));
	if (n < 0)
		return log_err(neg_errno(), "cannot read /proc/%d/%s", p->pid, path);
	if ((size_t)n < sizeof(buf) / 2) {
		/* A text this short comes whole with one read. */
		*ret = arena_strndup(&ctx->arena, buf, (size_t)n);
	} else {
		r = read_file_at(p->proc_fd, path, READ_FILE_MAX, &heap, NULL);
		if (r < 0)
			return log_err(r, "cannot read /proc/%d/%s", p->pid, path);
		*ret = arena_strdup(&ctx->arena, heap);
	}
	return *ret ? 0 : log_err(-ENOMEM, "/proc/%d/%s", p->pid, path);
}

const struct dump_fd *dump_fds_of(struct dump_ctx *ctx, const struct dump_process *p,
				  size_t *ret_n)
{
	struct files_state *s = dump_files_state(ctx);

	if (!s || s->table_of != p)
		return NULL;
	*ret_n = s->n_table;
	return s->table;
}

const struct dump_fd *dump_fd_find(struct dump_ctx *ctx, const struct dump_process *p, int t_fd)
{
	size_t n, lo = 0;
	const struct dump_fd *t = dump_fds_of(ctx, p, &n);

	if (!t)
		return NULL;
	while (lo < n) {
		size_t mid = lo + (n - lo) / 2;

		if (t[mid].t_fd == t_fd)
			return &t[mid];
		if (t[mid].t_fd < t_fd)
			lo = mid + 1;
		else
			n = mid;
	}
	return NULL;
}

static int by_number(const void *a, const void *b)
{
	const struct dump_fd *x = a, *y = b;

	return (x->t_fd > y->t_fd) - (x->t_fd < y->t_fd);
}

/* One sweep over the directory, then each fdinfo once. */
static int table_read(struct dump_ctx *ctx, struct dump_process *p, struct dump_fd **ret,
		      size_t *ret_n)
{
	_cleanup_closedir_ DIR *dir = dir_open_at(p->proc_fd, "fd");
	struct dump_fd *t = NULL;
	struct dirent *de;
	size_t n = 0;
	int r;

	if (!dir)
		return log_err(neg_errno(), "cannot list /proc/%d/fd", p->pid);
	for (;;) {
		struct dump_fd *d;
		int t_fd;

		errno = 0;
		de = readdir(dir);
		if (!de)
			break;
		if (de->d_name[0] == '.')
			continue;
		r = parse_int(de->d_name, &t_fd);
		if (r < 0)
			return log_err(r, "/proc/%d/fd/%s", p->pid, de->d_name);
		d = ARENA_PUSH(&ctx->arena, t, n);
		if (!d)
			return log_err(-ENOMEM, "/proc/%d/fd", p->pid);
		*d = (struct dump_fd){ .t_fd = t_fd };
		r = fdinfo_read(ctx, p, t_fd, &d->fdinfo);
		if (r < 0)
			return r;
		r = fdinfo_parse(d->fdinfo, d);
		if (r < 0)
			return log_err(r, "/proc/%d/fdinfo/%d cannot be understood", p->pid, t_fd);
	}
	if (errno)
		return log_err(neg_errno(), "cannot list /proc/%d/fd", p->pid);
	if (n)
		qsort(t, n, sizeof(*t), by_number);
	*ret = t;
	*ret_n = n;
	return 0;
}

static int table_write(struct dump_ctx *ctx, uint32_t files_id, const struct dump_fd *t, size_t n)
{
	_cleanup_image_writer_ struct image_writer *w = NULL;
	int r;

	if (ctx->opts->log_obstacles_only || !n)
		return 0;
	r = image_create(ctx->store, &image_fdinfo, &w, (uint64_t)files_id);
	if (r < 0)
		return log_err(r, "cannot create fdinfo-%u.img", files_id);
	for (size_t i = 0; i < n; i++) {
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

static int table_dump(struct dump_ctx *ctx, struct dump_process *p, struct files_state *s)
{
	int r;

	for (size_t i = 0; i < s->n_table; i++) {
		r = dump_file_get(ctx, p, s->table[i].t_fd, &s->table[i].file);
		if (r < 0)
			return r;
	}
	r = table_write(ctx, p->ids->files_id, s->table, s->n_table);
	if (r < 0)
		return r;
	return dump_locks(ctx, p, s->table, s->n_table);
}

int dump_fds(struct dump_ctx *ctx, struct dump_process *p)
{
	struct files_state *s = dump_files_state(ctx);
	_cleanup_free_ char *comm = NULL;
	int r;

	if (!s)
		return log_err(-ENOMEM, "files of process %d", p->pid);
	if (map_get(&s->tables_done, p->ids->files_id))
		return 0;
	if (read_file_at(p->proc_fd, "comm", 256, &comm, NULL) >= 0)
		comm[strcspn(comm, "\n")] = '\0';
	LOG_SCOPE("process %d (%s)", p->pid, comm ? comm : "?");
	r = map_put(&s->tables_done, p->ids->files_id, p);
	if (r < 0)
		return log_err(r, "cannot remember its descriptors");
	r = table_read(ctx, p, &s->table, &s->n_table);
	if (r < 0)
		return r;
	s->table_of = p;
	r = table_dump(ctx, p, s);
	s->table_of = NULL;
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
