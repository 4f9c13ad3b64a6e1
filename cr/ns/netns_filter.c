/*
 * Packet filter rules of a network namespace → nftables-N.img: the text of `nft list ruleset`, given
 * back to `nft -f`. The program is run only where there are tables.
 *
 * Rules of iptables-legacy live elsewhere and are refused; so are those of iptables-nft that use
 * extensions, which nft(8) shows but cannot read again.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "ns/netns.h"

#define RULES_MAX	(64u << 20)

struct filter_seen {
	unsigned int tables;
	bool compat;
};

static int count_table(void *arg, const struct nlmsghdr *h _unused_)
{
	((struct filter_seen *)arg)->tables++;
	return 0;
}

static bool expr_is_compat(const struct nlattr *elem)
{
	const struct nlattr *tb[NFTA_EXPR_MAX + 1];
	const char *name;

	if (netlink_nested_attrs(elem, tb, NFTA_EXPR_MAX) < 0)
		return false;
	name = nl_text(tb[NFTA_EXPR_NAME]);
	return name && (!strcmp(name, "match") || !strcmp(name, "target"));
}

static int look_at_rule(void *arg, const struct nlmsghdr *h)
{
	const struct nlattr *tb[NFTA_RULE_MAX + 1], *list;
	struct filter_seen *seen = arg;
	const char *p;
	size_t left;

	if (netlink_msg_attrs(h, sizeof(struct nfgenmsg), tb, NFTA_RULE_MAX) < 0)
		return -EBADMSG;
	list = tb[NFTA_RULE_EXPRESSIONS];
	p = list ? nl_data(list) : NULL;
	left = list ? nl_bytes(list) : 0;
	while (left >= NLA_HDRLEN) {
		const struct nlattr *elem = (const void *)p;
		size_t step = MIN((size_t)NLA_ALIGN(elem->nla_len), left);

		if (elem->nla_len < NLA_HDRLEN || elem->nla_len > left)
			return -EBADMSG;
		seen->compat |= expr_is_compat(elem);
		p += step;
		left -= step;
	}
	return 0;
}

static int look(struct filter_seen *ret)
{
	struct nfgenmsg any = { .nfgen_family = NFPROTO_UNSPEC, .version = NFNETLINK_V0 };
	_cleanup_netlink_ struct netlink nl = NETLINK_INIT;
	const uint16_t subsys = NFNL_SUBSYS_NFTABLES << 8;
	int r = netlink_open(NETLINK_NETFILTER, &nl);

	*ret = (struct filter_seen){ 0 };
	if (r >= 0)
		r = netlink_list(&nl, subsys | NFT_MSG_GETTABLE, &any, sizeof(any), count_table, ret);
	/* A kernel without nftables. */
	if (r == -EPROTONOSUPPORT || r == -EINVAL || r == -EOPNOTSUPP)
		return 0;
	if (r >= 0 && ret->tables)
		r = netlink_list(&nl, subsys | NFT_MSG_GETRULE, &any, sizeof(any), look_at_rule, ret);
	return r < 0 ? log_err(r, "cannot list the packet filter of the network namespace") : 0;
}

