/*
 * Settings of a network namespace, /proc/sys/net as seen from inside.
 *
 * CRIU's format has arrays of fixed order for the interfaces' settings and two more; everything
 * else that differs from a fresh namespace's goes, by name, into a field of ours. An interface
 * gets "default" when it is made, so its own settings are compared with that one.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>

#include "ns/netns.h"

#define VALUE_MAX	(128u << 10)	/* bitmaps of ports are long */
#define NAME_MAX_BYTES	256u
#define DEPTH_MAX	6u

static const char *const conf4_names[] = {
	"accept_local", "accept_redirects", "accept_source_route", "arp_accept", "arp_announce",
	"arp_filter", "arp_ignore", "arp_notify", "bootp_relay", "disable_policy", "disable_xfrm",
	"force_igmp_version", "forwarding", "igmpv2_unsolicited_report_interval",
	"igmpv3_unsolicited_report_interval", "log_martians", "medium_id", "promote_secondaries",
	"proxy_arp", "proxy_arp_pvlan", "route_localnet", "rp_filter", "secure_redirects",
	"send_redirects", "shared_media", "src_valid_mark", "tag", "ignore_routes_with_linkdown",
	"drop_gratuitous_arp", "drop_unicast_in_l2_multicast",
};
static const char *const conf6_names[] = {
	"accept_dad", "accept_ra", "accept_ra_defrtr", "accept_ra_from_local",
	"accept_ra_min_hop_limit", "accept_ra_mtu", "accept_ra_pinfo", "accept_ra_rt_info_max_plen",
	"accept_ra_rtr_pref", "accept_redirects", "accept_source_route", "autoconf", "dad_transmits",
	"disable_ipv6", "drop_unicast_in_l2_multicast", "drop_unsolicited_na", "force_mld_version",
	"force_tllao", "forwarding", "hop_limit", "ignore_routes_with_linkdown",
	"keep_addr_on_down", "max_addresses", "max_desync_factor", "mldv1_unsolicited_report_interval",
	"mldv2_unsolicited_report_interval", "mtu", "ndisc_notify", "optimistic_dad", "proxy_ndp",
	"regen_max_retry", "router_probe_interval", "router_solicitation_delay",
	"router_solicitation_interval", "router_solicitations", "stable_secret",
	"suppress_frag_ndisc", "temp_prefered_lft", "temp_valid_lft", "use_oif_addrs_only",
	"use_optimistic", "use_tempaddr",
};

/* A line of /proc/sys/net without its end; heap. */
static int value_read(const char *name, char **ret)
{
	_cleanup_free_ char *path = str_fmt("/proc/sys/net/%s", name);
	size_t n;
	int r;

	if (!path)
		return -ENOMEM;
	r = read_file_at(AT_FDCWD, path, VALUE_MAX, ret, &n);
	if (r >= 0 && n && (*ret)[n - 1] == '\n')
		(*ret)[n - 1] = '\0';
	return r;
}

/* Sets what is not so already. Another kernel may lack one: said, but no reason to fail. */
static int value_write(const char *name, const char *value)
{
	_cleanup_free_ char *is = NULL;
	int r = value_read(name, &is);

	if (r == -ENOMEM)
		return r;
	if (r >= 0 && !strcmp(is, value))
		return 0;
	r = write_filef(value, "/proc/sys/net/%s", name);
	if (r < 0)
		log_warn("net.%s stays %s, was %s: %s", name, is ? is : "unset", value, strerror(-r));
	return 0;
}

static bool is_text(const char *name)
{
	return !strcmp(name, "stable_secret") || !strcmp(name, "ping_group_range");
}

static int conf_dump(struct arena *a, const char *dir, const char *const *names, size_t n,
		     SysctlEntry ***ret, size_t *ret_n)
{
	*ret_n = 0;
	for (size_t i = 0; i < n; i++) {
		bool text = is_text(names[i]);
		SysctlEntry *e = ARENA_MSG(a, SysctlEntry, sysctl_entry);
		SysctlEntry **slot = ARENA_PUSH(a, *ret, *ret_n);
		_cleanup_free_ char *value = NULL;
		char name[NAME_MAX_BYTES];
		int v;

		if (!e || !slot)
			return -ENOMEM;
		*slot = e;
		e->type = text ? SYSCTL_TYPE__CTL_STR : SYSCTL_TYPE__CTL_32;
		snprintf(name, sizeof(name), "%s/%s", dir, names[i]);
		if (value_read(name, &value) < 0)
			continue;
		if (text) {
			e->sarg = arena_strdup(a, value);
			if (!e->sarg)
				return -ENOMEM;
		} else if (!parse_int(value, &v)) {
			e->has_iarg = true;
			e->iarg = v;
		}
	}
	return 0;
}

