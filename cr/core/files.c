/*
 * The open files of a tree: which descriptors share a struct file, and what each file is.
 *
 *   read     /proc/PID/fd (one sweep), /proc/PID/fdinfo/N once each
 *   same?    core/files_same.c
 *   written  files.img as files are met, fdinfo-N.img per table
 */
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>

#include "core/files.h"
#include "core/files_dump.h"
#include "kind/kind.h"
#include "ns/ns.h"
#include "util/timer.h"

struct files_state *dump_files_state(struct dump_ctx *ctx)
{
	/* FD_TYPES__UND is no kind's: its slot is the core's. */
	struct files_state *s = ctx->kind_state[FD_TYPES__UND];

	if (!s) {
		s = ARENA_NEW(&ctx->arena, struct files_state);
		ctx->kind_state[FD_TYPES__UND] = s;
	}
	return s;
}

/* A socket is looked at from its own network namespace: names of interfaces, sock_diag. */
static int file_kind_dump_inside(struct dump_ctx *ctx, struct dump_file *f)
{
	bool is_socket = f->fd >= 0 && S_ISSOCK(f->st.st_mode) && str_starts(f->link, "socket:");
	struct ns_visit v = NS_VISIT_INIT;
	int r = is_socket ? ns_dump_visit_socket(ctx, f->fd, &v, &f->net_ns_id) : 0, left;

	if (r < 0)
		return r;
	r = f->kind->dump(ctx, f);
	left = ns_visit_end(&v);
	return left < 0 ? left : r;
}

static int file_kind_dump(struct dump_ctx *ctx, struct dump_file *f)
{
	int r = -EOPNOTSUPP;

	for (size_t i = 0; kinds[i]; i++) {
		if (!kinds[i]->match || !kinds[i]->match(f))
			continue;
		f->kind = kinds[i];
		break;
	}
	if (!f->kind)
		return log_obstacle("close it before", "%s: no kind of file knows it", f->link);
	f->fe = ARENA_MSG(&ctx->arena, FileEntry, file_entry);
	if (!f->fe)
		return log_err(-ENOMEM, "%s", f->link);
	f->fe->id = f->id;
	f->fe->type = f->kind->type;
	r = file_kind_dump_inside(ctx, f);
	if (r < 0)
		return r;
	return dump_file_put(ctx, f->fe);
}

/* In a check every obstacle is wanted, not only the first. */
int dump_files_obstacle(struct dump_ctx *ctx, int r)
{
	if (r != -EOPNOTSUPP || !ctx->opts->log_obstacles_only)
		return r;
	ctx->obstacles++;
	return 0;
}

/* f has owner, t_fd, fd, fdinfo and the marks; owns f->fd. */
static int file_add(struct dump_ctx *ctx, struct dump_file *f)
{
	struct dump_file **slot;
	int r;

	f->id = dump_file_new_id(ctx);
	slot = ARENA_PUSH(&ctx->arena, ctx->files, ctx->n_files);
	if (!slot)
		return log_err(-ENOMEM, "%s", f->link);
	*slot = f;
	r = file_kind_dump(ctx, f);
	close_fdp(&f->fd);
	f->fd = -1;
	return dump_files_obstacle(ctx, r);
}

static int file_new(struct dump_ctx *ctx, struct dump_process *p, const struct dump_fd *d,
		    struct dump_file **ret)
{
	struct dump_file *f = ARENA_NEW(&ctx->arena, struct dump_file);
	int r;

	if (!f)
		return -ENOMEM;
	*f = (struct dump_file){ .owner = p, .t_fd = d->t_fd, .fd = -1, .link = d->link, .fdinfo = d->fdinfo,
				 .read_nsec = d->read_nsec, .flags = d->flags, .pos = d->pos, .mnt_id = d->mnt_id };
	r = dump_pidfd(p);
	f->fd = r < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, r, d->t_fd, 0);
	if (f->fd < 0)
		return log_err(neg_errno(), "cannot duplicate it (%s)", f->link);
	if (fstat(f->fd, &f->st) < 0) {
		r = neg_errno();
		close_fdp(&f->fd);
		return log_err(r, "cannot stat %s", f->link);
	}
	*ret = f;
	return 0;
}