static void __attribute__((noreturn)) nft_main(char *const argv[], int in, int out)
{
	signal(SIGPIPE, SIG_DFL);
	dup2(in, STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	execvp(argv[0], argv);
	execv("/usr/sbin/nft", argv);	/* without a PATH, early in a boot */
	_exit(127);
}

/* Runs nft(8) in the namespace we are in. -ENOPKG: it is not there. */
static int nft(char *const argv[], int in, int out)
{
	pid_t child = fork();
	int status;

	if (!child)
		nft_main(argv, in, out);
	if (child < 0)
		return neg_errno();
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return neg_errno();
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		return -ENOPKG;
	return WIFEXITED(status) && !WEXITSTATUS(status) ? 0 : -EIO;
}

/* A file: whoever writes to a pipe that nft does not read is killed by SIGPIPE. */
static int rules_file(void)
{
	int fd = memfd_create("nftables", MFD_CLOEXEC);

	return fd < 0 ? neg_errno() : fd;
}

/* -y, -n: numbers where names would depend on the system that reads them. */
static int nft_list(char **ret)
{
	static char *const argv[] = { (char *)"nft", (char *)"-nny", (char *)"list",
				      (char *)"ruleset", NULL };
	_cleanup_close_ int file = rules_file();
	_cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	char path[40];
	int r;

	if (file < 0 || null < 0)
		return file < 0 ? file : neg_errno();
	r = nft(argv, null, file);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	return r < 0 ? r : read_file_at(AT_FDCWD, path, RULES_MAX, ret, NULL);
}

static int nft_load(const void *rules, size_t bytes)
{
	static char *const argv[] = { (char *)"nft", (char *)"-f", (char *)"-", NULL };
	_cleanup_close_ int file = rules_file();
	_cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int r;

	if (file < 0 || null < 0)
		return file < 0 ? file : neg_errno();
	r = pwrite_full(file, rules, bytes, 0);
	return r < 0 ? r : nft(argv, file, null);
}

static int check_legacy(const char *file)
{
	_cleanup_free_ char *text = NULL, *path = str_fmt("/proc/thread-self/net/%s", file);

	if (!path)
		return -ENOMEM;
	if (read_file_at(AT_FDCWD, path, 4096, &text, NULL) < 0 || !*text)
		return 0;
	text[strcspn(text, "\n")] = '\0';
	return log_obstacle("use nft or iptables-nft in it",
			    "its network namespace has tables of iptables-legacy (%s: %s ...)", file,
			    text);
}

int netns_filter_check(struct dump_ctx *ctx)
{
	static const char *const legacy[] = { "ip_tables_names", "ip6_tables_names",
					      "arp_tables_names" };
	_cleanup_free_ char *rules = NULL;
	struct ns_dump *ns = ctx->ns_state;
	struct filter_seen seen;
	int r, refused = 0;

	for (size_t i = 0; i < ARRAY_SIZE(legacy); i++) {
		r = check_legacy(legacy[i]);
		refused = r < 0 ? r : refused;
	}
	r = look(&seen);
	if (r < 0 || !seen.tables)
		return r < 0 ? r : refused;
	if (seen.compat)
		refused = log_obstacle("write them as nftables rules (iptables-translate)",
				       "its network namespace has iptables rules with extensions");
	r = nft_list(&rules);
	if (r < 0)
		refused = log_obstacle("install nft, or remove the rules",
				       "its network namespace has packet filter rules, and nft list ruleset fails: %s",
				       strerror(-r));
	if (r >= 0)
		ns->filter_rules = arena_strdup(&ctx->arena, rules);
	return r >= 0 && !ns->filter_rules ? -ENOMEM : refused;
}

/* Entries are not saved; the kernel picks up TCP connections in the middle (tcp_loose). */
static void warn_tracked(void)
{
	_cleanup_free_ char *text = NULL;
	uint32_t n;

	if (read_file_at(AT_FDCWD, "/proc/sys/net/netfilter/nf_conntrack_count", 32, &text, NULL) < 0)
		return;
	text[strcspn(text, "\n")] = '\0';
	if (!parse_u32(text, 10, &n) && n)
		log_warn("its network namespace tracks %u connections: to the rules they will be new ones",
			 n);
}

int netns_filter_dump(struct dump_ctx *ctx, uint32_t id)
{
	_cleanup_image_writer_ struct image_writer *w = NULL;
	const struct ns_dump *ns = ctx->ns_state;
	int r;

	if (!ns->filter_rules)
		return 0;
	warn_tracked();
	r = image_create(ctx->store, &image_nftables, &w, id);
	if (r >= 0)
		r = image_put_raw(w, ns->filter_rules, strlen(ns->filter_rules));
	return r < 0 ? r : image_close(take_ptr(w));
}

static int refuse_legacy(struct restore_ctx *ctx, const struct image_type *type, uint32_t id)
{
	_cleanup_image_reader_ struct image_reader rd = { 0 };
	int r = image_open_optional(ctx->store, type, &rd, id);

	if (r < 0 || !rd.bytes)
		return r;
	return log_fail(-EOPNOTSUPP, "%s: rules of iptables-legacy cannot be restored", rd.name);
}

static bool line_is(const char *line, size_t n, const char *begin, const char *end)
{
	size_t b = strlen(begin), e = strlen(end);

	return n >= b + e && !memcmp(line, begin, b) && !memcmp(line + n - e, end, e);
}

char *netns_filter_unlock(const char *rules, size_t bytes, size_t *ret_bytes)
{
	char *ret = malloc(bytes + !bytes), *out = ret;
	const char *closing = NULL;

	for (size_t n; ret && bytes; rules += n, bytes -= n) {
		const char *end = memchr(rules, '\n', bytes);
		size_t text = end ? (size_t)(end - rules) : bytes;

		n = end ? text + 1 : bytes;
		if (closing) {
			if (line_is(rules, text, closing, "") && text == strlen(closing))
				closing = NULL;
			continue;
		}
		if (line_is(rules, text, "\tchain CRIU", " {") && text == strlen("\tchain CRIU {"))
			closing = "\t}";
		else if (line_is(rules, text, "table inet CRIU-", " {"))
			closing = "}";
		else if (!line_is(rules, text, "\t\t", " jump CRIU"))
			out = mempcpy(out, rules, n);
	}
	*ret_bytes = (size_t)(out - ret);
	return ret;
}

int netns_filter_restore(struct restore_ctx *ctx, uint32_t id)
{
	_cleanup_image_reader_ struct image_reader rd = { 0 };
	_cleanup_free_ char *rules = NULL;
	size_t bytes;
	int r = refuse_legacy(ctx, &image_iptables, id);

	if (r >= 0)
		r = refuse_legacy(ctx, &image_ip6tables, id);
	if (r >= 0)
		r = image_open_optional(ctx->store, &image_nftables, &rd, id);
	if (r < 0 || !rd.bytes)
		return r;
	rules = netns_filter_unlock((const char *)rd.data, rd.bytes, &bytes);
	r = rules ? nft_load(rules, bytes) : -ENOMEM;
	return r < 0 ? log_err(r, "nft does not take the rules of %s", rd.name) : 0;
}
