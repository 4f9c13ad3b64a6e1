/*
 * Multicast memberships of UDP, raw and ping sockets.
 *
 *   dump     /proc/net/igmp and igmp6 list the groups of all sockets by interface; for each,
 *            MCAST_MSFILTER tells whether this socket is a member, and its sources
 *   restore  IP_ADD_MEMBERSHIP or MCAST_JOIN_GROUP and then the sources; one membership by source
 *            after the other where only they are let in
 *
 * The kernel finds a membership that shall end by the interface's address, if that was given to
 * join: nobody tells which it was, so the interface's first one is taken.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>

#include "kind/sk_inet.h"

#define SOURCES_MAX	4096u
#define SOURCES_FIRST	64u

static int group_add(struct arena *a, struct mcast_groups *g, int family, unsigned int ifindex,
		     const char *ifname, const void *address)
{
	struct mcast_group *m = ARENA_PUSH(a, g->list, g->n);

	if (!m)
		return -ENOMEM;
	*m = (struct mcast_group){ .family = family, .ifindex = ifindex };
	snprintf(m->ifname, sizeof(m->ifname), "%s", ifname);
	memcpy(m->address, address, family == AF_INET ? 4 : 16);
	return 0;
}

/* A line for each interface, then one for each of its groups, which begins with a tab. */
int mcast_parse_v4(struct arena *a, const char *text, struct mcast_groups *ret)
{
	unsigned int index = 0, group;
	char name[IFNAMSIZ] = "";

	for (const char *l = text; l && *l; l = strchr(l, '\n') ? strchr(l, '\n') + 1 : NULL) {
		int r = 0;

		if (*l == '\t') {
			if (sscanf(l, " %8X", &group) != 1 || !index)
				return -EBADMSG;
			r = group_add(a, ret, AF_INET, index, name, &group);
		} else if (strncmp(l, "Idx", 3) && sscanf(l, "%u %15s :", &index, name) != 2) {
			return -EBADMSG;
		}
		if (r < 0)
			return r;
	}
	return 0;
}

