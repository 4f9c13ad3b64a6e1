/*
 * A network namespace of the tree's own (PrivateNetwork=): netns-N.img and what hangs on it. The parts
 * are in netns_*.c; here is their order.
 *
 *   dump     the engine visits it; what cannot be saved is found before anything is written
 *   restore  a helper makes it, owned by the initial user namespace; the engine fills it from inside:
 *            settings, interfaces, their settings, packet filter, up, addresses, routes
 *
 * The filter is there before the first interface is up: it holds the network lock of the dump.
 *
 * What a container runtime does itself: one that is its own (--external net[INODE]:LABEL, and --inherit-fd
 * fd[N]:LABEL on restore) is only named, and of one that it will furnish again (--empty-ns net)
 * nothing is saved; then there is lo, which is up, and what comes at setup-namespaces.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>

#include "core/files.h"
#include "ns/netns.h"

/* The visit: fn with a route socket, from inside of the tree's namespace. */
static int inside(struct dump_ctx *ctx, uint32_t id,
		  int (*fn)(struct dump_ctx *, struct netlink *, uint32_t))
{
	_cleanup_close_ int fd = openat(ctx->procs[0]->proc_fd, "ns/net", O_RDONLY | O_CLOEXEC);
	_cleanup_netlink_ struct netlink nl = NETLINK_INIT;
	struct ns_visit v;
	int r, left;

	if (fd < 0)
		return log_err(neg_errno(), "cannot open the network namespace of %d",
			       ctx->procs[0]->pid);
	r = ns_visit_begin(&v, fd, NS_NET);
	if (r < 0)
		return r;
	r = netlink_open(NETLINK_ROUTE, &nl);
	if (r < 0)
		log_err(r, "cannot ask the network namespace");
	else
		r = fn(ctx, &nl, id);
	left = ns_visit_end(&v);
	return left < 0 ? left : r;
}

static int check_all(struct dump_ctx *ctx, struct netlink *nl, uint32_t id _unused_)
{
	int results[] = { netns_link_check(ctx, nl), netns_addr_check(nl), netns_filter_check(ctx) };
	int refused = 0;

	for (size_t i = 0; i < ARRAY_SIZE(results); i++) {
		if (results[i] < 0 && results[i] != -EOPNOTSUPP)
			return results[i];
		refused = results[i] < 0 ? results[i] : refused;
	}
	return refused;
}

/* The label of --external net[INODE]:LABEL for the tree's; NULL: it is the tree's own. */
const char *netns_label(const struct dump_ctx *ctx)
{
	struct stat st;
	char key[40];

	if (fstatat(ctx->procs[0]->proc_fd, "ns/net", &st, 0) < 0)
		return NULL;
	snprintf(key, sizeof(key), "net[%lu]:", (unsigned long)st.st_ino);
	for (size_t i = 0; i < ctx->opts->n_externals; i++)
		if (str_starts(ctx->opts->externals[i].key, key))
			return ctx->opts->externals[i].key + strlen(key);
	return NULL;
}

int netns_check(struct dump_ctx *ctx)
{
	uint32_t id = ns_dump_own_id(ctx, NS_NET);

	if (!id || ctx->opts->empty_net || netns_label(ctx))
		return 0;
	return inside(ctx, id, check_all);
}

static int dump_all(struct dump_ctx *ctx, struct netlink *nl, uint32_t id)
{
	NetnsEntry e = NETNS_ENTRY__INIT;
	int r = netns_conf_dump(&ctx->arena, &e);

	if (r >= 0)
		r = netns_link_dump(ctx, nl, id);
	if (r >= 0)
		r = netns_addr_dump(ctx, nl, &e, id);
	if (r >= 0)
		r = netns_filter_dump(ctx, id);
	return r < 0 ? r : image_write_one(ctx->store, &image_netns, &e.base, id);
}

