/*
 * The descriptors of one process: their numbers and links as soon as the tree stands, fdinfo when its calls have
 * been run in it, which may change what it tells.
 *
 * The kernel makes an entry of /proc for each that is looked at. That takes longer than anything else about a plain
 * file, so it is done once for all who ask, and by all processors if there are many.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "core/files.h"
#include "util/parallel.h"
#include "util/timer.h"

#define PIECE		64u	/* fewer are read before a thread has begun */
#define TEXT_ROOM	256u	/* of what is read together; a longer one is read alone */
#define FDINFO_BYTES	2048u

struct sweep {
	int dir;
	struct dump_fd *fds;
	char (*texts)[TEXT_ROOM];	/* by descriptor; empty: to be read alone */
};

/* Text in buf, which has bytes of room. -EFBIG: it may be longer. */
static int fdinfo_read_at(int dir, const char *path, char *buf, size_t bytes)
{
	_cleanup_close_ int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return neg_errno();
	n = read(fd, buf, bytes);
	if (n < 0)
		return neg_errno();
	/* A text this short comes whole with one read. */
	if ((size_t)n >= bytes / 2)
		return -EFBIG;
	buf[n] = '\0';
	return 0;
}

static int links_read(void *arg, unsigned int worker _unused_, uint64_t off, size_t n)
{
	struct sweep *s = arg;
	char name[16];

	for (size_t i = off; i < off + n; i++) {
		ssize_t k;

		snprintf(name, sizeof(name), "%d", s->fds[i].t_fd);
		k = readlinkat(s->dir, name, s->texts[i], TEXT_ROOM);
		s->texts[i][k < 0 || k >= (ssize_t)TEXT_ROOM ? 0 : k] = '\0';
	}
	return 0;
}

static int infos_read(void *arg, unsigned int worker _unused_, uint64_t off, size_t n)
{
	struct sweep *s = arg;
	char name[16], text[FDINFO_BYTES];

	for (size_t i = off; i < off + n; i++) {
		unsigned int tries = 0;
		int64_t begin;
		int r;

		snprintf(name, sizeof(name), "%d", s->fds[i].t_fd);
		do {
			begin = clock_nsec(CLOCK_MONOTONIC);
			r = fdinfo_read_at(s->dir, name, text, sizeof(text));
			s->fds[i].read_nsec = clock_nsec(CLOCK_MONOTONIC);
		} while (r >= 0 && clock_held_up(begin, &tries) && strstr(text, "\nclockid:"));
		if (r >= 0 && strlen(text) < TEXT_ROOM)
			strcpy(s->texts[i], text);
	}
	return 0;
}

/* texts: heap. */
static int sweep_run(const struct dump_process *p, int dir, piece_fn fn, char (**ret)[TEXT_ROOM])
{
	struct sweep s = { .dir = dir, .fds = p->fds };

	s.texts = *ret = calloc(p->n_fds + 1, sizeof(*s.texts));
	return s.texts ? parallel(p->n_fds, PIECE, fn, &s) : -ENOMEM;
}

int fdinfo_read(struct dump_ctx *ctx, struct dump_process *p, int t_fd, const char **ret)
{
	char path[32], text[FDINFO_BYTES];
	_cleanup_free_ char *heap = NULL;
	int r;

	snprintf(path, sizeof(path), "fdinfo/%d", t_fd);
	r = fdinfo_read_at(p->proc_fd, path, text, sizeof(text));
	if (r == -EFBIG)
		r = read_file_at(p->proc_fd, path, READ_FILE_MAX, &heap, NULL);
	if (r < 0)
		return log_err(r, "cannot read /proc/%d/%s", p->pid, path);
	*ret = arena_strdup(&ctx->arena, heap ? heap : text);
	return *ret ? 0 : log_err(-ENOMEM, "/proc/%d/%s", p->pid, path);
}