int mcast_parse_v6(struct arena *a, const char *text, struct mcast_groups *ret)
{
	for (const char *l = text; l && *l; l = strchr(l, '\n') ? strchr(l, '\n') + 1 : NULL) {
		char name[IFNAMSIZ], hex[33];
		uint8_t group[16];
		unsigned int index;
		int r;

		if (sscanf(l, "%u %15s %32s", &index, name, hex) != 3)
			return -EBADMSG;
		for (int i = 0; i < 16; i++)
			if (sscanf(hex + 2 * i, "%2hhx", &group[i]) != 1)
				return -EBADMSG;
		r = group_add(a, ret, AF_INET6, index, name, group);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Of the namespace the engine is in: the socket's, which may not be its process's. */
static int read_groups(struct dump_ctx *ctx, struct mcast_groups *g)
{
	static const struct {
		const char *file;
		int (*parse)(struct arena *a, const char *text, struct mcast_groups *ret);
	} files[] = { { "/proc/thread-self/net/igmp", mcast_parse_v4 },
		      { "/proc/thread-self/net/igmp6", mcast_parse_v6 } };

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		_cleanup_free_ char *text = NULL;
		int r = read_file_at(-1, files[i].file, READ_FILE_MAX, &text, NULL);

		if (r == -ENOENT)	/* the kernel does without */
			continue;
		if (r >= 0)
			r = files[i].parse(&ctx->arena, text, g);
		if (r < 0)
			return log_err(r, "cannot read %s", files[i].file);
	}
	return 0;
}

static void address_put(struct sockaddr_storage *ret, int family, const void *address)
{
	memset(ret, 0, sizeof(*ret));
	ret->ss_family = (sa_family_t)family;
	if (family == AF_INET)
		memcpy(&((struct sockaddr_in *)ret)->sin_addr, address, 4);
	else
		memcpy(&((struct sockaddr_in6 *)ret)->sin6_addr, address, 16);
}

static const void *address_of(const struct sockaddr_storage *a)
{
	return a->ss_family == AF_INET ? (const void *)&((const struct sockaddr_in *)a)->sin_addr
				       : &((const struct sockaddr_in6 *)a)->sin6_addr;
}

/* *ret: heap, NULL when the socket is no member. */
static int filter_get(int fd, const struct mcast_group *m, struct group_filter **ret)
{
	int level = m->family == AF_INET ? SOL_IP : SOL_IPV6;

	*ret = NULL;
	for (uint32_t room = SOURCES_FIRST; room <= SOURCES_MAX; room *= 8) {
		socklen_t len = (socklen_t)GROUP_FILTER_SIZE(room);
		_cleanup_free_ struct group_filter *f = calloc(1, len);

		if (!f)
			return -ENOMEM;
		f->gf_interface = m->ifindex;
		address_put(&f->gf_group, m->family, m->address);
		f->gf_numsrc = room;
		if (getsockopt(fd, level, MCAST_MSFILTER, f, &len) < 0)
			return errno == EADDRNOTAVAIL || errno == ENOPROTOOPT || errno == EINVAL
			       ? 0 : neg_errno();
		if (f->gf_numsrc > room)
			continue;
		*ret = take_ptr(f);
		return 0;
	}
	return -E2BIG;
}

static int put_membership(struct dump_ctx *ctx, InetSkEntry *e, const struct mcast_group *m,
			  const struct group_filter *f)
{
	size_t bytes = m->family == AF_INET ? 4 : 16;
	SkMcastEntry *s = ARENA_MSG(&ctx->arena, SkMcastEntry, sk_mcast_entry);
	SkMcastEntry **slot = ARENA_PUSH(&ctx->arena, e->mcast, e->n_mcast);

	if (!s || !slot)
		return -ENOMEM;
	*slot = s;
	s->family = (uint32_t)m->family;
	s->ifname = arena_strdup(&ctx->arena, m->ifname);
	s->group.data = arena_memdup(&ctx->arena, m->address, bytes);
	s->group.len = bytes;
	s->mode = f->gf_fmode;
	s->sources.data = arena_alloc(&ctx->arena, bytes * f->gf_numsrc + 1);
	if (!s->ifname || !s->group.data || !s->sources.data)
		return -ENOMEM;
	for (uint32_t i = 0; i < f->gf_numsrc; i++, s->sources.len += bytes)
		memcpy(s->sources.data + s->sources.len, address_of(&f->gf_slist[i]), bytes);
	return 0;
}

/* Once a network namespace. */
static int groups_get(struct dump_ctx *ctx, uint32_t ns_id, struct mcast_groups **ret)
{
	struct mcast_groups **list = sk_groups_slot(ctx), *g;
	int r;

	for (g = list ? *list : NULL; g; g = g->next)
		if (g->ns_id == ns_id) {
			*ret = g;
			return 0;
		}
	g = ARENA_NEW(&ctx->arena, struct mcast_groups);
	if (!list || !g)
		return log_err(-ENOMEM, "multicast groups");
	r = read_groups(ctx, g);
	if (r < 0)
		return r;
	g->ns_id = ns_id;
	g->next = *list;
	*list = *ret = g;
	return 0;
}

int mcast_dump(struct dump_ctx *ctx, struct dump_file *f, InetSkEntry *e)
{
	struct mcast_groups *known;
	int r = groups_get(ctx, f->net_ns_id, &known);

	for (size_t i = 0; !r && i < known->n; i++) {
		_cleanup_free_ struct group_filter *filter = NULL;
		const struct mcast_group *m = &known->list[i];

		if (m->family == AF_INET6 && e->family == AF_INET)
			continue;
		r = filter_get(f->fd, m, &filter);
		if (!r && filter)
			r = put_membership(ctx, e, m, filter);
		if (r < 0)
			log_err(r, "cannot read the socket's multicast memberships");
	}
	return r;
}

static int join_any(int fd, const SkMcastEntry *m, unsigned int ifindex)
{
	struct group_req six = { .gr_interface = ifindex };
	struct ip_mreqn four = { .imr_ifindex = (int)ifindex };
	struct ifreq ifr = { 0 };

	if (m->family == AF_INET6) {
		address_put(&six.gr_group, AF_INET6, m->group.data);
		return setsockopt(fd, SOL_IPV6, MCAST_JOIN_GROUP, &six, sizeof(six)) < 0
		       ? neg_errno() : 0;
	}
	memcpy(&four.imr_multiaddr, m->group.data, 4);
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", m->ifname);
	if (!ioctl(fd, SIOCGIFADDR, &ifr))
		four.imr_address = ((struct sockaddr_in *)&ifr.ifr_addr)->sin_addr;
	return setsockopt(fd, SOL_IP, IP_ADD_MEMBERSHIP, &four, sizeof(four)) < 0 ? neg_errno() : 0;
}

static int block_sources(int fd, const SkMcastEntry *m, unsigned int ifindex, size_t n)
{
	size_t bytes = m->group.len;
	_cleanup_free_ struct group_filter *f = calloc(1, GROUP_FILTER_SIZE(n));

	if (!f)
		return -ENOMEM;
	f->gf_interface = ifindex;
	address_put(&f->gf_group, (int)m->family, m->group.data);
	f->gf_fmode = MCAST_EXCLUDE;
	f->gf_numsrc = (uint32_t)n;
	for (size_t i = 0; i < n; i++)
		address_put(&f->gf_slist[i], (int)m->family, m->sources.data + i * bytes);
	return setsockopt(fd, m->family == AF_INET ? SOL_IP : SOL_IPV6, MCAST_MSFILTER, f,
			  (socklen_t)GROUP_FILTER_SIZE(n)) < 0 ? neg_errno() : 0;
}

static int join_sources(int fd, const SkMcastEntry *m, unsigned int ifindex, size_t n)
{
	struct group_source_req q = { .gsr_interface = ifindex };

	address_put(&q.gsr_group, (int)m->family, m->group.data);
	for (size_t i = 0; i < n; i++) {
		address_put(&q.gsr_source, (int)m->family, m->sources.data + i * m->group.len);
		if (setsockopt(fd, m->family == AF_INET ? SOL_IP : SOL_IPV6,
			       MCAST_JOIN_SOURCE_GROUP, &q, sizeof(q)) < 0)
			return neg_errno();
	}
	return 0;
}

static int mcast_check_entry(const SkMcastEntry *m)
{
	size_t bytes = m->family == AF_INET ? 4 : 16;

	if ((m->family != AF_INET && m->family != AF_INET6) || m->group.len != bytes ||
	    m->sources.len % bytes || m->sources.len / bytes > SOURCES_MAX ||
	    (m->mode != MCAST_INCLUDE && m->mode != MCAST_EXCLUDE) ||
	    strlen(m->ifname) >= IFNAMSIZ)
		return log_fail(-EBADMSG, "multicast membership of family %u, %zu and %zu bytes, "
				"mode %u", m->family, m->group.len, m->sources.len, m->mode);
	return 0;
}

static int join(int fd, const SkMcastEntry *m)
{
	char text[INET6_ADDRSTRLEN] = "?";
	unsigned int ifindex;
	size_t n;
	int r = mcast_check_entry(m);

	if (r < 0)
		return r;
	inet_ntop((int)m->family, m->group.data, text, sizeof(text));
	ifindex = if_nametoindex(m->ifname);
	if (!ifindex)
		return log_err(neg_errno(), "cannot join multicast group %s: interface %s", text,
			       m->ifname);
	n = m->sources.len / m->group.len;
	if (m->mode == MCAST_INCLUDE) {
		r = join_sources(fd, m, ifindex, n);
	} else {
		r = join_any(fd, m, ifindex);
		if (!r && n)
			r = block_sources(fd, m, ifindex, n);
	}
	return r < 0 ? log_err(r, "cannot join multicast group %s on %s%s", text, m->ifname,
			       r == -ENOBUFS ? " (net.ipv4.igmp_max_memberships, igmp_max_msf)" : "")
		     : 0;
}

int mcast_restore(int fd, const InetSkEntry *e)
{
	int r = 0;

	for (size_t i = 0; !r && i < e->n_mcast; i++)
		r = join(fd, e->mcast[i]);
	return r;
}