static int entry_restore(const char *name, const SysctlEntry *e)
{
	char text[16];

	if (e->type == SYSCTL_TYPE__CTL_STR)
		return e->sarg ? value_write(name, e->sarg) : 0;
	snprintf(text, sizeof(text), "%d", e->iarg);
	return e->has_iarg ? value_write(name, text) : 0;
}

static int conf_restore(const char *dir, const char *const *names, size_t n,
			SysctlEntry *const *e, size_t n_entries)
{
	if (n_entries > n)
		return log_fail(-EBADMSG, "%zu settings for %s, %zu are known", n_entries, dir, n);
	for (size_t i = 0; i < n_entries; i++) {
		char name[NAME_MAX_BYTES];
		int r;

		snprintf(name, sizeof(name), "%s/%s", dir, names[i]);
		r = entry_restore(name, e[i]);
		if (r < 0)
			return r;
	}
	return 0;
}

int netns_conf_dump_link(struct arena *a, NetDeviceEntry *e)
{
	char dir[80];
	int r;

	snprintf(dir, sizeof(dir), "ipv4/conf/%s", e->name);
	r = conf_dump(a, dir, conf4_names, ARRAY_SIZE(conf4_names), &e->conf4, &e->n_conf4);
	snprintf(dir, sizeof(dir), "ipv6/conf/%s", e->name);
	if (r >= 0)
		r = conf_dump(a, dir, conf6_names, ARRAY_SIZE(conf6_names), &e->conf6,
			      &e->n_conf6);
	return r < 0 ? log_err(r, "cannot read the settings of %s", e->name) : 0;
}

int netns_conf_restore_link(const NetDeviceEntry *e)
{
	char dir[80];
	int r;

	snprintf(dir, sizeof(dir), "ipv4/conf/%s", e->name);
	r = conf_restore(dir, conf4_names, ARRAY_SIZE(conf4_names), e->conf4, e->n_conf4);
	snprintf(dir, sizeof(dir), "ipv6/conf/%s", e->name);
	if (r >= 0)
		r = conf_restore(dir, conf6_names, ARRAY_SIZE(conf6_names), e->conf6, e->n_conf6);
	return r;
}

/* One file below /proc/sys/net. */
typedef int (*setting_fn)(void *arg, const char *name, const char *value, bool writable);

static int walk(int dirfd, const char *prefix, unsigned int depth, setting_fn fn, void *arg);

