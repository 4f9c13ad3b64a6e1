/*
 * Would the new kernel's early side get its rules loaded? nft(8) is asked in a network namespace that has the
 * links that will be there then, made by a process that ends: one rule for an interface that comes later
 * (iif "docker0", the device of a flowtable) makes it refuse all of them.
 *
 * The trap: a refusal that is only ours would cost the rules. What cannot be set up here as it will be is not asked
 * for. (One is left: the new kernel may take hooks on devices that are not there yet where the running one does not.)
 */
#define _GNU_SOURCE
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "crkexec/packet_filter.h"
#include "kernel/netlink.h"
#include "ns/nft.h"
#include "util/io.h"
#include "util/log.h"

#define WORDS_BYTES	1024
/* Of a flowtable or a chain, as the manifest has it: the hardware takes part, which no stand-in has. */
#define OFFLOAD		"  flags offload"

enum verdict { TAKEN, REFUSED, UNKNOWN };

/*
 * Not "dummy": its module makes an interface in the host's namespace when it is loaded. A veth has another end, whose
 * name a rule might have.
 */
static const char *const kinds[] = { "bridge", "veth" };

static int make_link(struct netlink *nl, const char *name)
{
	struct ifinfomsg any = { .ifi_family = AF_UNSPEC };
	int r = -EOPNOTSUPP;

	for (size_t i = 0; i < ARRAY_SIZE(kinds) && r < 0; i++) {
		struct netlink_msg msg;
		size_t info;

		netlink_begin(&msg, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &any, sizeof(any));
		netlink_put(&msg, IFLA_IFNAME, name, strlen(name) + 1);
		info = netlink_nest(&msg, IFLA_LINKINFO);
		netlink_put(&msg, IFLA_INFO_KIND, kinds[i], strlen(kinds[i]));
		netlink_nest_end(&msg, info);
		r = netlink_send(nl, &msg);
	}
	return r;
}

/* Of those that occur in the rules: each costs time. */
static int make_links(const struct manifest *m, const char *text)
{
	_cleanup_netlink_ struct netlink nl = NETLINK_INIT;
	int r = netlink_open(NETLINK_ROUTE, &nl);

	for (size_t i = 0; i < m->n_links && r == 0; i++)
		if (strstr(text, m->links[i].name))
			r = make_link(&nl, m->links[i].name);
	return r;
}

static enum verdict ask(const struct manifest *m, const char *text, size_t bytes, int words)
{
	int r;

	if (unshare(CLONE_NEWNET) < 0 || make_links(m, text) < 0)
		return UNKNOWN;
	r = nft_check(text, bytes, words);
	return r == 0 ? TAKEN : r == -EIO ? REFUSED : UNKNOWN;
}

static char *text_of(char *const *lines, size_t n, size_t *ret_bytes)
{
	_cleanup_free_ char **some = calloc(n + 1, sizeof(*some));
	size_t n_some = 0;

	for (size_t i = 0; some && i < n; i++)
		if (!str_starts(lines[i], OFFLOAD))
			some[n_some++] = lines[i];
	return some ? nft_join(some, n_some, ret_bytes) : NULL;
}

/* "/dev/stdin:5:7-14: Error: Interface does not exist", then the line it is in: both in one, without the place. */
static char *first_error(char *words)
{
	char *error = strstr(words, "Error: "), *line, *end;

	error = error ? error + strlen("Error: ") : words;
	line = error + strcspn(error, "\n");
	if (*line)
		*line++ = '\0';
	line += strspn(line, " \t");
	end = line + strcspn(line, "\n");
	*end = '\0';
	/* The manifest takes none. */
	for (char *c = error; c < end; c++)
		if (*c && ((unsigned char)*c < ' ' || *c == 0x7f))
			*c = ' ';
	return *line ? str_fmt("%s: %s", error, line) : str_fmt("%s", *error ? error : "it says no more");
}

int packet_filter_check(char *const *lines, size_t n, const struct manifest *m, char **ret_why)
{
	_cleanup_close_ int words = memfd_create("nft", MFD_CLOEXEC);
	char said[WORDS_BYTES];
	size_t bytes;
	_cleanup_free_ char *text = text_of(lines, n, &bytes);
	int status = 0;
	ssize_t len;
	pid_t child;

	if (words < 0 || !text)
		return words < 0 ? neg_errno() : -ENOMEM;
	child = fork();
	if (!child)
		_exit(ask(m, text, bytes, words));
	if (child < 0)
		return neg_errno();
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return neg_errno();
	if (!WIFEXITED(status) || WEXITSTATUS(status) != REFUSED) {
		if (!WIFEXITED(status) || WEXITSTATUS(status) != TAKEN)
			log_info("whether nft will load the packet filter cannot be tried");
		return 0;
	}
	len = pread(words, said, sizeof(said) - 1, 0);
	said[len > 0 ? len : 0] = '\0';
	*ret_why = first_error(said);
	return *ret_why ? 1 : -ENOMEM;
}
