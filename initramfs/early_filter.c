/*
 * The packet filter's rules, as they were, before the first packet comes in. Their tables have names of our own
 * (packet_filter_text.c), so what the real system's services set up comes beside them, whatever they flush or not;
 * `crkexec finish` deletes ours when the boot has reached its default target. Until then a packet must pass both.
 * nft(8) and modprobe(8) are the root filesystem's.
 *
 * The trap: not before the sockets are there, for some come to their state by segments that we make
 * ourselves (tcp_forge.c), which hardly any rules would let in. Only the modules are loaded beside the restore.
 *
 * Without the rules the machine comes up all the same, as any does before that service has run.
 */
#include "initramfs/early.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/wait.h>

#include "ns/nft.h"
#include "util/io.h"
#include "util/log.h"

/* Beyond this a program hangs; and all services wait. */
#define FILTER_USEC	(10u * 1000000u)

/* The kernel itself asks for modules in the initramfs, which in a distribution's has none of these. */
static int load_modules(struct early *e)
{
	const struct manifest *m = e->manifest;
	_cleanup_free_ char **argv = calloc(m->n_packet_filter_modules + 3, sizeof(*argv));
	pid_t child;

	if (!argv)
		return -ENOMEM;
	argv[0] = (char *)"modprobe";
	argv[1] = (char *)"-aq";
	for (size_t i = 0; i < m->n_packet_filter_modules; i++)
		argv[i + 2] = m->packet_filter_modules[i];
	child = fork();
	if (child < 0)
		return neg_errno();
	if (!child) {
		execv("/sbin/modprobe", argv);
		_exit(127);
	}
	/* Whether all are there nft finds out. */
	waitpid(child, NULL, 0);
	return 0;
}

static int load_rules(struct early *e)
{
	const struct manifest *m = e->manifest;
	size_t bytes;
	_cleanup_free_ char *text = nft_join(m->packet_filter, m->n_packet_filter, &bytes);
	int r;

	if (!text)
		return -ENOMEM;
	r = nft_load(text, bytes);
	return r < 0 ? log_err(r, "nft does not load the rules") : 0;
}

static const struct early_phase modules = { .name = "packet filter modules", .run = load_modules };
static const struct early_phase rules = { .name = "packet filter", .run = load_rules };

int early_filter_begin(struct early *e)
{
	return e->manifest->n_packet_filter_modules ? early_lane_begin(e, &modules, 1, &e->filter) : 0;
}

static int finish(struct early *e)
{
	int r = early_lane_join(e, e->filter, FILTER_USEC);

	early_lane_end(take_ptr(e->filter));
	return r;
}

void early_filter_load(struct early *e)
{
	int r;

	if (e->filter && finish(e) < 0)
		log_warn("going on without modules of the packet filter");
	/* Where nothing is restored nobody answers before the real system's service has run. */
	if (*e->reason || !e->manifest->n_packet_filter)
		return;
	log_first_error_forget();
	r = early_lane_begin(e, &rules, 1, &e->filter);
	if (r == 0)
		r = finish(e);
	if (r < 0 &&
	    manifest_add_warning(e->manifest, "the packet filter was not loaded before the services answered again: %s",
				 *log_first_error() ? log_first_error() : strerror(-r)) < 0)
		log_warn("the packet filter is missing");
}