static int visit_file(int dirfd, const struct dirent *de, const char *prefix, unsigned int depth,
		      setting_fn fn, void *arg)
{
	_cleanup_free_ char *value = NULL;
	char name[NAME_MAX_BYTES];
	struct stat st;
	size_t n;

	if (de->d_name[0] == '.' || fstatat(dirfd, de->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	n = (size_t)snprintf(name, sizeof(name), "%s%s%s", prefix, *prefix ? "/" : "", de->d_name);
	if (n >= sizeof(name))
		return 0;
	if (S_ISDIR(st.st_mode)) {
		int fd = openat(dirfd, de->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		return fd < 0 ? neg_errno() : walk(fd, name, depth + 1, fn, arg);
	}
	/* Commands (route/flush) and what cannot be read (a secret not set) have no value. */
	if (!(st.st_mode & 0400) || read_file_at(dirfd, de->d_name, VALUE_MAX, &value, &n) < 0)
		return 0;
	if (n && value[n - 1] == '\n')
		value[n - 1] = '\0';
	return fn(arg, name, value, st.st_mode & 0200);
}

/* Takes dirfd. */
static int walk(int dirfd, const char *prefix, unsigned int depth, setting_fn fn, void *arg)
{
	_cleanup_closedir_ DIR *dir = fdopendir(dirfd);
	const struct dirent *de;
	int r = 0;

	if (!dir) {
		close(dirfd);
		return -ENOMEM;
	}
	if (depth > DEPTH_MAX)
		return 0;
	while (r >= 0 && (de = readdir(dir)))
		r = visit_file(dirfd, de, prefix, depth, fn, arg);
	return r;
}

static int walk_all(setting_fn fn, void *arg)
{
	int fd = open("/proc/sys/net", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? neg_errno() : walk(fd, "", 0, fn, arg);
}

/* What a namespace has that was just made: its length, then "name\0value\0" ... */
struct fresh {
	char *text;
	size_t bytes;
	FILE *f;
};

static int fresh_add(void *arg, const char *name, const char *value, bool writable)
{
	struct fresh *f = arg;

	if (!writable)
		return 0;
	return fwrite(name, strlen(name) + 1, 1, f->f) == 1 &&
	       fwrite(value, strlen(value) + 1, 1, f->f) == 1 ? 0 : -ENOMEM;
}

static int fresh_settings(void *arg, struct ns_reply *reply)
{
	struct fresh *f = arg;
	const size_t none = 0;
	int r;

	if (unshare(CLONE_NEWNET) < 0)
		return neg_errno();
	f->f = open_memstream(&f->text, &f->bytes);
	if (!f->f)
		return -ENOMEM;
	r = fwrite(&none, sizeof(none), 1, f->f) == 1 ? walk_all(fresh_add, f) : -ENOMEM;
	if (fclose(f->f))
		r = -ENOMEM;
	if (r < 0)
		return r;
	memcpy(f->text, &f->bytes, sizeof(f->bytes));
	reply->data = f->text;
	reply->bytes = f->bytes;
	return 0;
}

struct compare {
	struct arena *a;
	const char *fresh, *end, *at;	/* both lists have nearly the same order */
	NetnsEntry *e;
};

static const char *after(const char *text)
{
	return text + strlen(text) + 1;
}

static const char *fresh_value(struct compare *c, const char *name)
{
	const char *begin = c->at;

	for (unsigned int pass = 0; pass < 2; pass++) {
		const char *end = pass ? begin : c->end;

		for (const char *p = pass ? c->fresh : begin; p < end; p = after(after(p)))
			if (!strcmp(p, name)) {
				c->at = after(after(p));
				return after(p);
			}
	}
	return NULL;
}

/* "ipv4/conf/eth0/tag" → "ipv4/conf/default/tag"; false: of no interface. */
static bool default_name(const char *name, char *out, size_t size)
{
	static const char *const dirs[] = { "ipv4/conf/", "ipv6/conf/", "ipv4/neigh/",
					    "ipv6/neigh/", "mpls/conf/" };

	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		const char *link = name + strlen(dirs[i]), *rest;

		if (!str_starts(name, dirs[i]))
			continue;
		rest = strchr(link, '/');
		if (!rest || str_starts(link, "all/") || str_starts(link, "default/"))
			return false;
		snprintf(out, size, "%sdefault%s", dirs[i], rest);
		return true;
	}
	return false;
}

static int setting_add(struct compare *c, const char *name, const char *value)
{
	NetnsSetting *s = ARENA_MSG(c->a, NetnsSetting, netns_setting);
	NetnsSetting **slot = ARENA_PUSH(c->a, c->e->settings, c->e->n_settings);

	if (!s || !slot)
		return -ENOMEM;
	*slot = s;
	s->name = arena_strdup(c->a, name);
	s->value = arena_strdup(c->a, value);
	return s->name && s->value ? 0 : -ENOMEM;
}

static int compare_one(void *arg, const char *name, const char *value, bool writable)
{
	struct compare *c = arg;
	_cleanup_free_ char *def = NULL;
	char other[NAME_MAX_BYTES];
	const char *plain;

	if (!writable)
		return 0;
	plain = fresh_value(c, name);
	if (!plain && default_name(name, other, sizeof(other)) && value_read(other, &def) >= 0)
		plain = def;
	return plain && !strcmp(plain, value) ? 0 : setting_add(c, name, value);
}

static int settings_dump(struct arena *a, NetnsEntry *e)
{
	_cleanup_helper_ struct ns_helper h = NS_HELPER_INIT;
	struct compare c = { .a = a, .e = e };
	struct fresh f = { 0 };
	size_t bytes;
	char *text;
	int r;

	r = ns_helper_start(&h, fresh_settings, &f);
	if (r >= 0)
		r = ns_helper_read(&h, &bytes, sizeof(bytes));
	if (r < 0)
		return log_err(r, "cannot read the settings of a fresh network namespace");
	bytes -= sizeof(bytes);
	text = arena_alloc(a, bytes + 1);
	if (!text)
		return -ENOMEM;
	r = ns_helper_read(&h, text, bytes);
	c.fresh = c.at = text;
	c.end = text + bytes;
	return r < 0 ? r : walk_all(compare_one, &c);
}

static const char *const unix_names[] = { "max_dgram_qlen" };
static const char *const ipv4_names[] = { "ping_group_range" };

int netns_conf_dump(struct arena *a, NetnsEntry *e)
{
	int r = conf_dump(a, "ipv4/conf/default", conf4_names, ARRAY_SIZE(conf4_names),
			  &e->def_conf4, &e->n_def_conf4);

	if (r >= 0)
		r = conf_dump(a, "ipv4/conf/all", conf4_names, ARRAY_SIZE(conf4_names),
			      &e->all_conf4, &e->n_all_conf4);
	if (r >= 0)
		r = conf_dump(a, "ipv6/conf/default", conf6_names, ARRAY_SIZE(conf6_names),
			      &e->def_conf6, &e->n_def_conf6);
	if (r >= 0)
		r = conf_dump(a, "ipv6/conf/all", conf6_names, ARRAY_SIZE(conf6_names),
			      &e->all_conf6, &e->n_all_conf6);
	if (r >= 0)
		r = conf_dump(a, "unix", unix_names, ARRAY_SIZE(unix_names), &e->unix_conf,
			      &e->n_unix_conf);
	if (r >= 0)
		r = conf_dump(a, "ipv4", ipv4_names, ARRAY_SIZE(ipv4_names), &e->ipv4_sysctl,
			      &e->n_ipv4_sysctl);
	if (r >= 0)
		r = settings_dump(a, e);
	return r < 0 ? log_err(r, "cannot read the settings of the network namespace") : 0;
}

/* No way out of /proc/sys/net. */
static bool name_is_sane(const char *name)
{
	return *name && *name != '/' && !strstr(name, "..") && strlen(name) < NAME_MAX_BYTES;
}

static int settings_restore(const NetnsEntry *e, bool of_links)
{
	char other[NAME_MAX_BYTES];

	for (size_t i = 0; i < e->n_settings; i++) {
		const NetnsSetting *s = e->settings[i];
		int r;

		if (!name_is_sane(s->name))
			return log_fail(-EBADMSG, "netns: setting '%s'", s->name);
		if (default_name(s->name, other, sizeof(other)) != of_links)
			continue;
		r = value_write(s->name, s->value);
		if (r < 0)
			return r;
	}
	return 0;
}

int netns_conf_restore(const NetnsEntry *e)
{
	int r = conf_restore("ipv4/conf/default", conf4_names, ARRAY_SIZE(conf4_names),
			     e->def_conf4, e->n_def_conf4);

	if (r >= 0)
		r = conf_restore("ipv4/conf/all", conf4_names, ARRAY_SIZE(conf4_names),
				 e->all_conf4, e->n_all_conf4);
	if (r >= 0)
		r = conf_restore("ipv6/conf/default", conf6_names, ARRAY_SIZE(conf6_names),
				 e->def_conf6, e->n_def_conf6);
	if (r >= 0)
		r = conf_restore("ipv6/conf/all", conf6_names, ARRAY_SIZE(conf6_names),
				 e->all_conf6, e->n_all_conf6);
	if (r >= 0)
		r = conf_restore("unix", unix_names, ARRAY_SIZE(unix_names), e->unix_conf,
				 e->n_unix_conf);
	if (r >= 0)
		r = conf_restore("ipv4", ipv4_names, ARRAY_SIZE(ipv4_names), e->ipv4_sysctl,
				 e->n_ipv4_sysctl);
	return r < 0 ? r : settings_restore(e, false);
}

int netns_conf_restore_links(const NetnsEntry *e)
{
	return settings_restore(e, true);
}
