/*
 * The machine's packet filter is read before the jump, loaded again before the first packet under names of our
 * own, and deleted when the new boot has set up its own.
 */
#include <linux/netfilter/nf_tables.h>
#include <sched.h>
#include <sys/stat.h>

#include "crkexec/machine.h"
#include "crkexec/packet_filter.h"
#include "crkexec/upgrade.h"
#include "initramfs/early.h"
#include "ns/nft.h"
#include "tests/unit/unit.h"
#include "util/io.h"

static const char rules[] =
	"table inet crk {\n"
	"\tset allowed {\n"
	"\t\ttype ipv4_addr\n"
	"\t\telements = { 10.77.0.1, 10.77.0.2 }\n"
	"\t}\n\n"
	"\tchain in {\n"
	"\t\ttype filter hook input priority 0; policy drop;\n"
	"\t\tiif \"lo\" accept\n"
	"\t\tip saddr @allowed tcp dport 6379 accept comment \"the \xc3\xa4 clients\"\n"
	"\t}\n"
	"}\n";

static void own_network(void)
{
	if (unshare(CLONE_NEWNET) < 0)
		unit_skip("no network namespace of its own: %s", strerror(errno));
}

static struct manifest *read_now(void)
{
	struct manifest *m = manifest_new();
	struct upgrade u = { .m = m };

	ASSERT(m);
	ASSERT_OK(packet_filter_read(&u, m));
	return m;
}

static void load_early(struct manifest *m)
{
	struct early e = { .manifest = m, .uevent_fd = -EBADF, .log_fd = -EBADF };

	ASSERT_OK(early_filter_begin(&e));
	early_filter_load(&e);
	if (m->n_packet_filter)
		ASSERT_STREQ(e.marks[e.n_marks - 1].name, "packet filter");
}

static char *joined(char *const *lines, size_t n)
{
	size_t bytes;
	char *text = nft_join(lines, n, &bytes);

	ASSERT(text && strlen(text) == bytes);
	return text;
}

static int renamed(const char *listed, char **ret)
{
	_cleanup_free_ char *eaten = strdup(listed);
	_cleanup_strv_ struct strv lines = { 0 };
	int r = packet_filter_rename(eaten, &lines);

	*ret = r < 0 ? NULL : joined(lines.v, lines.n);
	return r;
}

static void assert_renamed(const char *listed, const char *wanted)
{
	_cleanup_free_ char *text = NULL;

	ASSERT_OK(renamed(listed, &text));
	ASSERT_STREQ(text, wanted);
}

static void assert_lists(const char *wanted)
{
	_cleanup_free_ char *text = NULL;

	ASSERT_OK(nft_list(&text));
	ASSERT_STREQ(text, wanted);
}

TEST("rules of nftables that were read come back by another process, in a table of our own, sets and all")
{
	_cleanup_(manifest_freep) struct manifest *m = NULL;
	_cleanup_free_ char *before = NULL, *after = NULL, *wanted = NULL;
	struct nft_seen seen;

	own_network();
	ASSERT_OK(nft_load(rules, strlen(rules)));
	ASSERT_OK(nft_list(&before));
	m = read_now();
	ASSERT_EQ(m->n_warnings, 0);
	ASSERT(m->n_packet_filter > 8);
	ASSERT_STREQ(m->packet_filter[0], "table inet crkexec_crk {");
	own_network();
	ASSERT_OK(nft_look(&seen));
	ASSERT_EQ(seen.tables, 0);
	load_early(m);
	ASSERT_EQ(m->n_warnings, 0);
	ASSERT_OK(nft_list(&after));
	wanted = str_fmt("table inet crkexec_%s", before + strlen("table inet "));
	ASSERT_STREQ(wanted, after);
}

TEST("what the new boot loads without a flush is there once, and what came along is gone, when all is finished")
{
	_cleanup_(manifest_freep) struct manifest *m = NULL;
	_cleanup_free_ char *before = NULL;

	own_network();
	ASSERT_OK(nft_load(rules, strlen(rules)));
	ASSERT_OK(nft_list(&before));
	ASSERT_OK(nft_load("table ip stale { }\n", 19));
	m = read_now();
	own_network();
	load_early(m);
	ASSERT_OK(nft_load(rules, strlen(rules)));
	packet_filter_remove(m);
	ASSERT_EQ(m->n_warnings, 0);
	assert_lists(before);
	/* Once more, and where a service has flushed: nothing to do is no failure. */
	packet_filter_remove(m);
	ASSERT_EQ(m->n_warnings, 0);
}

TEST("only tables that came along are deleted, and of these only ours")
{
	_cleanup_(manifest_freep) struct manifest *m = manifest_new();
	static const char there[] = "table inet crkexec_other {\n}\ntable inet a {\n}\n";
	char *lines[] = { (char *)"table inet a {", (char *)"}", (char *)"table inet crkexec_a {", (char *)"}" };

	own_network();
	ASSERT_OK(nft_load(there, strlen(there)));
	ASSERT_OK(nft_load("table inet crkexec_a { }\n", 25));
	m->packet_filter = lines;
	m->n_packet_filter = ARRAY_SIZE(lines);
	packet_filter_remove(m);
	m->packet_filter = NULL;
	m->n_packet_filter = 0;
	ASSERT_EQ(m->n_warnings, 0);
	assert_lists(there);
}