static int file_get(struct dump_ctx *ctx, struct dump_process *p, const struct dump_fd *d,
		    struct dump_file **ret)
{
	struct file_place at;
	struct dump_file *f;
	int r;

	LOG_SCOPE("fd %d", d->t_fd);
	r = files_same_find(ctx, d, p->threads[0].task.tid, &at);
	if (r) {
		*ret = at.known;
		return MIN(r, 0);
	}
	r = file_new(ctx, p, d, &f);
	if (r < 0)
		return r;
	/* Before its kind looks at it: a socket's queue may hold the socket itself. */
	r = files_same_add(ctx, &at, d, p->threads[0].task.tid, f);
	if (r < 0)
		return r;
	*ret = f;
	return file_add(ctx, f);
}

int dump_file_get(struct dump_ctx *ctx, struct dump_process *p, int t_fd, struct dump_file **ret)
{
	const struct dump_fd *known = dump_fd_find(p, t_fd);
	struct dump_fd d;
	int r;

	if (!known)
		return log_fail(-ENOENT, "process %d has no descriptor %d", p->pid, t_fd);
	if (known->file) {
		*ret = known->file;
		return 0;
	}
	if (known->fdinfo)
		return file_get(ctx, p, known, ret);
	/* Its table is another's, too, or its turn has not come. */
	d = *known;
	r = fdinfo_read(ctx, p, t_fd, &d.fdinfo);
	d.read_nsec = clock_nsec(CLOCK_MONOTONIC);
	if (r < 0)
		return r;
	r = fdinfo_parse(d.fdinfo, &d);
	if (r < 0)
		return log_err(r, "/proc/%d/fdinfo/%d cannot be understood", p->pid, t_fd);
	return file_get(ctx, p, &d, ret);
}

/* Our own descriptor, kept for later comparisons: they need it while the dump goes on. */
static int queued_keep(struct dump_ctx *ctx, int fd, int *ret_fd)
{
	struct files_state *s = dump_files_state(ctx);
	int *slot;

	if (!s)
		return -ENOMEM;
	slot = ARENA_PUSH(&ctx->arena, s->kept, s->n_kept);
	if (!slot)
		return -ENOMEM;
	*slot = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (*slot < 0) {
		s->n_kept--;
		return neg_errno();
	}
	*ret_fd = *slot;
	return 0;
}

/* d's is one of ours. */
static int queued_new(struct dump_ctx *ctx, struct dump_process *p, const struct dump_fd *d,
		      struct dump_file **ret)
{
	struct dump_file *f = ARENA_NEW(&ctx->arena, struct dump_file);
	_cleanup_free_ char *link = NULL;
	char path[48];
	int r;

	if (!f)
		return -ENOMEM;
	*f = (struct dump_file){ .owner = p, .t_fd = -1, .fd = -1, .queued_fd = d->t_fd, .fdinfo = d->fdinfo,
				 .read_nsec = d->read_nsec, .flags = d->flags, .pos = d->pos, .mnt_id = d->mnt_id };
	snprintf(path, sizeof(path), "/proc/self/fd/%d", d->t_fd);
	r = readlink_at(AT_FDCWD, path, &link);
	if (r < 0)
		return r;
	f->link = arena_strdup(&ctx->arena, link);
	f->fd = fcntl(d->t_fd, F_DUPFD_CLOEXEC, 3);
	if (!f->link || f->fd < 0 || fstat(f->fd, &f->st) < 0)
		return f->link ? neg_errno() : -ENOMEM;
	*ret = f;
	return 0;
}

