/* dump, restore, check: options in, outcome out. */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "cmd/cmd.h"
#include "cmd/show.h"
#include "image/image.h"
#include "image/proto.h"
#include "util/io.h"
#include "util/uuid.h"

/* What the log has, the user at the terminal needs too: the first error. */
int cmd_failed(const struct cmd_opts *o, const char *what, int r)
{
	const char *dir = o->work_dir ? o->work_dir : o->images_dir;

	if (o->log_file)
		fprintf(stderr, "cr: %s failed: %s (log: %s%s%s)\n", what,
			log_first_error()[0] ? log_first_error() : strerror(-r),
			o->log_file[0] == '/' ? "" : dir, o->log_file[0] == '/' ? "" : "/", o->log_file);
	return 1;
}

/* --display-stats: a line each, to the terminal. A service's is not who asks. */
static void print_stats(const struct cmd_opts *o, const char *of, const ProtobufCMessage *m)
{
	struct json_object *shown = show_message(&(struct show_style){ 0 }, m);

	if (!o->rpc)
		printf("Statistics of the %s (times in microseconds):\n", of);
	json_object_object_foreach(shown, name, value) {
		if (o->rpc)
			log_info("%s: %s", name, json_object_get_string(value));
		else
			printf("  %s: %s\n", name, json_object_get_string(value));
	}
	fflush(stdout);
	json_object_put(shown);
}

static int put_stats(const struct cmd_opts *o, const StatsEntry *e)
{
	_cleanup_image_store_ struct image_store *store = NULL;
	int r = image_store_open_dir(o->work_fd, &store);

	if (r < 0)
		return r;
	return image_write_one(store, e->dump ? &image_stats_dump : &image_stats_restore, &e->base);
}

/* The tree is saved and may be gone, or it runs again: no figures are no failure. */
static void write_stats(const struct cmd_opts *o, const struct cr_stats *s, bool dump)
{
	DumpStatsEntry d = DUMP_STATS_ENTRY__INIT;
	RestoreStatsEntry t = RESTORE_STATS_ENTRY__INIT;
	StatsEntry e = STATS_ENTRY__INIT;

	d.freezing_time = (uint32_t)s->freezing_usec;
	d.frozen_time = (uint32_t)s->frozen_usec;
	d.memdump_time = (uint32_t)s->memdump_usec;
	d.memwrite_time = (uint32_t)s->memwrite_usec;
	d.pages_scanned = s->pages_scanned;
	d.pages_skipped_parent = s->pages_skipped_parent;
	d.pages_written = s->pages_written;
	t.forking_time = (uint32_t)s->forking_usec;
	t.restore_time = (uint32_t)s->restore_usec;
	t.has_pages_restored = true;
	t.pages_restored = s->pages_restored;
	t.pages_compared = s->pages_compared;
	t.pages_skipped_cow = s->pages_skipped_cow;
	if (dump)
		e.dump = &d;
	else
		e.restore = &t;
	if (o->display_stats)
		print_stats(o, dump ? "dump" : "restore", dump ? &d.base : &t.base);
	if (put_stats(o, &e) < 0)
		log_warn("there are no statistics of this %s", dump ? "dump" : "restore");
}

