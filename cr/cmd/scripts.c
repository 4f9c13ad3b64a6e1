/*
 * Events of a dump or a restore: the client of a request is asked first, then scripts run.
 *
 * --action-script: executed directly, without arguments; the event is in the environment. It is
 * found by PATH unless there is a slash in it, has the log as its output and no other descriptor,
 * whatever we were started with. All run, the most recently added first; one that fails makes the
 * event fail.
 */
#include <linux/close_range.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "cmd/rpc.h"
#include "image/image.h"
#include "image/proto.h"
#include "netlock/hostlock.h"

static void __attribute__((noreturn)) script_main(const struct cmd_opts *o, const char *path,
						  const char *event, pid_t root, const char *dir)
{
	const int out = o->log_fd >= 0 ? o->log_fd : STDERR_FILENO;
	char pid[16];

	snprintf(pid, sizeof(pid), "%d", root);
	/* We take signals at safe points only; a script, and a daemon it starts, at any. */
	cmd_signals_default();
	setenv("CRTOOLS_SCRIPT_ACTION", event, 1);
	setenv("CRTOOLS_IMAGE_DIR", dir, 1);
	if (root > 0)
		setenv("CRTOOLS_INIT_PID", pid, 1);
	else	/* of a run that we are a script of */
		unsetenv("CRTOOLS_INIT_PID");
	dup2(out, STDOUT_FILENO);
	dup2(out, STDERR_FILENO);
	close(STDIN_FILENO);
	close_range(STDERR_FILENO + 1, ~0u, CLOSE_RANGE_CLOEXEC);
	execlp(path, path, (char *)NULL);
	log_err(neg_errno(), "%s: cannot run %s", event, path);
	_exit(127);
}

static int run_script(const struct cmd_opts *o, const char *path, const char *event, pid_t root)
{
	char dir[64];
	int status;
	pid_t child;

	snprintf(dir, sizeof(dir), "/proc/%d/fd/%d", getpid(), o->images_fd);
	child = fork();
	if (child < 0)
		return log_err(neg_errno(), "cannot run %s", path);
	if (!child)
		script_main(o, path, event, root, dir);
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return neg_errno();
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		return log_fail(-ECANCELED, "%s: %s: cannot be run, or ended with status 127", event, path);
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		return log_fail(-ECANCELED, "%s: %s: ended with %s %d", event, path,
				WIFEXITED(status) ? "status" : "signal",
				WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
	return 0;
}

/* Whoever dumped it: the inventory tells how its connections were locked. */
static int unlock_restored(const struct cmd_opts *o, pid_t root)
{
	InventoryEntry *inv;
	struct arena a;
	int r;

	arena_init(&a);
	r = image_read_one(o->cr.store, &a, &image_inventory, inventory_entry, &inv);
	if (r >= 0)
		r = hostlock_unlock(inv->dump_criu_run_id, root);
	/* Without the field it is an old CRIU's, which knew no other way. */
	if (r >= 0 && inv->network_lock_method == CR_LOCK_IPTABLES)
		r = hostlock_unlock_iptables(root);
	arena_done(&a);
	return r;
}

static bool has_own_network(pid_t root)
{
	char path[40];
	struct stat own, its;

	snprintf(path, sizeof(path), "/proc/%d/ns/net", root);
	return !stat("/proc/self/ns/net", &own) && !stat(path, &its) && own.st_ino != its.st_ino;
}

/* Connections are locked one by one, and let go one by one also where they come back closed. */
static int network_event(const struct cmd_opts *o, bool lock, pid_t root)
{
	const bool closed = !o->cr.run_id && o->cr.tcp_close;

	if (!(o->cr.tcp_established || closed) || o->cr.network_lock == CR_LOCK_SKIP)
		return 0;
	if (lock)
		return hostlock_lock(o->cr.run_id, root);
	return o->cr.run_id ? hostlock_unlock(o->cr.run_id, root) : unlock_restored(o, root);
}

/* Nothing that a script could answer. */
static bool is_for_rpc_only(const char *event)
{
	return !strcmp(event, "query-ext-files");
}

/* The client first; scripts are not asked about what it refuses. */
static int tell(struct cmd_opts *o, const char *event, pid_t root)
{
	int bad = 0, r = o->rpc ? rpc_notify(o, event, root) : 0;

	if (r < 0 || is_for_rpc_only(event))
		return r;
	for (size_t i = o->n_scripts; i-- > 0;) {
		r = run_script(o, o->scripts[i], event, root);
		bad = r < 0 ? r : bad;
	}
	return bad;
}

int cmd_notify(void *arg, const char *event, pid_t root)
{
	const bool lock = !strcmp(event, "network-lock");
	struct cmd_opts *o = arg;
	int r;

	if (lock || !strcmp(event, "network-unlock")) {
		r = network_event(o, lock, root);
		/* As in CRIU: told only of trees with a network namespace of their own. */
		if (r < 0 || !has_own_network(root))
			return r;
	}
	r = tell(o, event, root);
	o->held_back |= r < 0 && !strcmp(event, "post-dump");
	/* Nobody else would: to the engine it is not locked. */
	if (r < 0 && lock && network_event(o, false, root) < 0)
		log_warn("the network stays locked");
	return r;
}
