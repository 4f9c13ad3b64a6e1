/* See sk_common.h. */
#include "kind/sk_common.h"

#include <fcntl.h>
#include <string.h>

#include "core/files.h"
#include "ns/ns.h"

int sk_get_int(int fd, int level, int name, int *ret)
{
	socklen_t len = sizeof(*ret);

	*ret = 0;
	return getsockopt(fd, level, name, ret, &len) < 0 ? neg_errno() : 0;
}

int sk_set_int(int fd, int level, int name, int v)
{
	return setsockopt(fd, level, name, &v, sizeof(v)) < 0 ? neg_errno() : 0;
}

int sk_set_int_log(int fd, int level, int name, int v, const char *what)
{
	int r = sk_set_int(fd, level, name, v);

	return r < 0 ? log_err(r, "cannot set socket option %s to %d", what, v) : 0;
}

int sk_family(const struct dump_file *f)
{
	int family;

	if (f->fd < 0 || !S_ISSOCK(f->st.st_mode) || !str_starts(f->link, "socket:"))
		return -1;
	return sk_get_int(f->fd, SOL_SOCKET, SO_DOMAIN, &family) < 0 ? -1 : family;
}

/* What a dump remembers: which namespaces were asked for what, and the tree's own sockets. */
struct sk_dump {
	struct {
		uint32_t net_ns_id;
		enum sockdiag_sort sort;
		int result;
	} *swept;
	size_t n_swept;
	struct map in_tree;		/* by inode */
	bool tree_listed;
	struct sk_defaults *defaults;
	struct mcast_groups *groups;
	struct sk_reuseport reuseport;
};

/* In the slot of the netlink sockets, which have no state of their own. */
static struct sk_dump *sk_dump(struct dump_ctx *ctx)
{
	if (!ctx->kind_state[FD_TYPES__NETLINKSK])
		ctx->kind_state[FD_TYPES__NETLINKSK] = ARENA_NEW(&ctx->arena, struct sk_dump);
	return ctx->kind_state[FD_TYPES__NETLINKSK];
}

struct sk_defaults **sk_defaults_slot(struct dump_ctx *ctx)
{
	struct sk_dump *d = sk_dump(ctx);

	return d ? &d->defaults : NULL;
}

struct mcast_groups **sk_groups_slot(struct dump_ctx *ctx)
{
	struct sk_dump *d = sk_dump(ctx);

	return d ? &d->groups : NULL;
}

struct sk_reuseport *sk_reuseport_slot(struct dump_ctx *ctx)
{
	struct sk_dump *d = sk_dump(ctx);

	return d ? &d->reuseport : NULL;
}

void sk_dump_done(struct dump_ctx *ctx)
{
	struct sk_dump *d = ctx->kind_state[FD_TYPES__NETLINKSK];

	if (d)
		map_done(&d->in_tree);
}

/* Of the namespace the engine is in: the socket's. */
static int sweep_once(struct dump_ctx *ctx, uint32_t net_ns_id, enum sockdiag_sort sort)
{
	struct sk_dump *d = sk_dump(ctx);
	typeof(d->swept) s;
	int r;

	if (!d)
		return -ENOMEM;
	for (size_t i = 0; i < d->n_swept; i++)
		if (d->swept[i].net_ns_id == net_ns_id && d->swept[i].sort == sort)
			return d->swept[i].result;
	r = sockdiag_sweep(sort, &ctx->arena, &ctx->sockets_by_ino);
	if (r == -ENOENT && (sort == SOCKDIAG_TCP || sort == SOCKDIAG_UDP))
		log_warn("the kernel module %s is missing: MD5 keys, control groups and ends that are "
			 "shut down are not seen", sockdiag_module(sort));
	s = ARENA_PUSH(&ctx->arena, d->swept, d->n_swept);
	if (!s)
		return -ENOMEM;
	*s = (typeof(*s)){ .net_ns_id = net_ns_id, .sort = sort, .result = r };
	return r;
}