int netns_dump(struct dump_ctx *ctx, uint32_t id)
{
	NetnsEntry e = NETNS_ENTRY__INIT;

	e.ext_key = (char *)netns_label(ctx);
	if (e.ext_key)
		return image_write_one(ctx->store, &image_netns, &e.base, id);
	return ctx->opts->empty_net ? 0 : inside(ctx, id, dump_all);
}

static int unshare_net(void *arg _unused_, struct ns_reply *reply _unused_)
{
	return unshare(CLONE_NEWNET) < 0 ? neg_errno() : 0;
}

/* NULL: there is no image, as of a dump with --empty-ns. */
static int read_entry(struct restore_ctx *ctx, uint32_t id, NetnsEntry **ret)
{
	_cleanup_image_reader_ struct image_reader rd;
	int r = image_open_optional(ctx->store, &image_netns, &rd, id);

	*ret = NULL;
	if (r >= 0)
		r = image_get(&rd, &ctx->arena, netns_entry, ret);
	if (r < 0 || *ret || ctx->opts->empty_net)
		return r < 0 ? r : 0;
	return log_fail(-ENOENT, "image %s is missing, as after a dump with --empty-ns net: give it to the "
			"restore, too", rd.name);
}

static int given(struct restore_ctx *ctx, const char *label, int *ret_fd)
{
	int r = external_dup(ctx->opts, label, ret_fd);

	return r < 0 ? log_err(r, "the network namespace was external: give --inherit-fd fd[N]:%s", label) : 0;
}

int netns_make(struct restore_ctx *ctx, const struct restore_process *p _unused_, uint32_t id, int *ret_fd)
{
	_cleanup_helper_ struct ns_helper h = NS_HELPER_INIT;
	NetnsEntry *e;
	int r = read_entry(ctx, id, &e);

	if (r < 0)
		return r;
	if (e && e->ext_key)
		return given(ctx, e->ext_key, ret_fd);
	r = ns_helper_start(&h, unshare_net, NULL);
	if (r >= 0)
		r = ns_helper_open(&h, "ns/net", ret_fd);
	return r < 0 ? log_err(r, "cannot make a network namespace") : 0;
}

/* As container runtimes have it; nothing listens at 127.0.0.1 before. */
static int loopback_up(struct netlink *nl)
{
	struct ifinfomsg ifi = { .ifi_index = 1, .ifi_flags = IFF_UP, .ifi_change = IFF_UP };
	struct netlink_msg m;
	int r;

	netlink_begin(&m, RTM_NEWLINK, 0, &ifi, sizeof(ifi));
	r = netlink_send(nl, &m);
	return r < 0 ? log_err(r, "cannot bring up lo%s", nl->why) : 0;
}

static int furnish(struct restore_ctx *ctx, struct netlink *nl, const NetnsEntry *e, uint32_t id)
{
	struct netns_links links;
	int r = netns_link_read(ctx, id, &links);

	if (r >= 0)
		r = netns_conf_restore(e);
	if (r >= 0)
		r = netns_link_make(ctx, nl, &links);
	if (r >= 0)
		r = netns_conf_restore_links(e);
	if (r >= 0)
		r = netns_filter_restore(ctx, id);
	if (r >= 0)
		r = netns_link_up(ctx, nl, &links);
	return r < 0 ? r : netns_addr_restore(ctx, nl, e, id);
}

int netns_restore(struct restore_ctx *ctx, uint32_t id)
{
	_cleanup_netlink_ struct netlink nl = NETLINK_INIT;
	NetnsEntry *e;
	int r = read_entry(ctx, id, &e);

	if (r < 0 || (e && e->ext_key))
		return r;
	LOG_SCOPE("network namespace %u", id);
	r = netlink_open(NETLINK_ROUTE, &nl);
	if (r < 0)
		return log_err(r, "cannot talk to the kernel's network");
	return e && !ctx->opts->empty_net ? furnish(ctx, &nl, e, id) : loopback_up(&nl);
}
