/* See uring_fds.h. */
#include <string.h>
#include <sys/stat.h>

#include "task/uring_fds.h"

static int read_all(struct dump_ctx *ctx, struct dump_process *p)
{
	struct uring_fd *u;
	struct stat st;
	char path[32];

	for (size_t i = 0; i < p->n_fds; i++) {
		if (strcmp(p->fds[i].link, "anon_inode:[io_uring]"))
			continue;
		snprintf(path, sizeof(path), "fd/%d", p->fds[i].t_fd);
		if (fstatat(p->proc_fd, path, &st, 0) < 0)
			return neg_errno();
		u = ARENA_PUSH(&ctx->arena, p->urings, p->n_urings);
		if (!u)
			return -ENOMEM;
		*u = (struct uring_fd){ st.st_ino, p->fds[i].t_fd };
	}
	return 0;
}

int uring_fds(struct dump_ctx *ctx, struct dump_process *p, const struct uring_fd **ret, size_t *ret_n)
{
	int r = p->urings_read ? 0 : read_all(ctx, p);

	p->urings_read = r >= 0;
	*ret = p->urings;
	*ret_n = p->n_urings;
	return r < 0 ? log_err(r, "cannot look at the rings of process %d", p->pid) : 0;
}