int sk_diag(struct dump_ctx *ctx, const struct dump_file *f, enum sockdiag_sort sort,
	    bool optional, const struct sockdiag **ret)
{
	int r = sweep_once(ctx, f->net_ns_id, sort);

	*ret = NULL;
	if (r == -ENOENT && optional)
		return 0;
	if (r == -ENOENT)
		return log_obstacle("load the module", "the kernel module %s is missing",
				    sockdiag_module(sort));
	if (r < 0)
		return log_err(r, "cannot ask the kernel for its sockets (sock_diag)");
	*ret = sk_diag_by_ino(ctx, (uint32_t)f->st.st_ino);
	return 0;
}

const struct sockdiag *sk_diag_by_ino(struct dump_ctx *ctx, uint32_t ino)
{
	return ino ? map_get(&ctx->sockets_by_ino, ino) : NULL;
}

static int link_note(const char *link, struct map *ret)
{
	unsigned long long ino;

	return sscanf(link, "socket:[%llu]", &ino) == 1 ? map_put(ret, ino, ret) : 0;
}

int sk_list_own(struct map *ret)
{
	_cleanup_closedir_ DIR *dir = opendir("/proc/self/fd");
	const struct dirent *de;

	if (!dir)
		return neg_errno();
	while ((de = readdir(dir))) {
		char link[64];
		ssize_t n = readlinkat(dirfd(dir), de->d_name, link, sizeof(link) - 1);
		int r;

		link[MAX(n, (ssize_t)0)] = '\0';
		r = link_note(link, ret);
		if (r < 0)
			return r;
	}
	return 0;
}

static int tree_list(struct dump_ctx *ctx, struct map *ret)
{
	int r = 0;

	for (size_t i = 0; i < ctx->n_procs && r >= 0; i++)
		for (size_t k = 0; k < ctx->procs[i]->n_fds && r >= 0; k++)
			r = link_note(ctx->procs[i]->fds[k].link, ret);
	return r;
}

int sk_in_tree(struct dump_ctx *ctx, uint32_t ino)
{
	struct sk_dump *d = sk_dump(ctx);
	int r;

	if (!d)
		return -ENOMEM;
	r = d->tree_listed ? 0 : tree_list(ctx, &d->in_tree);
	if (r < 0)
		return log_err(r, "cannot remember the tree's sockets");
	d->tree_listed = true;
	return map_get(&d->in_tree, ino) != NULL;
}

int sk_in_tree_add(struct dump_ctx *ctx, uint32_t ino)
{
	struct sk_dump *d = sk_dump(ctx);
	int r = d ? map_put(&d->in_tree, ino, d) : -ENOMEM;

	return r < 0 ? log_err(r, "cannot remember the socket") : 0;
}

uint32_t sk_ns_id(const struct dump_file *f)
{
	return f->net_ns_id;
}

const struct cr_external *sk_external(const struct cr_opts *opts, const char *sort, uint32_t ino)
{
	char key[64];

	snprintf(key, sizeof(key), "%s[%u]", sort, ino);
	return external_find(opts, key);
}

int sk_inherit(struct restore_ctx *ctx, uint32_t ino, int *ret_fd)
{
	char key[64];
	int r;

	snprintf(key, sizeof(key), "socket:[%u]", ino);
	r = external_dup(ctx->opts, key, ret_fd);
	if (r == -ENOENT)
		return 0;
	return r < 0 ? log_err(r, "cannot duplicate what was handed in for %s", key) : 1;
}

int sk_restore_owner(struct restore_ctx *ctx, const struct restore_file *f, int fd)
{
	const CredsEntry *c;

	if (!f->owner || !f->owner->core || !f->owner->core->thread_core)
		return 0;
	c = f->owner->core->thread_core->creds;
	if (!c)
		return 0;
	if (fchown(fd, ns_restore_uid(ctx, c->fsuid), ns_restore_gid(ctx, c->fsgid)) < 0)
		return log_err(neg_errno(), "cannot give the socket to user %u", c->fsuid);
	return 0;
}