static int link_read(struct dump_ctx *ctx, struct dump_process *p, int t_fd, const char **ret)
{
	_cleanup_free_ char *link = NULL;
	char path[32];
	int r;

	snprintf(path, sizeof(path), "fd/%d", t_fd);
	r = readlink_at(p->proc_fd, path, &link);
	if (r < 0)
		return log_err(r, "cannot read /proc/%d/%s", p->pid, path);
	*ret = arena_strdup(&ctx->arena, link);
	return *ret ? 0 : log_err(-ENOMEM, "/proc/%d/%s", p->pid, path);
}

int dump_link_again(struct dump_ctx *ctx, struct dump_file *f)
{
	const char *link;
	int r = f->t_fd < 0 ? 0 : link_read(ctx, f->owner, f->t_fd, &link);

	if (f->t_fd < 0 || r < 0 || !strcmp(link, f->link))
		return r;
	f->link = link;
	return 1;
}

static int by_number(const void *a, const void *b)
{
	const struct dump_fd *x = a, *y = b;

	return (x->t_fd > y->t_fd) - (x->t_fd < y->t_fd);
}

static int numbers_read(struct dump_ctx *ctx, struct dump_process *p, DIR *dir)
{
	struct dirent *de;

	while ((errno = 0, de = readdir(dir))) {
		struct dump_fd *d;
		int t_fd, r;

		if (de->d_name[0] == '.')
			continue;
		r = parse_int(de->d_name, &t_fd);
		if (r < 0)
			return r;
		d = ARENA_PUSH(&ctx->arena, p->fds, p->n_fds);
		if (!d)
			return -ENOMEM;
		*d = (struct dump_fd){ .t_fd = t_fd };
	}
	if (errno)
		return neg_errno();
	if (p->n_fds)
		qsort(p->fds, p->n_fds, sizeof(*p->fds), by_number);
	return 0;
}

int dump_fd_list(struct dump_ctx *ctx, struct dump_process *p)
{
	_cleanup_closedir_ DIR *dir = NULL;
	_cleanup_free_ char (*links)[TEXT_ROOM] = NULL;
	int r;

	if (p->life == TASK_DEAD)
		return 0;
	dir = dir_open_at(p->proc_fd, "fd");
	r = dir ? numbers_read(ctx, p, dir) : neg_errno();
	if (r >= 0)
		r = sweep_run(p, dirfd(dir), links_read, &links);
	if (r < 0)
		return log_err(r, "cannot list /proc/%d/fd", p->pid);
	for (size_t i = 0; i < p->n_fds && r >= 0; i++) {
		struct dump_fd *d = &p->fds[i];

		if (!links[i][0])
			r = link_read(ctx, p, d->t_fd, &d->link);
		else if (!(d->link = arena_strdup(&ctx->arena, links[i])))
			r = log_err(-ENOMEM, "/proc/%d/fd", p->pid);
	}
	return r;
}

int dump_fd_infos(struct dump_ctx *ctx, struct dump_process *p)
{
	_cleanup_free_ char (*texts)[TEXT_ROOM] = NULL;
	_cleanup_close_ int dir = openat(p->proc_fd, "fdinfo", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = dir < 0 ? neg_errno() : sweep_run(p, dir, infos_read, &texts);

	if (r < 0)
		return log_err(r, "cannot read /proc/%d/fdinfo", p->pid);
	for (size_t i = 0; i < p->n_fds; i++) {
		const char *text = texts[i][0] ? arena_strdup(&ctx->arena, texts[i]) : NULL;

		if (!texts[i][0]) {
			r = fdinfo_read(ctx, p, p->fds[i].t_fd, &text);
			p->fds[i].read_nsec = clock_nsec(CLOCK_MONOTONIC);
		}
		if (r < 0)
			return r;
		r = text ? fdinfo_parse(text, &p->fds[i]) : -ENOMEM;
		if (r < 0)
			return log_err(r, "/proc/%d/fdinfo/%d cannot be understood", p->pid, p->fds[i].t_fd);
	}
	return 0;
}

const struct dump_fd *dump_fd_find(const struct dump_process *p, int t_fd)
{
	const struct dump_fd key = { .t_fd = t_fd };

	return p->n_fds ? bsearch(&key, p->fds, p->n_fds, sizeof(key), by_number) : NULL;
}
