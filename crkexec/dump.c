/*
 * Phase "dump": one process for each unit calls the engine, all units at once.
 *
 * What a child finds out comes back as a manifest of one unit, in a file of the run directory.
 *
 * The trap: these children are not killed, not even when the operator wants to stop: a dead
 * engine in the middle of a tree helps nobody. Their work is short and they end by themselves, in
 * the worst case by an alarm of their own, for nobody else may be left to watch them.
 */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "crkexec/dumpopts.h"
#include "crkexec/phases.h"
#include "crkexec/predump.h"
#include "util/io.h"
#include "util/log.h"

/* Beyond this plus 0.1 s per MiB a dump does not work, it hangs; and the services stand still. */
#define DUMP_SECONDS		30u
#define DUMP_MIB_PER_SECOND	10u

static unsigned int dump_seconds(const struct upgrade *u)
{
	return DUMP_SECONDS + (unsigned int)((u->estimate_bytes >> 20) / DUMP_MIB_PER_SECOND);
}

/* pd: what has it already, or NULL. */
static int dump_into(struct upgrade *u, size_t i, struct manifest_unit *mu, const struct pre_dump *pd)
{
	struct image_store *images = NULL;
	struct dump_setup setup;
	int r = dump_setup_init(&setup, u, i), r2;

	if (r < 0)
		return r;
	r = u->store.ops->tree_open(&u->store, i, pd ? ROOM_REST : ROOM_ALL, &images);
	if (r == 0) {
		setup.opts.store = images;
		setup.opts.peek = u->peek;
		setup.opts.ahead = u->ahead ? u->ahead[i] : NULL;
		if (pd) {
			setup.opts.track = pd->track;
			image_store_set_parent(images, pd->images);
		}
		r = cr_dump(&setup.opts, NULL);
		if (r == 0)
			r = carry_write(mu, images);
		if (r == 0)
			r = apparmor_write(mu, images);
		r2 = u->store.ops->tree_done(&u->store, images, r == 0 ? mu->trees : NULL);
		r = r < 0 ? r : r2;
	}
	dump_setup_done(&setup);
	return r;
}

static int dump_tree(struct upgrade *u, size_t i, struct manifest_unit *mu)
{
	const struct pre_dump *pd = pre_dump_find(u, i);
	int r = dump_into(u, i, mu, pd);

	if (r == -ENOSPC && pd) {
		/* More was written since than was thought. */
		log_first_error_forget();
		log_info("%s: once more, without the pre-dump", u->units[i]->name);
		r = dump_into(u, i, mu, NULL);
	}
	return r;
}

static int dump_unit(struct upgrade *u, size_t i, struct manifest_unit *mu)
{
	const struct unit *un = u->units[i];
	struct manifest_tree *t = calloc(1, sizeof(*t));
	uint64_t begin = now_monotonic_usec();
	int r;

	if (!t)
		return -ENOMEM;
	mu->trees = t;
	mu->n_trees = 1;
	t->root_pid = un->tree.root;
	t->dir = strdup(un->name);
	r = t->dir ? carry_collect(un, mu) : -ENOMEM;
	if (r == 0)
		r = dump_tree(u, i, mu);
	for (size_t n = 0; n < t->n_images; n++)
		mu->image_bytes += t->images[n].bytes;
	mu->image_bytes += t->bundle_bytes;
	mu->dump_usec = now_monotonic_usec() - begin;
	return r;
}

static char *result_name(size_t i)
{
	return str_fmt("unit-%zu.json", i);
}

/* The child's whole life. */
static int dump_child(struct upgrade *u, size_t i)
{
	_cleanup_free_ char *name = result_name(i);
	/* A manifest of this unit alone; the parts borrowed from u's are not freed: we exit. */
	struct manifest m = *u->m;
	struct manifest_unit *mu = &u->m->units[i];
	int r;

	log_first_error_forget();
	signal(SIGALRM, SIG_DFL);
	alarm(dump_seconds(u));
	r = name ? dump_unit(u, i, mu) : -ENOMEM;
	m.units = mu;
	m.n_units = 1;
	if (r < 0) {
		free(mu->reason);
		mu->reason = strdup(*log_first_error() ? log_first_error() : strerror(-r));
		/* A half-filled tree cannot be written. */
		mu->n_trees = 0;
		mu->n_carries = 0;
	}
	return manifest_save(&m, u->run_dirfd, name) < 0 || r < 0;
}

static int collect(struct upgrade *u, size_t i, int status)
{
	_cleanup_free_ char *name = result_name(i);
	_cleanup_(manifest_freep) struct manifest *m = NULL;
	const char *unit = u->units[i]->name;
	int r = name ? manifest_load(u->run_dirfd, name, &m) : -ENOMEM;

	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
		return upgrade_problem(u, -ETIMEDOUT, unit, "see the log, ps, dmesg",
				       "the dump hung: it did not end in %u s", dump_seconds(u));
	if (WIFSIGNALED(status))
		return upgrade_problem(u, -EIO, unit, NULL, "the dump was killed by signal %d",
				       WTERMSIG(status));
	if (r < 0 || m->n_units != 1)
		return upgrade_problem(u, r < 0 ? r : -EBADMSG, unit, NULL,
				       "the dump left no result");
	if (status)
		return upgrade_problem(u, -EIO, unit, NULL, "it could not be dumped: %s",
				       m->units[0].reason ? m->units[0].reason : "unknown error");
	unlinkat(u->run_dirfd, name, 0);
	/* Exchanged: the old one is freed with m. */
	struct manifest_unit old = u->m->units[i];

	u->m->units[i] = m->units[0];
	m->units[0] = old;
	return 0;
}

static int start_all(struct upgrade *u, pid_t *pids)
{
	for (size_t i = 0; i < u->n_units; i++) {
		pids[i] = fork();
		if (pids[i] < 0)
			return log_err(neg_errno(), "cannot start the dump of %s", u->units[i]->name);
		if (pids[i] == 0)
			_exit(dump_child(u, i));
	}
	return 0;
}

int upgrade_dump(void *arg)
{
	struct upgrade *u = arg;
	_cleanup_free_ pid_t *pids = calloc(u->n_units, sizeof(*pids));
	int r, first;

	if (!pids)
		return -ENOMEM;
	first = start_all(u, pids);
	for (size_t i = 0; i < u->n_units; i++) {
		int status = 0;
		pid_t got;

		if (pids[i] <= 0)
			continue;
		do
			got = waitpid(pids[i], &status, 0);
		while (got < 0 && errno == EINTR);
		r = got < 0 ? neg_errno() : collect(u, i, status);
		if (r < 0 && first == 0)
			first = r;
	}
	return first < 0 ? first : upgrade_check_stop(u);
}
