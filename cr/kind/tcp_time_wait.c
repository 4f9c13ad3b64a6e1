/*
 * Connections in TIME-WAIT that keep bind(2) from their port. Nobody holds them and no image has them, but on the
 * kernel of the dump they are still there: a listener without SO_REUSEADDR finds those that its program has closed.
 *
 * They are ended by SOCK_DESTROY (CONFIG_INET_DIAG_DESTROY; Linux >= 6.0 for these), each by its cookie, and then
 * bind(2) is asked again. What is lost is the answer to a FIN that the peer might repeat: it gets a reset, which one
 * that has closed does not notice. Nothing is ended if anything else has the address, for then it would be in vain.
 *
 * Trap: in repair mode bind(2) passes by them, but so it does by a listener; and listen(2) asks again, in no such mode.
 */
#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <string.h>

#include "kernel/netlink.h"
#include "kind/sk_inet.h"

struct holders {
	const union inet_addr *at;
	bool v6only;
	struct map ours;		/* by inode: what is restored already is in nobody's way */
	struct arena arena;
	struct inet_diag_req_v2 *waiting;	/* as SOCK_DESTROY wants them */
	size_t n;
	bool closing, others;		/* a connection that nobody has; anything else */
};

static void holders_done(struct holders *h)
{
	map_done(&h->ours);
	arena_done(&h->arena);
}

/* As bind(2) does, but for interfaces: a few too many are found. */
static bool has_address(const struct holders *h, const struct inet_diag_msg *m)
{
	union inet_addr at = *h->at, has;

	if (m->id.idiag_sport != at.v4.sin_port ||
	    inet_addr_from_image(m->idiag_family, m->id.idiag_src, m->idiag_family == AF_INET6 ? 4 : 1,
				 0, NULL, &has) < 0)
		return false;
	inet_addr_unmap(&at);
	inet_addr_unmap(&has);
	if (at.sa.sa_family == has.sa.sa_family)
		return inet_addr_is_any(&at) || inet_addr_is_any(&has) ||
		       (at.sa.sa_family == AF_INET ? at.v4.sin_addr.s_addr == has.v4.sin_addr.s_addr :
			IN6_ARE_ADDR_EQUAL(&at.v6.sin6_addr, &has.v6.sin6_addr));
	return at.sa.sa_family == AF_INET6 ? inet_addr_is_any(&at) && !h->v6only
					   : inet_addr_is_any(&has);
}

static int add(void *arg, const struct nlmsghdr *message)
{
	struct holders *h = arg;
	const struct inet_diag_msg *m = NLMSG_DATA(message);
	struct inet_diag_req_v2 *req;

	if (message->nlmsg_len < NLMSG_LENGTH(sizeof(*m)))
		return -EBADMSG;
	if (!has_address(h, m) || (m->idiag_inode && map_get(&h->ours, m->idiag_inode)))
		return 0;
	if (m->idiag_state != TCP_TIME_WAIT) {
		if (m->idiag_inode || m->idiag_state == TCP_LISTEN)
			h->others = true;
		else
			h->closing = true;
		return 0;
	}
	req = ARENA_PUSH(&h->arena, h->waiting, h->n);
	if (!req)
		return -ENOMEM;
	*req = (struct inet_diag_req_v2){ .sdiag_family = m->idiag_family,
					  .sdiag_protocol = IPPROTO_TCP, .id = m->id };
	return 0;
}

static int find(struct netlink *nl, struct holders *h)
{
	struct inet_diag_req_v2 all = { .sdiag_protocol = IPPROTO_TCP, .idiag_states = ~0u,
					.id.idiag_sport = h->at->v4.sin_port };
	int r = sk_list_own(&h->ours);

	if (r < 0)
		return r;
	all.sdiag_family = AF_INET;
	r = netlink_list(nl, SOCK_DIAG_BY_FAMILY, &all, sizeof(all), add, h);
	if (r < 0)
		return r;
	all.sdiag_family = AF_INET6;
	r = netlink_list(nl, SOCK_DIAG_BY_FAMILY, &all, sizeof(all), add, h);
	/* A kernel without IPv6. */
	return r == -ENOENT ? 0 : r;
}

/* Those that end meanwhile by themselves are not found any more. */
static int end(struct netlink *nl, const struct holders *h)
{
	for (size_t i = 0; i < h->n; i++) {
		struct netlink_msg m;
		int r;

		netlink_begin(&m, SOCK_DESTROY, 0, &h->waiting[i], sizeof(h->waiting[i]));
		r = netlink_send(nl, &m);
		if (r < 0 && r != -ENOENT && r != -ESTALE)
			return r;
	}
	return 0;
}

bool tcp_time_wait_end(int fd, const union inet_addr *at, const char **ret_other)
{
	_cleanup_(holders_done) struct holders h = { .at = at };
	_cleanup_netlink_ struct netlink nl = NETLINK_INIT;
	char text[INET_ADDR_TEXT];
	int v6only, r;

	arena_init(&h.arena);
	h.v6only = sk_get_int(fd, SOL_IPV6, IPV6_V6ONLY, &v6only) >= 0 && v6only;
	r = netlink_open(NETLINK_SOCK_DIAG, &nl);
	if (r >= 0)
		r = find(&nl, &h);
	if (r < 0 || h.others)
		return false;
	if (h.closing)
		*ret_other = "a connection that is being closed has it, try again in a minute";
	if (h.closing || !h.n)
		return false;
	if (end(&nl, &h) < 0) {
		*ret_other = "a connection in TIME-WAIT has it, try again in a minute";
		return false;
	}
	log_info("%zu connection(s) in TIME-WAIT kept a listener from %s: ended", h.n,
		 inet_addr_text(at, text));
	return true;
}
