/* See uring_fds.h. */
#include <string.h>
#include <sys/stat.h>

#include "task/uring_fds.h"

static bool is_ring(int dir, const char *name)
{
	char link[64];
	ssize_t n = readlinkat(dir, name, link, sizeof(link) - 1);

	link[MAX(n, (ssize_t)0)] = '\0';
	return !strcmp(link, "anon_inode:[io_uring]");
}

static int read_all(struct dump_ctx *ctx, struct dump_process *p)
{
	_cleanup_closedir_ DIR *d = dir_open_at(p->proc_fd, "fd");
	struct uring_fd *u;
	struct dirent *e;
	struct stat st;

	if (!d)
		return neg_errno();
	while ((e = readdir(d))) {
		if (e->d_name[0] == '.' || !is_ring(dirfd(d), e->d_name) ||
		    fstatat(dirfd(d), e->d_name, &st, 0) < 0)
			continue;
		u = ARENA_PUSH(&ctx->arena, p->urings, p->n_urings);
		if (!u)
			return -ENOMEM;
		*u = (struct uring_fd){ st.st_ino, atoi(e->d_name) };
	}
	return 0;
}

int uring_fds(struct dump_ctx *ctx, struct dump_process *p, const struct uring_fd **ret, size_t *ret_n)
{
	int r = p->urings_read ? 0 : read_all(ctx, p);

	p->urings_read = r >= 0;
	*ret = p->urings;
	*ret_n = p->n_urings;
	return r < 0 ? log_err(r, "cannot list /proc/%d/fd", p->pid) : 0;
}
