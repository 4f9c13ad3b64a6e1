/*
 * The network comes up behind a lock: each interface drops what arrives before its first
 * packet could meet a kernel that does not know the saved connections yet and would answer
 * with a reset. Then names, addresses and routes as they were; unlocked when all trees are
 * back or given up.
 *
 * The lock is held by a process of its own: in our own initramfs the one that runs all this
 * (early_lane.c), in the distribution's the guard (early_guard.c).
 */
#include "initramfs/early_net.h"

#include <net/if.h>
#include <string.h>

#include "netlock/netlock.h"
#include "util/io.h"
#include "util/log.h"

struct link_wait {
	struct nl_sock *sk;
	const char *mac;
	int ifindex;
};

static int link_ready(void *arg)
{
	struct link_wait *w = arg;

	w->ifindex = net_find_mac(w->sk, w->mac);
	return w->ifindex ? MIN(w->ifindex, 0) : -EAGAIN;
}

static int wait_link(struct early *e, struct nl_sock *sk, const struct manifest_link *l)
{
	struct link_wait w = { .sk = sk, .mac = l->mac };
	int r = uevent_wait(e->uevent_fd, EARLY_DEVICE_USEC, link_ready, &w);

	return r < 0 ? log_err(r, "waited for the interface %s (%s)", l->name, l->mac) : w.ifindex;
}

static void sock_freep(struct nl_sock **sk)
{
	if (*sk)
		nl_socket_free(*sk);
}

static int lock_links(struct early *e, struct nl_sock *sk)
{
	const struct manifest *m = e->manifest;

	for (size_t i = 0; i < m->n_links; i++) {
		int ifindex, r;

		if (m->links[i].kind)
			continue;
		ifindex = wait_link(e, sk, &m->links[i]);
		/* Connections over an interface that is gone are lost, the others are not. */
		if (ifindex < 0)
			continue;
		r = netlock_lock_ifindex(e->lock, ifindex);
		if (r < 0)
			return r;
	}
	return 0;
}

int early_net_lock(struct early *e)
{
	_cleanup_(sock_freep) struct nl_sock *sk = net_open();
	int lo = if_nametoindex("lo"), r;

	if (!sk)
		return log_fail(-EIO, "no rtnetlink socket");
	r = netlock_open(&e->lock);
	/* One tree may be back before the other end of its connection is. */
	if (r == 0 && lo)
		r = netlock_lock_ifindex(e->lock, lo);
	if (r == 0 && !e->initrd)
		r = lock_links(e, sk);
	return r < 0 ? log_err(r, "the network cannot be locked") : 0;
}

/* By its address, before it has one of a bond's. In the distribution's initramfs udev names it. */
static void name_link(struct nl_sock *sk, const struct manifest_link *l)
{
	int ifindex = net_find_mac(sk, l->mac);

	if (ifindex > 0 && net_set_name(sk, ifindex, l->name) < 0)
		log_warn("interface %s keeps another name", l->name);
}

/* By its name, which a slave keeps while it has its bond's address. 0: not there. */
static int index_of(struct nl_sock *sk, const struct manifest_link *l)
{
	int ifindex = (int)if_nametoindex(l->name);

	return ifindex || l->kind ? ifindex : MAX(net_find_mac(sk, l->mac), 0);
}

static bool has_ipv6(const struct manifest_link *l)
{
	for (size_t i = 0; i < l->n_addresses; i++)
		if (l->addresses[i].family == AF_INET6)
			return true;
	return false;
}

static void configure_link(struct early *e, struct nl_sock *sk, const struct manifest_link *l)
{
	/* Own carrier: waited for already, by the lock. */
	int ifindex = e->initrd ? wait_link(e, sk, l) : index_of(sk, l);

	if (ifindex <= 0) {
		log_warn("no interface %s (%s)", l->name, l->mac);
		return;
	}
	/* Else the port of a bridge gets an address by itself. */
	if (l->master && !has_ipv6(l) &&
	    write_filef("1", "/proc/sys/net/ipv6/conf/%s/addr_gen_mode", l->name) == -EACCES)
		log_warn("interface %s may get an IPv6 address of its own", l->name);
	if (net_up(sk, ifindex, l->mtu) < 0)
		log_warn("interface %s may not be up", l->name);
	for (size_t i = 0; i < l->n_addresses; i++)
		if (net_add_address(sk, ifindex, &l->addresses[i]) < 0)
			log_warn("interface %s is without %s", l->name, l->addresses[i].address);
}

/* It has its name, and waits for nobody. The kernel gives it its own addresses. */
static void configure_lo(struct nl_sock *sk, const struct manifest *m)
{
	if (net_up(sk, NET_LO, 0) < 0)
		log_warn("the loopback interface may not be up");
	for (size_t i = 0; i < m->n_lo_addresses; i++)
		if (net_add_address(sk, NET_LO, &m->lo_addresses[i]) < 0)
			log_warn("the loopback interface is without %s", m->lo_addresses[i].address);
}

/* Under udev it may not have its name yet. */
static int ifindex_of(struct early *e, struct nl_sock *sk, const char *name)
{
	int found = 0;

	for (size_t i = 0; i < e->manifest->n_links && found <= 0; i++)
		if (!strcmp(e->manifest->links[i].name, name))
			found = e->initrd ? net_find_mac(sk, e->manifest->links[i].mac) :
					    index_of(sk, &e->manifest->links[i]);
	return found > 0 ? found : (int)if_nametoindex(name);
}

static void add_route(struct early *e, struct nl_sock *sk, const struct manifest_route *t)
{
	int ifindex = t->dev ? ifindex_of(e, sk, t->dev) : 0;

	if (t->dev && !ifindex)
		log_warn("going on without the route to %s: no interface %s", t->dst, t->dev);
	else if (net_add_route(sk, t, ifindex) < 0)
		log_warn("going on without the route to %s", t->dst);
}

int early_net_configure(struct early *e)
{
	_cleanup_(sock_freep) struct nl_sock *sk = net_open();
	const struct manifest *m = e->manifest;
	int r;

	if (!sk)
		return log_fail(-EIO, "no rtnetlink socket");
	configure_lo(sk, m);
	for (size_t i = 0; i < m->n_links && !e->initrd; i++)
		if (!m->links[i].kind)
			name_link(sk, &m->links[i]);
	r = early_netstack_make(e);
	if (r == -EACCES)
		return r;
	/* Who has connections over them starts cold; the others need not. */
	if (r < 0)
		log_warn("going on without some of the interfaces over devices");
	for (size_t i = 0; i < m->n_links; i++)
		configure_link(e, sk, &m->links[i]);
	/* A gateway must be reachable by a route that is there before. */
	for (int with_gateway = 0; with_gateway <= 1; with_gateway++)
		for (size_t i = 0; i < m->n_routes; i++)
			if (!!m->routes[i].via == with_gateway)
				add_route(e, sk, &m->routes[i]);
	/* Gateways are looked up by the rules that are there: the kernel's own know the main table. */
	early_policy_rules_add(m);
	return 0;
}

int early_net_unlock(struct early *e)
{
	/* Done by "restore" already, unless there was nothing to restore. */
	if (e->unlocked)
		return 0;
	e->unlocked = true;
	early_filter_load(e);
	if (e->network)
		early_lane_end(take_ptr(e->network));
	if (e->lock)
		netlock_close(take_ptr(e->lock));
	return e->initrd ? early_guard_stop() : 0;
}