TEST("tables that cannot be deleted are named in the report, with the command")
{
	_cleanup_(manifest_freep) struct manifest *m = NULL;
	_cleanup_free_ char *nft = str_fmt("%s/nft", unit_tmpdir());
	_cleanup_fclose_ FILE *f = NULL;

	own_network();
	ASSERT_OK(nft_load("table inet a { }\ntable ip b { }\n", 32));
	m = read_now();
	load_early(m);
	f = fopen(nft, "wx");
	ASSERT(f);
	fputs("#!/bin/sh\n[ \"$1\" != -f ] || exit 1\nexec /usr/sbin/nft \"$@\"\n", f);
	ASSERT_OK(fchmod(fileno(f), 0755));
	fclose(take_ptr(f));
	ASSERT_OK(setenv("PATH", unit_tmpdir(), 1));
	packet_filter_remove(m);
	ASSERT_EQ(m->n_warnings, 1);
	ASSERT_CONTAINS(m->warnings[0], ": nft delete table inet crkexec_a, nft delete table ip crkexec_b");
}

TEST("tables get names of our own, their contents keep theirs, and tabs become blanks")
{
	assert_renamed("table ip nat {\n\tchain table {\n\t\tjump table\n\t}\n}\n\ntable ip6 x-y.z/0 {\n}\n",
		       "table ip crkexec_nat {\n chain table {\n  jump table\n }\n}\ntable ip6 crkexec_x-y.z/0 {\n}\n");
}

TEST("a table no longer belongs to the process that made it; other flags stay, of sets and flowtables all")
{
	assert_renamed("table ip a { # progname it's \"one\n\tflags owner\n}\n", "table ip crkexec_a {\n}\n");
	assert_renamed("table ip a { # progname x\n\tflags dormant,owner,persist\n}\n",
		       "table ip crkexec_a {\n flags dormant\n}\n");
	assert_renamed("table ip a {\n\tflags dormant\n\tset owner {\n\t\tflags interval,timeout\n\t}\n}\n",
		       "table ip crkexec_a {\n flags dormant\n set owner {\n  flags interval,timeout\n }\n}\n");
}

TEST("a table with an owner comes back and stays, though who loads it ends")
{
	_cleanup_(manifest_freep) struct manifest *m = NULL;
	struct nft_seen seen = { 0 };
	FILE *owner;

	own_network();
	owner = popen("nft -i >/dev/null", "w");
	ASSERT(owner);
	fputs("add table ip a { flags owner; }\n", owner);
	ASSERT_OK(fflush(owner));
	for (int i = 0; i < 500 && !seen.tables; i++) {
		ASSERT_OK(nft_look(&seen));
		usleep(10000);
	}
	ASSERT_EQ(seen.tables, 1);
	m = read_now();
	pclose(owner);
	own_network();
	load_early(m);
	ASSERT_EQ(m->n_warnings, 0);
	assert_lists("table ip crkexec_a {\n}\n");
}

TEST("what looks like a table inside of a comment is none")
{
	assert_renamed("table ip a {\n\tcomment \"# x\ntable ip b {\n\tflags owner\n}\n\"\n\tflags owner\n}\ntable ip c {\n}\n",
		       "table ip crkexec_a {\n comment \"# x\ntable ip b {\n flags owner\n}\n\"\n}\ntable ip crkexec_c {\n}\n");
	assert_renamed("# Warning: table ip \"a is managed by iptables-nft\ntable ip a {\n}\n",
		       "# Warning: table ip \"a is managed by iptables-nft\ntable ip crkexec_a {\n}\n");
}

TEST("a table that an upgrade before has brought is left out, or goes on where it is all there is")
{
	assert_renamed("table ip crkexec_a {\n\tchain c {\n\t\tcomment \"\n}\n\"\n\t}\n}\ntable ip a {\n\tchain c {\n\t}\n}\n",
		       "table ip crkexec_a {\n chain c {\n }\n}\n");
	assert_renamed("table ip6 crkexec_a {\n\tchain c {\n\t}\n}\ntable ip a {\n}\n",
		       "table ip6 crkexec_a {\n chain c {\n }\n}\ntable ip crkexec_a {\n}\n");
}

