/* See netlock.h. bpf(2): BPF_PROG_LOAD, BPF_LINK_CREATE (5.9 for XDP), BPF_LINK_UPDATE. */
#include "netlock/netlock.h"

#include <linux/bpf.h>
#include <linux/if_link.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/syscall.h>

#include "netlock/links.h"
#include "util/log.h"

struct attached {
	int ifindex, link_fd;
	char name[IF_NAMESIZE];
	enum netlock_link sort;
	enum netlock_mode mode;
};

struct netlock {
	int progs[NETLOCK_MODES][NETLOCK_LINKS];
	struct attached *on;
	size_t n, room;
};

static int bpf(int cmd, union bpf_attr *attr)
{
	int r = (int)syscall(SYS_bpf, cmd, attr, sizeof(*attr));

	return r < 0 ? neg_errno() : r;
}

static int load(enum netlock_mode mode, enum netlock_link link)
{
	struct bpf_insn insns[NETLOCK_INSNS_MAX];
	union bpf_attr attr = { 0 };

	attr.prog_type = BPF_PROG_TYPE_XDP;
	attr.expected_attach_type = BPF_XDP;
	attr.insn_cnt = (uint32_t)netlock_program(mode, link, insns);
	attr.insns = (uintptr_t)insns;
	attr.license = (uintptr_t)"LGPL-2.1-or-later";
	snprintf(attr.prog_name, sizeof(attr.prog_name), "crkexec_%s",
		 mode == NETLOCK_GATE ? "gate" : "lock");
	return bpf(BPF_PROG_LOAD, &attr);
}

int netlock_open(struct netlock **ret)
{
	struct netlock *nl = calloc(1, sizeof(*nl));

	if (!nl)
		return log_err(-ENOMEM, "network lock");
	memset(nl->progs, 0xff, sizeof(nl->progs));
	for (int m = 0; m < NETLOCK_MODES; m++) {
		for (int l = 0; l < NETLOCK_LINKS; l++) {
			int fd = load((enum netlock_mode)m, (enum netlock_link)l);

			if (fd < 0) {
				netlock_close(nl);
				return log_err(fd, "the kernel does not take the network lock's "
					       "programs (BPF)");
			}
			nl->progs[m][l] = fd;
		}
	}
	*ret = nl;
	return 0;
}

static int attach(struct netlock *nl, enum netlock_mode mode, const struct net_link *l)
{
	union bpf_attr attr = { 0 };
	struct attached *a;
	int fd;

	if (nl->n == nl->room) {
		size_t room = nl->room ? 2 * nl->room : 8;
		struct attached *p = reallocarray(nl->on, room, sizeof(*p));

		if (!p)
			return log_err(-ENOMEM, "network lock");
		nl->on = p;
		nl->room = room;
	}
	attr.link_create.prog_fd = (uint32_t)nl->progs[mode][l->sort];
	attr.link_create.target_ifindex = (uint32_t)l->ifindex;
	attr.link_create.attach_type = BPF_XDP;
	attr.link_create.flags = XDP_FLAGS_SKB_MODE;
	fd = bpf(BPF_LINK_CREATE, &attr);
	if (fd == -ENODEV)
		return 0;	/* went away meanwhile */
	if (fd == -EBUSY || fd == -EEXIST)
		return log_err(-EBUSY, "interface %s has an XDP program of its own", l->name);
	if (fd < 0)
		return log_err(fd, "cannot lock interface %s", l->name);
	a = &nl->on[nl->n++];
	*a = (struct attached){ .ifindex = l->ifindex, .link_fd = fd, .mode = mode,
				.sort = l->sort };
	memcpy(a->name, l->name, sizeof(a->name));
	return 0;
}

/* The kernel swaps the programs: no packet passes in between. */
static int change(struct netlock *nl, struct attached *a, enum netlock_mode mode)
{
	union bpf_attr attr = { 0 };
	int r;

	if (a->mode == mode)
		return 0;
	attr.link_update.link_fd = (uint32_t)a->link_fd;
	attr.link_update.new_prog_fd = (uint32_t)nl->progs[mode][a->sort];
	r = bpf(BPF_LINK_UPDATE, &attr);
	/* ENOLINK: the interface was removed under it. */
	if (r < 0 && r != -ENOLINK)
		return log_err(r, "cannot switch the lock of interface %s", a->name);
	a->mode = mode;
	return 0;
}

static struct attached *find(struct netlock *nl, int ifindex)
{
	for (size_t i = 0; i < nl->n; i++)
		if (nl->on[i].ifindex == ifindex)
			return &nl->on[i];
	return NULL;
}

static void detach_from(struct netlock *nl, size_t first)
{
	while (nl->n > first)
		close(nl->on[--nl->n].link_fd);
}

static int apply(struct netlock *nl, enum netlock_mode mode)
{
	_cleanup_free_ struct net_link *links = NULL;
	size_t n_links, before = nl->n;
	int r = net_links_list(&links, &n_links);

	if (r < 0)
		return log_err(r, "cannot list the network interfaces");
	for (size_t i = 0; !r && i < before; i++)
		r = change(nl, &nl->on[i], mode);
	for (size_t i = 0; !r && i < n_links; i++)
		if (links[i].sort != NETLOCK_LOOPBACK && !links[i].upper &&
		    !find(nl, links[i].ifindex))
			r = attach(nl, mode, &links[i]);
	if (r < 0)
		detach_from(nl, before);
	return r;
}

int netlock_gate(struct netlock *nl)
{
	return apply(nl, NETLOCK_GATE);
}

int netlock_lock(struct netlock *nl)
{
	return apply(nl, NETLOCK_LOCK);
}

int netlock_lock_ifindex(struct netlock *nl, int ifindex)
{
	_cleanup_free_ struct net_link *links = NULL;
	struct attached *a = find(nl, ifindex);
	size_t n;
	int r;

	if (a)
		return change(nl, a, NETLOCK_LOCK);
	r = net_links_list(&links, &n);
	if (r < 0)
		return log_err(r, "cannot list the network interfaces");
	for (size_t i = 0; i < n; i++)
		if (links[i].ifindex == ifindex)
			return attach(nl, NETLOCK_LOCK, &links[i]);
	return log_err(-ENODEV, "network interface %d", ifindex);
}

int netlock_unlock(struct netlock *nl)
{
	detach_from(nl, 0);
	return 0;
}

void netlock_close(struct netlock *nl)
{
	detach_from(nl, 0);
	for (int m = 0; m < NETLOCK_MODES; m++)
		for (int l = 0; l < NETLOCK_LINKS; l++)
			close_fdp(&nl->progs[m][l]);
	free(nl->on);
	free(nl);
}

int accept_queue_len(int listen_fd)
{
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);

	if (getsockopt(listen_fd, SOL_TCP, TCP_INFO, &info, &len) < 0)
		return neg_errno();
	/* Of a listening socket the kernel reports the queue in this field. */
	return info.tcpi_state == TCP_LISTEN ? (int)info.tcpi_unacked : -EINVAL;
}
