/*
 * Packet filter rules by nft(8), whose text is the only form of them that is meant to be read again. The
 * program is run only where there are tables.
 */
#define _GNU_SOURCE
#include "ns/nft.h"

#include <fcntl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "kernel/netlink.h"
#include "util/io.h"
#include "util/log.h"

#define RULES_MAX	(64u << 20)
/* Whoever bans addresses changes rules now and then, not all the time. */
#define LOOKS_MAX	4

const char *const nft_legacy_files[NFT_LEGACY_FILES] = {
	"ip_tables_names", "ip6_tables_names", "arp_tables_names",
};

int nft_legacy_table(const char *file, char **ret)
{
	_cleanup_free_ char *text = NULL, *path = str_fmt("/proc/thread-self/net/%s", file);

	if (!path)
		return -ENOMEM;
	if (read_file_at(AT_FDCWD, path, 4096, &text, NULL) < 0 || !*text)
		return 0;
	text[strcspn(text, "\n")] = '\0';
	*ret = take_ptr(text);
	return 1;
}

static int count_table(void *arg, const struct nlmsghdr *h _unused_)
{
	((struct nft_seen *)arg)->tables++;
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
	struct nft_seen *seen = arg;
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

static int look_at(struct netlink *nl, uint8_t what, netlink_fn fn, struct nft_seen *seen)
{
	struct nfgenmsg any = { .nfgen_family = NFPROTO_UNSPEC, .version = NFNETLINK_V0 };

	return netlink_list(nl, NFNL_SUBSYS_NFTABLES << 8 | what, &any, sizeof(any), fn, seen);
}

static int look(struct netlink *nl, struct nft_seen *ret)
{
	int r;

	*ret = (struct nft_seen){ 0 };
	r = look_at(nl, NFT_MSG_GETTABLE, count_table, ret);
	/* A kernel without nftables. */
	if (r == -EPROTONOSUPPORT || r == -EINVAL || r == -EOPNOTSUPP)
		return 0;
	return r >= 0 && ret->tables ? look_at(nl, NFT_MSG_GETRULE, look_at_rule, ret) : r;
}

int nft_look(struct nft_seen *ret)
{
	_cleanup_netlink_ struct netlink nl = NETLINK_INIT;
	int r = netlink_open(NETLINK_NETFILTER, &nl);

	*ret = (struct nft_seen){ 0 };
	if (r == -EPROTONOSUPPORT)
		return 0;
	if (r >= 0)
		r = look(&nl, ret);
	/* Somebody changed them meanwhile. */
	for (int i = 1; i < LOOKS_MAX && r == -EAGAIN; i++)
		r = look(&nl, ret);
	return r < 0 ? log_err(r, "cannot list the packet filter of the network namespace") : 0;
}

static void __attribute__((noreturn)) nft_main(char *const argv[], int in, int out, int err)
{
	signal(SIGPIPE, SIG_DFL);
	dup2(in, STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	if (err >= 0)
		dup2(err, STDERR_FILENO);
	execvp(argv[0], argv);
	execv("/usr/sbin/nft", argv);	/* without a PATH, early in a boot */
	_exit(127);
}

/* Runs nft(8) in the namespace we are in; err negative: it complains where we do. -ENOPKG: it is not there. */
static int run_nft(char *const argv[], int in, int out, int err)
{
	pid_t child = fork();
	int status;

	if (!child)
		nft_main(argv, in, out, err);
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

static int nft_text(char *const argv[], char **ret)
{
	_cleanup_close_ int file = rules_file();
	_cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	char path[40];
	int r;

	if (file < 0 || null < 0)
		return file < 0 ? file : neg_errno();
	r = run_nft(argv, null, file, -EBADF);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	return r < 0 ? r : read_file_at(AT_FDCWD, path, RULES_MAX, ret, NULL);
}

/* -y, -n: numbers where names would depend on the system that reads them. */
int nft_list(char **ret)
{
	static char *const argv[] = { (char *)"nft", (char *)"-nny", (char *)"list",
				      (char *)"ruleset", NULL };

	return nft_text(argv, ret);
}

int nft_list_tables(char **ret)
{
	static char *const argv[] = { (char *)"nft", (char *)"list", (char *)"tables", NULL };

	return nft_text(argv, ret);
}

static int give(char *const argv[], const void *rules, size_t bytes, int err)
{
	_cleanup_close_ int file = rules_file();
	_cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int r;

	if (file < 0 || null < 0)
		return file < 0 ? file : neg_errno();
	r = pwrite_full(file, rules, bytes, 0);
	return r < 0 ? r : run_nft(argv, file, null, err);
}

int nft_load(const void *rules, size_t bytes)
{
	static char *const argv[] = { (char *)"nft", (char *)"-f", (char *)"-", NULL };

	return give(argv, rules, bytes, -EBADF);
}

int nft_check(const void *rules, size_t bytes, int err_fd)
{
	static char *const argv[] = { (char *)"nft", (char *)"-c", (char *)"-f", (char *)"-", NULL };

	return give(argv, rules, bytes, err_fd);
}

char *nft_join(char *const *lines, size_t n, size_t *ret_bytes)
{
	char *text, *end;
	size_t bytes = 0;

	for (size_t i = 0; i < n; i++)
		bytes += strlen(lines[i]) + 1;
	text = end = malloc(bytes + 1);
	for (size_t i = 0; text && i < n; i++) {
		end = stpcpy(end, lines[i]);
		*end++ = '\n';
	}
	if (text)
		*end = '\0';
	*ret_bytes = bytes;
	return text;
}