TEST("a table whose name is too long for ours, or cannot be told, is not taken")
{
	_cleanup_free_ char *text = NULL;
	char name[NFT_NAME_MAXLEN], listed[400];

	memset(name, 'n', sizeof(name));
	snprintf(listed, sizeof(listed), "table ip %.247s {\n}\n", name);
	ASSERT_OK(renamed(listed, &text));
	free(take_ptr(text));
	snprintf(listed, sizeof(listed), "table ip %.248s {\n}\n", name);
	ASSERT_EQ(renamed(listed, &text), -E2BIG);
	ASSERT_EQ(renamed("table ip two words {\n}\n", &text), -EBADMSG);
	ASSERT_EQ(renamed("table ip a\nb {\n}\n", &text), -EBADMSG);
	ASSERT_EQ(renamed("table ip a {}\n", &text), -EBADMSG);
	ASSERT_EQ(renamed("table {\n}\n", &text), -EBADMSG);
	ASSERT_EQ(renamed("table ip  {\n}\n", &text), -EBADMSG);
	ASSERT_EQ(renamed("table ", &text), -EBADMSG);
	ASSERT_OK(renamed("\"", &text));
	free(take_ptr(text));
	ASSERT_OK(renamed("}\n}\n", &text));
}

static void add_link(struct manifest *m, const char *name)
{
	m->links = reallocarray(m->links, m->n_links + 1, sizeof(*m->links));
	ASSERT(m->links);
	m->links[m->n_links++] = (struct manifest_link){ .name = strdup(name) };
}

TEST("rules for an interface that is not there in time are found out before the jump, and not carried")
{
	_cleanup_(manifest_freep) struct manifest *m = manifest_new();
	static const char late[] = "table ip a {\n\tchain c {\n\t\tiif \"crk-late0\" accept\n\t}\n}\n";
	struct upgrade u = { .m = m };

	own_network();
	ASSERT_OK(system("ip link add crk-late0 type veth") ? -1 : 0);
	ASSERT_OK(nft_load(late, strlen(late)));
	ASSERT_OK(packet_filter_read(&u, m));
	ASSERT_EQ(m->n_packet_filter, 0);
	ASSERT_EQ(m->n_warnings, 1);
	ASSERT_CONTAINS(m->warnings[0], "is loaded only by the new boot, ");
	ASSERT_CONTAINS(m->warnings[0], ": nft refuses its rules: Interface does not exist: iif \"crk-late0\" accept");
	/* With the link they are taken; the check leaves nothing here. */
	add_link(m, "crk-late0");
	ASSERT_OK(packet_filter_read(&u, m));
	ASSERT(m->n_packet_filter > 3);
	ASSERT_EQ(m->n_warnings, 1);
	assert_lists(late);
}

TEST("where the links cannot be made for a try, or no rule is about them, there is no false warning")
{
	_cleanup_(manifest_freep) struct manifest *m = manifest_new();
	char *lines[] = { (char *)"table ip a {", (char *)" chain c {", (char *)"  iif \"no/name\" accept",
			  (char *)" }", (char *)"}" };
	char *why = NULL;

	own_network();
	add_link(m, "no/name");
	ASSERT_EQ(packet_filter_check(lines, ARRAY_SIZE(lines), m, &why), 0);
	lines[2] = (char *)"  iif \"lo\" accept";
	ASSERT_EQ(packet_filter_check(lines, ARRAY_SIZE(lines), m, &why), 0);
	lines[2] = (char *)"  \x01 \x7f";
	ASSERT_EQ(packet_filter_check(lines, ARRAY_SIZE(lines), m, &why), 1);
	ASSERT(why && !strpbrk(why, "\x01\x7f\n\t"));
	free(why);
}

TEST("what the hardware is to do is tried without it")
{
	_cleanup_(manifest_freep) struct manifest *m = manifest_new();
	char *lines[] = { (char *)"table netdev crkexec_a {", (char *)" chain c {",
			  (char *)"  type filter hook ingress device \"crk-dev0\" priority 0; policy accept;",
			  (char *)"  flags offload", (char *)" }", (char *)"}" };
	char *why = NULL;

	own_network();
	add_link(m, "crk-dev0");
	ASSERT_EQ(packet_filter_check(lines, ARRAY_SIZE(lines), m, &why), 0);
}

TEST("without rules nothing is carried, and nothing is started for it")
{
	_cleanup_(manifest_freep) struct manifest *m = manifest_new();
	struct upgrade u = { .m = m };
	struct early e = { .manifest = m, .log_fd = -EBADF };

	own_network();
	ASSERT_OK(packet_filter_read(&u, m));
	ASSERT_EQ(m->n_packet_filter, 0);
	ASSERT_OK(early_filter_begin(&e));
	ASSERT(!e.filter);
	early_filter_load(&e);
	ASSERT_EQ(m->n_warnings, 0);
}

TEST("rules that cannot be loaded hold nobody back, and the report says so")
{
	_cleanup_(manifest_freep) struct manifest *m = manifest_new();
	struct early e = { .manifest = m, .uevent_fd = -EBADF, .log_fd = -EBADF };

	own_network();
	m->packet_filter = calloc(1, sizeof(char *));
	m->packet_filter[0] = strdup("table inet x { nonsense }");
	m->n_packet_filter = 1;
	ASSERT_OK(early_filter_begin(&e));
	early_filter_load(&e);
	ASSERT_EQ(m->n_warnings, 1);
	ASSERT_CONTAINS(m->warnings[0], "the packet filter was not loaded before the services answered again: ");
	ASSERT(!e.filter);
}
