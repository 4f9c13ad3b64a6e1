/*
 * Control groups by their id, as sock_diag names them: the inode number of their directory in the
 * unified hierarchy, which is a file handle, too.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "ns/cgroup_state.h"
#include "ns/state.h"

#define HANDLE_KERNFS	0xfe	/* FILEID_KERNFS: eight bytes, the id */

struct own {
	uint64_t id;
};

struct cgroup_ids {
	struct cg_hierarchy h;
	struct map own;			/* by pid: struct own * */
	struct map paths;		/* by id: char *, "" for one that is gone */
};

static int ids_get(struct dump_ctx *ctx, struct cgroup_ids **ret)
{
	_cleanup_close_ int self = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct mount_table mounts;
	struct cgroup_ids *ids = ctx->cgroup_ids;
	int r;

	*ret = ids;
	if (ids)
		return 0;
	ids = ARENA_NEW(&ctx->arena, struct cgroup_ids);
	if (!ids)
		return -ENOMEM;
	ids->h = (struct cg_hierarchy){ .name = "", .root = "/", .fd = -EBADF };
	r = self < 0 ? neg_errno() : mountinfo_read(&ctx->arena, self, &mounts);
	if (r < 0)
		return r;
	cgroup_find_mount(&mounts, &ids->h);
	*ret = ctx->cgroup_ids = ids;
	return 0;
}

static int own_id(struct dump_ctx *ctx, struct cgroup_ids *ids, const struct dump_process *p,
		  uint64_t *ret)
{
	_cleanup_free_ char *text = NULL;
	_cleanup_close_ int dir = -EBADF;
	struct own *own = map_get(&ids->own, (uint64_t)p->pid);
	struct cg_set set;
	const char *path;
	struct stat st;
	int r;

	if (own) {
		*ret = own->id;
		return 0;
	}
	r = read_file_at(p->proc_fd, "cgroup", READ_FILE_MAX, &text, NULL);
	if (r >= 0)
		r = cgroup_parse(&ctx->arena, text, &set);
	if (r < 0)
		return r;
	path = cgroup_path_in(&set, "");
	own = ARENA_NEW(&ctx->arena, struct own);
	if (!own)
		return -ENOMEM;
	dir = path ? cgroup_open_dir(&ids->h, path) : -ENOENT;
	if (dir >= 0 && !fstat(dir, &st))
		own->id = st.st_ino;
	*ret = own->id;
	return map_put(&ids->own, (uint64_t)p->pid, own);
}

static int path_of_fd(int fd, char **ret)
{
	char link[48];

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	return readlink_at(AT_FDCWD, link, ret);
}

/* The path below the mount, with what that shows of the hierarchy before it. */
static int find_path(struct dump_ctx *ctx, const struct cg_hierarchy *h, uint64_t id, char **ret)
{
	struct {
		struct file_handle head;
		uint64_t id;
	} handle = { .head = { .handle_bytes = sizeof(id), .handle_type = HANDLE_KERNFS } };
	/* open_by_handle_at(2) does not take O_PATH for a mount. */
	_cleanup_close_ int mount = open_on_mount(h->fd, ".", O_RDONLY | O_DIRECTORY);
	_cleanup_close_ int fd = -EBADF;
	_cleanup_free_ char *at = NULL, *path = NULL;
	const char *below;
	int r;

	if (mount < 0)
		return mount;
	memcpy(handle.head.f_handle, &id, sizeof(id));
	fd = open_by_handle_at(mount, &handle.head, O_PATH | O_CLOEXEC);
	if (fd < 0)
		return neg_errno();
	r = path_of_fd(mount, &at);
	if (!r)
		r = path_of_fd(fd, &path);
	if (r < 0)
		return r;
	below = path_below(path, at);
	if (!below)
		return -EXDEV;
	*ret = (char *)path_join(&ctx->arena, h->root, below);
	return *ret ? 0 : -ENOMEM;
}

int cgroup_of_socket(struct dump_ctx *ctx, const struct dump_process *p, uint64_t id, char **ret)
{
	struct cgroup_ids *ids;
	uint64_t own = 0;
	char *path;
	int r = ids_get(ctx, &ids);

	*ret = NULL;
	if (!r && ids->h.fd >= 0)
		r = own_id(ctx, ids, p, &own);
	/* Without the mount, or on kernels without the ids, nobody can tell. */
	if (r < 0 || !id || !own || own == id)
		return r;
	path = map_get(&ids->paths, id);
	if (!path) {
		r = find_path(ctx, &ids->h, id, &path);
		if (r == -ENOMEM)
			return r;
		if (r < 0)
			path = arena_strdup(&ctx->arena, "");
		if (!path || map_put(&ids->paths, id, path) < 0)
			return -ENOMEM;
	}
	if (!*path)
		log_warn("the socket belongs to a control group that cannot be found (%llu): it comes "
			 "back in its process's", (unsigned long long)id);
	else
		*ret = path;
	return 0;
}

void cgroup_ids_done(struct dump_ctx *ctx)
{
	struct cgroup_ids *ids = ctx->cgroup_ids;

	if (!ids)
		return;
	close_fdp(&ids->h.fd);
	map_done(&ids->own);
	map_done(&ids->paths);
	ctx->cgroup_ids = NULL;
}