void cmd_signals_default(void)
{
	sigset_t none;

	signal(SIGPIPE, SIG_DFL);
	signal(SIGXFSZ, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Blocked signals that ask for an end, among them our parent's death (PR_SET_PDEATHSIG). */
static bool end_wanted(void *arg _unused_)
{
	sigset_t pending;

	return sigpending(&pending) == 0 &&
	       (sigismember(&pending, SIGTERM) || sigismember(&pending, SIGINT) ||
		sigismember(&pending, SIGHUP) || sigismember(&pending, SIGQUIT));
}

void cmd_end_signals(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGHUP);
	/* Ctrl-\, which a terminal sends to both of us as Ctrl-C. */
	sigaddset(set, SIGQUIT);
}

/* Hands the wish to end on to the child and waits for it: it needs a moment to roll back. */
static int wait_for_child(pid_t child, bool *ret_told)
{
	int status, sig;
	sigset_t set;

	cmd_end_signals(&set);
	sigaddset(&set, SIGCHLD);
	for (;;) {
		pid_t r = waitpid(child, &status, WNOHANG);

		if (r == child)
			break;
		if (r < 0 && errno != EINTR)
			return neg_errno();
		if (sigwait(&set, &sig) == 0 && sig != SIGCHLD) {
			kill(child, SIGTERM);
			*ret_told = true;
		}
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/*
 * A tracer that is killed leaves a tree that goes on, but not all is undone (README, Limits). So a child traces,
 * which takes signals at safe points only, and it rolls back when we are killed.
 */
int cmd_in_child(int (*fn)(void *arg), void *arg, bool *ret_told)
{
	sigset_t set, old;
	pid_t child, parent = getpid();
	int r;

	*ret_told = false;
	cmd_end_signals(&set);
	sigaddset(&set, SIGCHLD);
	if (sigprocmask(SIG_BLOCK, &set, &old) < 0)
		return neg_errno();
	child = fork();
	if (child) {
		r = child < 0 ? neg_errno() : wait_for_child(child, ret_told);
		sigprocmask(SIG_SETMASK, &old, NULL);
		return r;
	}
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		_exit(1);
	_exit(fn(arg));
}

static int in_child(struct cmd_opts *o, int (*fn)(void *arg))
{
	bool told;
	int status = cmd_in_child(fn, o, &told);

	if (status < 0)
		fprintf(stderr, "cr: cannot run a process: %s\n", strerror(-status));
	return status && status != EXIT_HELD_BACK ? 1 : status;
}

/* One generation of a chain, or the only one. */
static int dump_tracked(struct cmd_opts *o, bool pre, struct cr_stats *stats)
{
	struct cr_track *track = NULL;
	int r = 0;

	if ((pre || o->cr.track_mem || o->cr.parent_dir) && cr_track_needed()) {
		r = keeper_ask(o, &track);
		o->cr.track = track;
	}
	if (r >= 0)
		r = pre ? cr_pre_dump(&o->cr, stats) : cr_dump(&o->cr, stats);
	if (r >= 0 && track && (pre || (o->cr.track_mem && o->cr.final_state != CR_KILL)))
		r = keeper_start(o, track);
	cr_track_free(track);
	return r;
}

int cmd_run_dump(struct cmd_opts *o, bool pre)
{
	_cleanup_image_store_ struct image_store *store = NULL;
	char run_id[UUID_TEXT_BYTES];
	struct cr_stats stats;
	int r;

	o->cr.cancelled = end_wanted;
	r = image_store_open_dir(o->images_fd, &store);
	if (r >= 0)
		r = uuid_random(run_id);
	if (r >= 0) {
		o->cr.run_id = run_id;
		o->cr.store = store;
		r = dump_tracked(o, pre, &stats);
	}
	if (r >= 0)
		write_stats(o, &stats, true);
	return r;
}

static int dump_in_child(void *arg)
{
	struct cmd_opts *o = arg;
	int r = cmd_run_dump(o, false);

	if (r >= 0)
		return 0;
	cmd_failed(o, "dump", r);
	return o->held_back ? EXIT_HELD_BACK : 1;
}

static int pre_dump_in_child(void *arg)
{
	struct cmd_opts *o = arg;
	int r = cmd_run_dump(o, true);

	return r < 0 ? cmd_failed(o, "pre-dump", r) : 0;
}

static int dump_verb(struct cmd_opts *o, int (*fn)(void *arg))
{
	if (o->cr.pid)
		return in_child(o, fn);
	fprintf(stderr, "cr: %s needs -t PID\n", o->verb);
	return 1;
}

int cmd_dump(struct cmd_opts *o)
{
	return dump_verb(o, dump_in_child);
}

int cmd_pre_dump(struct cmd_opts *o)
{
	return dump_verb(o, pre_dump_in_child);
}

int cmd_write_pidfile(const char *path, pid_t pid)
{
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	char text[16];
	int n = snprintf(text, sizeof(text), "%d", pid), r;

	if (fd < 0)
		return log_err(neg_errno(), "cannot create pid file %s", path);
	r = write_full(fd, text, (size_t)n);
	if (r < 0) {
		unlink(path);
		return log_err(r, "cannot write pid file %s", path);
	}
	return 0;
}

/*
 * The file while the tree can still be taken back: a restore that has failed leaves none. A job of ours is in our
 * group, so what is typed means it, not us, and as soon as it runs.
 */
static int restore_event(void *arg, const char *event, pid_t root)
{
	struct cmd_opts *o = arg;

	if (o->keys_for_job && !strcmp(event, "pre-resume")) {
		signal(SIGINT, SIG_IGN);
		signal(SIGQUIT, SIG_IGN);
	}
	if (o->pidfile && !strcmp(event, "post-restore")) {
		int r = cmd_write_pidfile(o->pidfile, root);

		if (r < 0)
			return r;
		o->pidfile_made = true;
	}
	return cmd_notify(o, event, root);
}

int cmd_run_restore(struct cmd_opts *o, pid_t *ret_root)
{
	_cleanup_image_store_ struct image_store *store = NULL;
	struct cr_stats stats;
	int r;

	r = image_store_open_dir(o->images_fd, &store);
	if (r >= 0) {
		o->cr.store = store;
		o->cr.notify = restore_event;
		/* The statistics must be there before the root's end is waited for. */
		o->cr.detached = true;
		r = cr_restore(&o->cr, ret_root, &stats);
	}
	if (r >= 0)
		write_stats(o, &stats, false);
	else if (o->pidfile_made)
		unlink(o->pidfile);
	return r;
}

int cmd_run_cpuinfo(struct cmd_opts *o, bool check)
{
	_cleanup_image_store_ struct image_store *store = NULL;
	int r = image_store_open_dir(o->images_fd, &store);

	if (r < 0)
		return r;
	return check ? cr_cpuinfo_check(store, o->cr.cpu_caps ?: CR_CPU_DEFAULT) : cr_cpuinfo_dump(store);
}

int cmd_cpuinfo(struct cmd_opts *o)
{
	const bool check = o->n_words && !strcmp(o->words[0], "check");
	int r;

	if (!check && (!o->n_words || strcmp(o->words[0], "dump"))) {
		fprintf(stderr, "cr: cpuinfo needs dump or check\n");
		return 1;
	}
	r = cmd_run_cpuinfo(o, check);
	if (r >= 0)
		return 0;
	cmd_failed(o, check ? "cpuinfo check" : "cpuinfo dump", r);
	return check && r == -EOPNOTSUPP ? EXIT_OTHER_CPU : 1;
}

/* --exec-cmd: the root is the new program's child. */
static int become(char **words)
{
	cmd_signals_default();
	execvp(words[0], words);
	fprintf(stderr, "cr: cannot run %s: %m\n", words[0]);
	return 1;
}

static int check_restore(const struct cmd_opts *o)
{
	if (o->cr.sibling && !o->cr.detached)
		return option_wrong(o, -EINVAL, "--restore-sibling needs --restore-detached");
	if (o->exec_cmd && (o->cr.detached || !o->n_words))
		return option_wrong(o, -EINVAL, "--exec-cmd needs a command behind --, and does not go "
				    "with --restore-detached");
	return 0;
}

int cmd_restore(struct cmd_opts *o)
{
	bool wait = !o->cr.detached;
	pid_t root;
	int r, status;

	if (check_restore(o) < 0)
		return 1;
	o->keys_for_job = wait && o->cr.shell_job && !o->exec_cmd;
	r = cmd_run_restore(o, &root);
	if (r < 0)
		return cmd_failed(o, "restore", r);
	if (o->exec_cmd)
		return become(o->words);
	while (wait && waitpid(root, &status, 0) < 0 && errno == EINTR)
		;
	return 0;
}

static void print_obstacle(void *arg _unused_, const char *scope, const char *what,
			   const char *remedy)
{
	printf("%s%s%s\n  remedy: %s\n", scope, scope[0] ? ": " : "", what, remedy);
}

static int check_features(struct cmd_opts *o)
{
	int worst = 0;

	for (size_t i = 0; i < o->n_features; i++) {
		int r = cr_check_feature(o->features[i]);

		if (r == -ENOENT)
			printf("%s is not a known feature\n", o->features[i]);
		else
			printf("%s is %ssupported\n", o->features[i], r > 0 ? "" : "not ");
		if (r <= 0)
			worst = 1;
	}
	return worst;
}

static int check_tree(void *arg)
{
	struct cmd_opts *o = arg;
	int r;

	o->cr.cancelled = end_wanted;
	log_obstacles_set(print_obstacle, NULL);
	r = cr_check_tree(&o->cr);
	if (r == -EOPNOTSUPP) {
		fflush(stdout);
		return 1;
	}
	if (r < 0)
		return cmd_failed(o, "check", r);
	printf("Process tree %d can be dumped.\n", o->cr.pid);
	return fflush(stdout) ? 1 : 0;
}

int cmd_check(struct cmd_opts *o)
{
	if (o->n_features)
		return check_features(o);
	if (!o->cr.pid)
		return cr_check_kernel(o->extra, o->all) ? 0 : 1;
	return in_child(o, check_tree);
}
