/*
 * A watched inode's name where its handle does not lead to it: nobody has looked its name up since the
 * kernel forgot that (then a handle gives a file without a path), or the file system makes handles that
 * only compare (overlay).
 *
 * All directories of the mount are read, those near its root first, for an entry with that handle. Costs
 * about a microsecond a name, so one dump searches for some seconds at most; `cr check` before it makes
 * the kernel know the names again.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/syscall.h>

#include "kernel/mountinfo.h"
#include "kind/watched.h"
#include "util/timer.h"

#ifndef AT_HANDLE_FID
#define AT_HANDLE_FID 0x200	/* Linux 6.5 */
#endif

struct search {
	struct dump_ctx *ctx;
	struct arena arena;
	const struct watched *w;
	int root;
	bool by_number;			/* readdir(3) tells the inode's number */
	const char **dirs;		/* relative to root, in the order of the search */
	size_t n_dirs;
};

static bool handle_is(int dir, const char *name, int flags, const struct watched *w)
{
	union {
		struct file_handle h;
		char room[sizeof(struct file_handle) + sizeof(w->handle)];
	} u = { .h.handle_bytes = sizeof(w->handle) };
	int mnt_id, r = name_to_handle_at(dir, name, &u.h, &mnt_id, flags | AT_HANDLE_FID);

	if (r < 0 && errno == EINVAL) {
		u.h.handle_bytes = sizeof(w->handle);
		r = name_to_handle_at(dir, name, &u.h, &mnt_id, flags);
	}
	return !r && u.h.handle_bytes == w->handle_bytes && (uint32_t)u.h.handle_type == w->handle_type &&
	       !memcmp(u.h.f_handle, w->handle, w->handle_bytes);
}

static DIR *dir_open(const struct search *s, const char *rel)
{
	struct open_how how = {
		.flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NOATIME | O_CLOEXEC,
		.resolve = RESOLVE_NO_XDEV | RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
	};
	_cleanup_close_ int fd = (int)syscall(SYS_openat2, s->root, *rel ? rel : ".", &how, sizeof(how));
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (d)
		take_fd(&fd);
	return d;
}

static const char *below(struct search *s, const char *rel, const char *name)
{
	return *rel ? path_join(&s->arena, rel, name) : arena_strdup(&s->arena, name);
}

/* 1: it is in there, *ret is its name below the mount. */
static int dir_search(struct search *s, const char *rel, const char **ret)
{
	_cleanup_closedir_ DIR *dir = dir_open(s, rel);
	const char **slot;
	struct dirent *de;

	while (dir && (de = readdir(dir))) {
		if (!strcmp(de->d_name, ".") || !strcmp(de->d_name, ".."))
			continue;
		if ((!s->by_number || de->d_ino == s->w->ino) && handle_is(dirfd(dir), de->d_name, 0, s->w)) {
			*ret = below(s, rel, de->d_name);
			return *ret ? 1 : -ENOMEM;
		}
		if (de->d_type != DT_DIR && de->d_type != DT_UNKNOWN)
			continue;
		slot = ARENA_PUSH(&s->arena, s->dirs, s->n_dirs);
		if (!slot)
			return -ENOMEM;
		*slot = below(s, rel, de->d_name);
		if (!*slot)
			return -ENOMEM;
	}
	return 0;
}

static int search(struct search *s, uint64_t deadline_usec, const char **ret)
{
	const char **slot = ARENA_PUSH(&s->arena, s->dirs, s->n_dirs);
	int r = slot ? 0 : -ENOMEM;

	if (slot)
		*slot = "";
	for (size_t i = 0; r == 0 && i < s->n_dirs; i++) {
		if (clock_usec(CLOCK_MONOTONIC) > deadline_usec)
			return -ETIME;
		r = dump_check_cancelled(s->ctx);
		if (r >= 0)
			r = dir_search(s, s->dirs[i], ret);
	}
	return r;
}

int watched_search(struct dump_ctx *ctx, int root, const struct watched *w, bool by_number,
		   uint64_t deadline_usec, const char **ret_rel)
{
	struct search s = { .ctx = ctx, .w = w, .root = root, .by_number = by_number };
	const char *rel = NULL;
	int r;

	*ret_rel = "";
	if (handle_is(root, "", AT_EMPTY_PATH, w))
		return 1;
	arena_init(&s.arena);
	r = search(&s, deadline_usec, &rel);
	if (r > 0) {
		*ret_rel = arena_strdup(&ctx->arena, rel);
		r = *ret_rel ? 1 : -ENOMEM;
	}
	arena_done(&s.arena);
	return r;
}
