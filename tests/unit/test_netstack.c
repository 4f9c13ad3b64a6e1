/* Bonds, VLANs and bridges: what is read of an empty machine, what is believed of a manifest. VMs test the rest. */
#include <sched.h>

#include "crkexec/machine.h"
#include "initramfs/early_net.h"
#include "tests/unit/unit.h"
#include "util/log.h"

static void own_network(void)
{
	if (unshare(CLONE_NEWNET) < 0)
		unit_skip("no network namespace of its own: %s", strerror(errno));
}

TEST("where no device is carried nothing over one is")
{
	_cleanup_(manifest_freep) struct manifest *m = manifest_new();

	own_network();
	ASSERT_OK(netstack_read(m));
	ASSERT_EQ(m->n_links, 0);
}

static int make(struct manifest_link *l)
{
	struct manifest m = { .links = l, .n_links = 1 };
	struct early e = { .manifest = &m, .log_fd = -EBADF };

	log_first_error_forget();
	return early_netstack_make(&e);
}

TEST("settings of an interface that are no settings are refused by its name")
{
	static const char *const bad[] = { "zz", "0900010001", "ffff010001000000", "04000000" };
	char name[] = "bond7", mac[] = "02:00:00:00:00:07", kind[] = "bond";
	struct manifest_link l = { .name = name, .mac = mac, .kind = kind };

	own_network();
	for (size_t i = 0; i < 3; i++) {
		l.settings = (char *)bad[i];
		ASSERT_EQ(make(&l), -EBADMSG);
		ASSERT_CONTAINS(log_first_error(), "interface bond7: its settings are malformed");
	}
	/* An attribute without a value is none, and a kernel may know no bonds. */
	l.settings = (char *)bad[3];
	(void)!make(&l);
	l.settings = malloc(5000);
	memset(l.settings, '0', 4999);
	l.settings[4999] = '\0';
	ASSERT_EQ(make(&l), -EBADMSG);
	free(l.settings);
}

TEST("an interface of a kind that is not known is not made")
{
	char name[] = "x7", mac[] = "02:00:00:00:00:07", kind[] = "wireguard";
	struct manifest_link l = { .name = name, .mac = mac, .kind = kind };

	own_network();
	ASSERT_OK(make(&l));
}
