/*
 * Phase "gate": requests for new connections are dropped at every network interface (their
 * senders repeat them after a second or so), and the services get some milliseconds to accept
 * what is waiting: an unaccepted connection is the one kind that no kernel lets us put back.
 *
 * The lock is XDP programs held by file descriptors: it ends with this process, whatever
 * happens to it, so there is nothing for recovery to undo.
 */
#include <string.h>

#include "crkexec/phases.h"
#include "crkexec/sockets.h"
#include "netlock/netlock.h"
#include "util/io.h"
#include "util/log.h"

#define DRAIN_USEC	200000u
#define DRAIN_STEP_MSEC	2
/* A connection whose handshake was under way reaches the queue within a round trip. */
#define HANDSHAKE_USEC	10000u

static int explain(struct upgrade *u, int r, const char *what)
{
	return upgrade_problem(u, r, NULL, r == -EBUSY ? "take the XDP program off it for the upgrade"
			       : NULL, "cannot %s: %s", what,
			       *log_first_error() ? log_first_error() : strerror(-r));
}

static int drain(struct upgrade *u, const struct socket_list *lists, uint32_t *ret_left)
{
	uint64_t begin = now_monotonic_usec();

	for (;;) {
		uint64_t passed = now_monotonic_usec() - begin;
		uint32_t left = 0;
		int r;

		for (size_t i = 0; i < u->n_units; i++)
			left += sockets_unaccepted(&lists[i]);
		*ret_left = left;
		if ((!left && passed >= HANDSHAKE_USEC) || passed >= DRAIN_USEC)
			return 0;
		r = upgrade_wait_fd(u, -1, 0, DRAIN_STEP_MSEC);
		if (r < 0)
			return r;
	}
}

int upgrade_gate(void *arg)
{
	struct upgrade *u = arg;
	_cleanup_free_ struct socket_list *lists = calloc(u->n_units, sizeof(*lists));
	uint32_t left = 0;
	int r;

	if (!lists)
		return -ENOMEM;
	r = netlock_open(&u->netlock);
	if (r == 0)
		r = netlock_gate(u->netlock);
	if (r < 0)
		return explain(u, r, "gate the network");
	for (size_t i = 0; i < u->n_units && r == 0; i++)
		r = sockets_find(u->units[i], &lists[i]);
	if (r == 0)
		r = drain(u, lists, &left);
	for (size_t i = 0; i < u->n_units; i++)
		socket_list_done(&lists[i]);
	if (r == 0 && left)
		log_info("%u connections were not accepted in %u ms", left, DRAIN_USEC / 1000);
	return r;
}

int upgrade_ungate(void *arg)
{
	struct upgrade *u = arg;

	if (u->netlock)
		netlock_close(u->netlock);
	u->netlock = NULL;
	return 0;
}
