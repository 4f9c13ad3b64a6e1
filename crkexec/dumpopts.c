#include <fcntl.h>

#include "crkexec/dumpopts.h"
#include "util/io.h"

/* An unlinked file lives on in the images only; larger ones are an obstacle. */
#define GHOST_LIMIT_BYTES	(64ull << 20)

static int fill_externals(struct dump_setup *s, const struct manifest_unit *mu)
{
	s->externals = calloc(mu->n_streams + 1, sizeof(*s->externals));
	s->keys = calloc(mu->n_streams + 1, sizeof(*s->keys));
	if (!s->externals || !s->keys)
		return -ENOMEM;
	for (size_t i = 0; i < mu->n_streams; i++) {
		s->keys[i] = str_fmt("unix[%llu]", (unsigned long long)mu->streams[i].socket_ino);
		if (!s->keys[i])
			return -ENOMEM;
		s->n_keys = i + 1;
		s->externals[i] = (struct cr_external){ .key = s->keys[i], .fd = -1 };
	}
	return 0;
}

int dump_setup_init(struct dump_setup *s, struct upgrade *u, size_t i)
{
	const struct unit_tree *tree = &u->units[i]->tree;
	int r;

	*s = (struct dump_setup){ .work_fd = -EBADF };
	r = fill_externals(s, &u->m->units[i]);
	if (r < 0) {
		dump_setup_done(s);
		return r;
	}
	s->work_fd = openat(u->run_dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	s->opts = (struct cr_opts){
		.work_dir_fd = s->work_fd,
		.pid = tree->root,
		.more_pids = tree->pids + 1,
		.n_more_pids = tree->n_roots - 1,
		.final_state = CR_LEAVE_FROZEN,
		.freeze_cgroup = u->units[i]->cgroup_dir,
		.tcp_established = true,
		/* Connections that were not accepted in time are counted in the report. */
		.skip_in_flight = true,
		.ext_unix_sk = true,
		.file_locks = true,
		.link_remap = true,
		.time_namespace = true,
		.ghost_limit_bytes = GHOST_LIMIT_BYTES,
		/* The whole machine's network is locked. */
		.network_lock = CR_LOCK_SKIP,
		.cgroup_mode = -1,
		.externals = s->externals,
		.n_externals = s->n_keys,
	};
	return 0;
}

void dump_setup_done(struct dump_setup *s)
{
	for (size_t i = 0; i < s->n_keys; i++)
		free(s->keys[i]);
	free(s->keys);
	free(s->externals);
	close_fdp(&s->work_fd);
	s->work_fd = -EBADF;
}
