/* The machine's packet filter is read before the jump and loaded again before the first packet. */
#include <sched.h>

#include "crkexec/machine.h"
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

TEST("rules of nftables that were read come back by another process, names, sets and all")
{
	_cleanup_(manifest_freep) struct manifest *m = manifest_new();
	_cleanup_free_ char *before = NULL, *after = NULL;
	struct upgrade u = { .m = m };
	struct early e = { .manifest = m, .uevent_fd = -EBADF, .log_fd = -EBADF };
	struct nft_seen seen;

	own_network();
	ASSERT_OK(nft_load(rules, strlen(rules)));
	ASSERT_OK(nft_list(&before));
	ASSERT_OK(packet_filter_read(&u, m));
	ASSERT_EQ(m->n_warnings, 0);
	ASSERT(m->n_packet_filter > 8);
	own_network();
	ASSERT_OK(nft_look(&seen));
	ASSERT_EQ(seen.tables, 0);
	ASSERT_OK(early_filter_begin(&e));
	early_filter_load(&e);
	ASSERT_EQ(m->n_warnings, 0);
	ASSERT_STREQ(e.marks[e.n_marks - 1].name, "packet filter");
	ASSERT_OK(nft_list(&after));
	ASSERT_STREQ(before, after);
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
