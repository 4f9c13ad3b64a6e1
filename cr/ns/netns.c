/*
 * A network namespace of the tree's own (PrivateNetwork=): netns-N.img and what hangs on it. The parts
 * are in netns_*.c; here is their order.
 *
 *   dump     the engine visits it; what cannot be saved is found before anything is written
 *   restore  a helper makes it, owned by the initial user namespace; the engine fills it from inside:
 *            settings, interfaces, their settings, packet filter, up, addresses, routes
 *
 * The filter is there before the first interface is up: it holds the network lock of the dump.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <sched.h>

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
	int results[] = { netns_link_check(ctx, nl), netns_addr_check(nl), netns_filter_check() };
	int refused = 0;

	for (size_t i = 0; i < ARRAY_SIZE(results); i++) {
		if (results[i] < 0 && results[i] != -EOPNOTSUPP)
			return results[i];
		refused = results[i] < 0 ? results[i] : refused;
	}
	return refused;
}

int netns_check(struct dump_ctx *ctx)
{
	uint32_t id = ns_dump_own_id(ctx, NS_NET);

	return id ? inside(ctx, id, check_all) : 0;
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
	return inside(ctx, id, dump_all);
}

static int unshare_net(void *arg _unused_, struct ns_reply *reply _unused_)
{
	return unshare(CLONE_NEWNET) < 0 ? neg_errno() : 0;
}

int netns_build(struct ns_restore *ns)
{
	_cleanup_helper_ struct ns_helper h = NS_HELPER_INIT;
	int r = ns_helper_start(&h, unshare_net, NULL);

	if (r >= 0)
		r = ns_helper_open(&h, "ns/net", &ns->net_fd);
	return r < 0 ? log_err(r, "cannot make a network namespace") : 0;
}

int netns_restore(struct restore_ctx *ctx, uint32_t id)
{
	_cleanup_netlink_ struct netlink nl = NETLINK_INIT;
	struct netns_links links;
	NetnsEntry *e;
	int r = image_read_one(ctx->store, &ctx->arena, &image_netns, netns_entry, &e, id);

	if (r < 0)
		return r;
	LOG_SCOPE("network namespace %u", id);
	if (e->ext_key)
		return log_fail(-EOPNOTSUPP, "it was dumped as external (%s)", e->ext_key);
	r = netns_link_read(ctx, id, &links);
	if (r < 0)
		return r;
	r = netlink_open(NETLINK_ROUTE, &nl);
	if (r < 0)
		return log_err(r, "cannot talk to the kernel's network");
	r = netns_conf_restore(e);
	if (r >= 0)
		r = netns_link_make(ctx, &nl, &links);
	if (r >= 0)
		r = netns_conf_restore_links(e);
	if (r >= 0)
		r = netns_filter_restore(ctx, id);
	if (r >= 0)
		r = netns_link_up(ctx, &nl, &links);
	return r < 0 ? r : netns_addr_restore(ctx, &nl, e, id);
}
