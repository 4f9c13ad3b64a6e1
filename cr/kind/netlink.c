/*
 * Netlink sockets.
 *
 *   dump     port id and groups by getsockname(2), all groups by NETLINK_LIST_MEMBERSHIPS
 *   restore  bind with the same port id, groups, connect
 *
 * Messages that wait to be read cannot be put back: the kernel alone sends them. What a socket has
 * told the kernel to send it goes with the socket: packets of a queue or a log group, which end of
 * process events it listens at.
 */
#include <linux/connector.h>
#include <linux/netlink.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "kind/kinds.h"
#include "kind/sk_common.h"

/* 0: disconnected again, as the kernel and CRIU write it. */
enum { NETLINK_DISCONNECTED_STATE = 0, NETLINK_CONNECTED_STATE = 1, NETLINK_UNCONNECTED_STATE = 7 };

#define GROUP_WORDS_MAX	32u

static bool netlink_match(const struct dump_file *f)
{
	return sk_family(f) == AF_NETLINK;
}

/*
 * /proc/net/netfilter/nfnetlink_queue and nfnetlink_log begin each line with the number of the
 * queue or group and the port id of the socket that has it.
 */
int netlink_find_bound(const char *text, uint32_t portid, unsigned int *ret)
{
	for (const char *line = text; line && *line; line = strchr(line, '\n')) {
		unsigned int number, port;

		line += strspn(line, "\n");
		if (sscanf(line, "%u %u", &number, &port) == 2 && port == portid) {
			*ret = number;
			return 1;
		}
	}
	return 0;
}

/* file: of the namespace the engine is in, which is the socket's. */
static int find_bound(const char *file, uint32_t portid, unsigned int *ret)
{
	_cleanup_free_ char *text = NULL;
	int r = read_file_at(-1, file, READ_FILE_MAX, &text, NULL);

	/* Without its module nothing can be bound. */
	if (r == -ENOENT)
		return 0;
	return r < 0 ? log_err(r, "cannot read %s", file) : netlink_find_bound(text, portid, ret);
}

static int check_netfilter(uint32_t portid)
{
	unsigned int number;
	int r = find_bound("/proc/thread-self/net/netfilter/nfnetlink_queue", portid, &number);

	if (r > 0)
		return log_obstacle("stop the service before",
				    "netlink socket that packets are queued to (NFQUEUE %u)",
				    number);
	if (r < 0)
		return r;
	r = find_bound("/proc/thread-self/net/netfilter/nfnetlink_log", portid, &number);
	if (r > 0)
		return log_obstacle("stop the service before",
				    "netlink socket that packets are logged to (NFLOG group %u)",
				    number);
	return r;
}

/*
 * The kernel notes per socket who listens (since 6.6) and to which events, or only how many do. It
 * tells neither.
 */
static int check_connector(const NetlinkSkEntry *e)
{
	if (!e->n_groups || !(e->groups[0] >> (CN_IDX_PROC - 1) & 1))
		return 0;
	return log_obstacle("stop the service before",
			    "netlink socket that gets process events (proc connector)");
}

/* What the kernel keeps about the socket beside groups and port. */
static int check_bound(const NetlinkSkEntry *e)
{
	switch (e->protocol) {
	case NETLINK_NETFILTER:
		return e->portid ? check_netfilter(e->portid) : 0;
	case NETLINK_CONNECTOR:
		return check_connector(e);
	default:
		return 0;
	}
}

static int check(struct dump_ctx *ctx, const struct dump_file *f)
{
	struct pollfd p = { .fd = f->fd, .events = POLLIN };

	if (poll(&p, 1, 0) <= 0 || !(p.revents & (POLLIN | POLLERR)))
		return 0;
	return dump_obstacle_for_now(ctx, "try again when the service has read them",
				     "netlink socket with unread messages");
}

static int dump_groups(struct dump_ctx *ctx, struct dump_file *f, NetlinkSkEntry *e)
{
	uint32_t words[GROUP_WORDS_MAX] = { 0 };
	socklen_t len = sizeof(words);

	if (getsockopt(f->fd, SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, words, &len) < 0)
		return log_err(neg_errno(), "cannot read the netlink groups");
	len = MIN(len, (socklen_t)sizeof(words)) / 4;
	while (len && !words[len - 1])
		len--;
	/* More than one word is beyond CRIU, but fits its message. */
	e->n_groups = len;
	e->groups = arena_memdup(&ctx->arena, words, MAX(len, 1u) * 4);
	return e->groups ? 0 : log_err(-ENOMEM, "netlink groups");
}

