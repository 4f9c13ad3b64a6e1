/* What a unit holds at this moment: processes, connections, streams to journald. */
#include "crkexec/phases.h"
#include "crkexec/sockets.h"
#include "crkexec/tree.h"
#include "kernel/stat.h"

static int record_streams(struct manifest_unit *mu, const struct socket_list *l)
{
	struct manifest_stream *v = calloc(l->n + 1, sizeof(*v));

	if (!v)
		return -ENOMEM;
	free(mu->streams);
	mu->streams = v;
	mu->n_streams = 0;
	for (size_t i = 0; i < l->n; i++)
		if (l->v[i].kind == SOCKET_JOURNAL)
			v[mu->n_streams++].socket_ino = l->v[i].ino;
	return 0;
}

struct look {
	struct upgrade *u;
	const struct unit *un;
};

/*
 * The engine saves them; but of a main thread that has ended nothing is to be had that we and the
 * adoption ask of /proc/PID.
 */
static int look_at_process(void *arg, pid_t pid)
{
	const struct look *l = arg;
	struct proc_stat st;

	if (proc_stat_of(pid, &st) < 0)
		return 0;
	if (st.state == 'Z' && st.n_threads > 1)
		return upgrade_problem(l->u, -EOPNOTSUPP, l->un->name, "restart the service",
				       "process %d (%s): its main thread has ended, %u others run", pid, st.comm,
				       st.n_threads - 1);
	return 0;
}

/* The new systemd is told of it; one that was replaced meanwhile would mean a cold start there. */
static int look_at_main(struct upgrade *u, const struct unit *un)
{
	for (size_t i = 0; i < un->tree.n_pids; i++)
		if (un->tree.pids[i] == un->main_pid)
			return 0;
	return upgrade_problem(u, -ESRCH, un->name, NULL,
			       "its main process %d has ended, or left its control group", un->main_pid);
}

int upgrade_look(struct upgrade *u, size_t i)
{
	struct manifest_unit *mu = &u->m->units[i];
	struct unit *un = u->units[i];
	struct socket_list l;
	int r = unit_find_tree(un);

	if (r == -ESRCH)
		return upgrade_problem(u, r, un->name, NULL, "all its processes have ended");
	if (r == 0)
		r = look_at_main(u, un);
	if (r == 0)
		r = tree_each_pid(&un->tree, look_at_process, &(struct look){ u, un });
	if (r == 0)
		r = sockets_find(un, &l);
	if (r < 0)
		return r;
	mu->n_tasks = (uint32_t)un->tree.n_pids;
	mu->n_connections = (uint32_t)sockets_count(&l, SOCKET_TCP_OPEN);
	mu->n_unaccepted = sockets_unaccepted(&l);
	r = record_streams(mu, &l);
	socket_list_done(&l);
	return r;
}