int dump_file_get_queued(struct dump_ctx *ctx, struct dump_process *p, int fd,
			 struct dump_file **ret)
{
	struct dump_fd d = { .t_fd = fd };
	_cleanup_free_ char *text = NULL;
	struct dump_file *f = NULL;
	struct file_place at;
	char path[48];
	int r;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	r = read_file_at(AT_FDCWD, path, READ_FILE_MAX, &text, NULL);
	if (r < 0)
		return log_err(r, "cannot read %s", path);
	d.read_nsec = clock_nsec(CLOCK_MONOTONIC);
	d.fdinfo = arena_strdup(&ctx->arena, text);
	if (!d.fdinfo)
		return log_err(-ENOMEM, "%s", path);
	r = fdinfo_parse(d.fdinfo, &d);
	if (r < 0)
		return log_err(r, "%s cannot be understood", path);
	LOG_SCOPE("queued file");
	r = files_same_find(ctx, &d, getpid(), &at);
	if (r) {
		*ret = at.known;
		return MIN(r, 0);
	}
	r = queued_keep(ctx, fd, &d.t_fd);
	if (r < 0)
		return log_err(r, "cannot keep it");
	r = queued_new(ctx, p, &d, &f);
	if (r < 0)
		return log_err(r, "cannot look at it");
	r = files_same_add(ctx, &at, &d, getpid(), f);
	if (r < 0)
		return r;
	*ret = f;
	return file_add(ctx, f);
}

/* A path of the process's namespace as a file: st and mount id by the descriptor itself. */
static int link_file_open(struct dump_ctx *ctx, struct dump_process *p, const char *proc_link,
			  uint32_t flags, struct dump_file *f)
{
	_cleanup_free_ char *link = NULL;
	struct statx sx;
	int r;

	r = readlink_at(p->proc_fd, proc_link, &link);
	if (r < 0)
		return log_err(r, "cannot read the link");
	*f = (struct dump_file){ .owner = p, .t_fd = -1, .fdinfo = "", .flags = flags,
				 .mnt_id = -1 };
	f->link = arena_strdup(&ctx->arena, link);
	/* O_PATH: a mapped device or a leased file must not notice. */
	f->fd = openat(p->proc_fd, proc_link, O_PATH | O_CLOEXEC);
	if (f->fd < 0)
		return log_err(neg_errno(), "cannot open it (%s)", link);
	if (!f->link || fstat(f->fd, &f->st) < 0 ||
	    statx(f->fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &sx) < 0) {
		r = f->link ? neg_errno() : -ENOMEM;
		close_fdp(&f->fd);
		return log_err(r, "cannot look at %s", link);
	}
	if (sx.stx_mask & STATX_MNT_ID)
		f->mnt_id = (int)sx.stx_mnt_id;
	return 0;
}

struct link_node {
	struct link_node *next;
	struct dump_file *f;
};

int dump_file_get_link(struct dump_ctx *ctx, struct dump_process *p, const char *proc_link,
		       uint32_t flags, struct dump_file **ret)
{
	struct dump_file *f = ARENA_NEW(&ctx->arena, struct dump_file);
	struct files_state *s = dump_files_state(ctx);
	struct link_node *head, *n;
	uint64_t key;
	int r;

	LOG_SCOPE("%s", proc_link);
	if (!f || !s)
		return log_err(-ENOMEM, "cannot remember it");
	r = link_file_open(ctx, p, proc_link, flags, f);
	if (r < 0)
		return r;
	key = hash_bytes(HASH_BEGIN, &f->st.st_ino, sizeof(f->st.st_ino));
	head = map_get(&s->links, key);
	for (n = head; n; n = n->next) {
		if (n->f->st.st_ino != f->st.st_ino || n->f->st.st_dev != f->st.st_dev ||
		    n->f->mnt_id != f->mnt_id || n->f->flags != flags)
			continue;
		close_fdp(&f->fd);
		*ret = n->f;
		return 0;
	}
	n = ARENA_NEW(&ctx->arena, struct link_node);
	r = n ? map_put(&s->links, key, n) : -ENOMEM;
	if (r < 0) {
		close_fdp(&f->fd);
		return log_err(r, "cannot remember it");
	}
	*n = (struct link_node){ head, f };
	*ret = f;
	return file_add(ctx, f);
}