static int netlink_dump(struct dump_ctx *ctx, struct dump_file *f)
{
	NetlinkSkEntry *e = ARENA_MSG(&ctx->arena, NetlinkSkEntry, netlink_sk_entry);
	struct sockaddr_nl own = { 0 }, peer = { 0 };
	socklen_t len = sizeof(own);
	int proto, r;

	if (!e)
		return log_err(-ENOMEM, "netlink socket");
	r = sk_get_int(f->fd, SOL_SOCKET, SO_PROTOCOL, &proto);
	if (r < 0)
		return log_err(r, "cannot read the netlink protocol");
	if (getsockname(f->fd, (struct sockaddr *)&own, &len) < 0)
		return log_err(neg_errno(), "cannot read the netlink socket's address");
	len = sizeof(peer);
	if (getpeername(f->fd, (struct sockaddr *)&peer, &len) < 0)
		return log_err(neg_errno(), "cannot read the netlink socket's peer");
	e->id = f->id;
	e->ino = (uint32_t)f->st.st_ino;
	e->protocol = (uint32_t)proto;
	e->flags = f->flags;
	e->portid = own.nl_pid;
	e->dst_portid = peer.nl_pid;
	e->dst_group = peer.nl_groups;
	e->state = peer.nl_pid || peer.nl_groups ? NETLINK_CONNECTED_STATE
						 : NETLINK_UNCONNECTED_STATE;
	e->ns_id = sk_ns_id(f);
	e->has_ns_id = e->ns_id != 0;
	f->fe->nlsk = e;
	r = dump_groups(ctx, f, e);
	if (!r)
		r = check_bound(e);
	if (!r)
		r = check(ctx, f);
	if (!r)
		r = dump_fown(ctx, f, &e->fown);
	return r < 0 ? r : sk_opts_dump(ctx, f, &e->opts);
}

static int join_groups(int fd, const NetlinkSkEntry *e)
{
	for (size_t i = 0; i < e->n_groups * 32; i++) {
		int r;

		if (!(e->groups[i / 32] >> i % 32 & 1))
			continue;
		r = sk_set_int(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, (int)i + 1);
		if (r < 0)
			return log_err(r, "cannot join netlink group %zu", i + 1);
	}
	return 0;
}

static int bind_and_connect(int fd, const NetlinkSkEntry *e)
{
	struct sockaddr_nl own = { .nl_family = AF_NETLINK, .nl_pid = e->portid };
	struct sockaddr_nl peer = { .nl_family = AF_NETLINK, .nl_pid = e->dst_portid,
				    .nl_groups = e->dst_group };

	if (e->portid && bind(fd, (struct sockaddr *)&own, sizeof(own)) < 0)
		return log_err(neg_errno(), "cannot have netlink port id %u", e->portid);
	if ((e->dst_portid || e->dst_group) &&
	    connect(fd, (struct sockaddr *)&peer, sizeof(peer)) < 0)
		return log_err(neg_errno(), "cannot connect to netlink port id %u", e->dst_portid);
	return join_groups(fd, e);
}

int netlink_check_entry(const NetlinkSkEntry *e)
{
	if (e->protocol >= MAX_LINKS)
		return log_fail(-EBADMSG, "netlink socket of protocol %u", e->protocol);
	if (e->n_groups > GROUP_WORDS_MAX)
		return log_fail(-EBADMSG, "netlink socket: %zu words of groups", e->n_groups);
	if (e->state != NETLINK_DISCONNECTED_STATE && e->state != NETLINK_CONNECTED_STATE &&
	    e->state != NETLINK_UNCONNECTED_STATE)
		return log_fail(-EBADMSG, "netlink socket in state %u", e->state);
	return sk_opts_check(e->opts);
}

static int netlink_sort(struct restore_ctx *ctx _unused_, const struct restore_file *f,
			struct sk_sort *ret, const char **ret_cgroup _unused_)
{
	int r = netlink_check_entry(f->fe->nlsk);

	if (r < 0)
		return r;
	*ret = (struct sk_sort){ AF_NETLINK, SOCK_RAW, (int)f->fe->nlsk->protocol };
	return 1;
}

static int netlink_begin(struct restore_ctx *ctx)
{
	return sk_make(ctx, FD_TYPES__NETLINKSK, netlink_sort);
}

static int netlink_restore(struct restore_ctx *ctx, struct restore_file *f, int *ret_fd)
{
	const NetlinkSkEntry *e = f->fe->nlsk;
	_cleanup_close_ int fd = -EBADF;
	int r = sk_inherit(ctx, e->ino, ret_fd);

	if (r)
		return MIN(r, 0);
	r = sk_take(ctx, f, &fd);
	if (!r)
		r = bind_and_connect(fd, e);
	if (!r)
		r = sk_opts_restore(fd, e->opts);
	if (!r)
		r = sk_opts_restore_late(fd, e->opts);
	if (!r) {
		r = restore_flags_fown(fd, e->flags, e->fown);
		if (r < 0)
			log_err(r, "cannot set the socket's flags or owner");
	}
	if (r < 0)
		return r;
	*ret_fd = take_fd(&fd);
	return 0;
}

const struct kind kind_netlink = {
	.name = "netlink socket",
	.type = FD_TYPES__NETLINKSK,
	.match = netlink_match,
	.dump = netlink_dump,
	.begin = netlink_begin,
	.restore = netlink_restore,
	.restore_done = sk_make_done,
};
