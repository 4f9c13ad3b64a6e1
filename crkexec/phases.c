/*
 * The old kernel's side of an upgrade: its phases, in order, with what undoes them.
 */
#include <fcntl.h>
#include <string.h>

#include "crkexec/clock.h"
#include "crkexec/cmdline.h"
#include "crkexec/logs.h"
#include "crkexec/phases.h"
#include "crkexec/report.h"
#include "util/io.h"
#include "util/log.h"

int upgrade_prepare(void *arg)
{
	struct upgrade *u = arg;
	int r;

	u->marks[MARK_PREPARE] = undo_mark(&u->undo);
	r = guard_start(u);
	/* 20 ms if it has to be measured: not in the blackout. */
	u->tsc_khz = clock_tsc_khz();
	return r;
}

int upgrade_unprepare(void *arg)
{
	struct upgrade *u = arg;

	/* The guard ends by itself when the lock is free and nothing is left to undo. */
	return undo_rewind(&u->undo, u->marks[MARK_PREPARE], undo_kinds);
}

int upgrade_store(void *arg)
{
	struct upgrade *u = arg;
	_cleanup_free_ struct store_need *needs = NULL;
	int r;

	u->marks[MARK_STORE] = undo_mark(&u->undo);
	r = upgrade_needs(u, &needs);
	return r < 0 ? r : store_prepare(u, needs, u->n_units);
}

int upgrade_release(void *arg)
{
	struct upgrade *u = arg;

	return undo_rewind(&u->undo, u->marks[MARK_STORE], undo_kinds);
}

static int build_cmdline(struct upgrade *u)
{
	_cleanup_free_ char *current = NULL, *words = NULL, *suffix = NULL, *ours = NULL;
	int r = read_file_at(AT_FDCWD, "/proc/cmdline", 1u << 20, &current, NULL);

	if (r == 0)
		r = u->store.ops->cmdline(&u->store, &words, &suffix);
	if (r < 0)
		return log_err(r, "cannot make the command line");
	ours = str_fmt("%s=%s%s%s%s", CRKEXEC_CMDLINE_KEY, u->m->id, suffix, *words ? " " : "",
		       words);
	if (!ours)
		return -ENOMEM;
	free(u->cmdline);
	u->cmdline = NULL;
	r = cmdline_build(current, ours, u->opt->append, u->target.own_initramfs,
			  u->target.cmdline_max, &u->cmdline);
	if (r == -E2BIG)
		return upgrade_problem(u, r, NULL, "shorten --append or the present command line",
				       "kernel %s takes command lines of up to %u characters",
				       u->target.version, u->target.cmdline_max);
	return r;
}

int upgrade_load(void *arg)
{
	struct upgrade *u = arg;
	int r;

	u->marks[MARK_LOAD] = undo_mark(&u->undo);
	r = build_cmdline(u);
	if (r == 0)
		r = u->store.ops->load(&u->store);
	if (r < 0)
		return r;
	return u->opt->dry_run ? PHASE_STOP : upgrade_check_stop(u);
}

int upgrade_unload(void *arg)
{
	struct upgrade *u = arg;

	return undo_rewind(&u->undo, u->marks[MARK_LOAD], undo_kinds);
}

static const struct phase phases[] = {
	/* Reading only: a refusal must have touched nothing. */
	{ "plan",	"looking at units, kernel, store",	upgrade_plan,	NULL },
	{ "check",	"looking for obstacles",		upgrade_check,	NULL },
	/* `check` ends here. Before the first change: what would recover if we are killed. */
	{ "prepare",	"starting the guard",			upgrade_prepare, upgrade_unprepare },
	/* Taking memory is slow and may fail: while everything runs. */
	{ "store",	"taking memory",			upgrade_store,	upgrade_release },
	/* A bad kernel image must cost nothing: loaded before anything is stopped. */
	{ "load",	"loading the kernel",			upgrade_load,	upgrade_unload },
	/* The others stop while the chosen ones still answer. */
	{ "quiesce",	"stopping other services",		upgrade_quiesce, upgrade_restart },
	/* Late, because all that is written afterwards is copied again. */
	{ "pre-dump",	"copying memory",		upgrade_pre_dump, upgrade_unpre_dump },
	/* Last, because it turns clients away; first, because a full accept queue is lost. */
	{ "gate",	"holding back new connections",		upgrade_gate,	upgrade_ungate },
	/* The blackout begins. */
	{ "freeze",	"freezing",				upgrade_freeze,	upgrade_thaw },
	{ "dump",	"saving the processes",			upgrade_dump,	NULL },
	/* The last reading of the clocks: everything that takes time is behind us. */
	{ "commit",	"sealing the images",			upgrade_commit,	NULL },
	/* Does not return. */
	{ "jump",	"leaving",				upgrade_jump,	upgrade_unjump },
};
#define N_CHECK_PHASES	2

static int before_phase(void *arg, const struct phase *p)
{
	struct upgrade *u = arg;
	int r = upgrade_check_stop(u);

	if (r < 0)
		return r;
	if (undo_note_phase(u->run_dirfd, p->name) < 0)
		log_warn("cannot note the phase");
	u->phase_begin_usec = now_realtime_usec();
	u->phase = p->name;
	log_info("phase %s", p->name);
	progress_begin(&u->progress, p->name, p->doing);
	return 0;
}

static void after_phase(void *arg, const struct phase *p, int result, uint64_t usec)
{
	struct upgrade *u = arg;
	_cleanup_free_ char *detail = result < 0 ? NULL : report_phase_detail(u, p->name);

	if (manifest_add_phase(u->m, p->name, u->phase_begin_usec, now_realtime_usec()) < 0)
		log_warn("phase %s is missing in the report", p->name);
	log_info("phase %s: %s in %llu us", p->name, result < 0 ? strerror(-result) : "done",
		 (unsigned long long)usec);
	if (!u->opt->json)
		progress_end(&u->progress, p->name, result, usec, detail);
}

static void after_undo(void *arg, const struct phase *p, int result)
{
	struct upgrade *u = arg;

	if (result < 0)
		upgrade_problem(u, result, NULL, "see the log", "phase %s was not undone completely: %s",
				p->name, strerror(-result));
	else
		log_info("phase %s undone", p->name);
}

static const struct phase_hooks hooks = { before_phase, after_phase, after_undo };

/* The log of an upgrade outlives it; a check leaves nothing behind. */
static int open_log(struct upgrade *u)
{
	if (u->opt->verbose) {
		u->log_fd = STDERR_FILENO;
		log_init(LOGLEVEL_DEBUG, STDERR_FILENO);
		return 0;
	}
	if (u->opt->verb == VERB_CHECK) {
		u->log_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
		if (u->log_fd < 0)
			return log_err(neg_errno(), "cannot open /dev/null");
	} else {
		u->log_fd = logs_open(CRKEXEC_LOG_DIR, u->m->id);
		if (u->log_fd < 0)
			return u->log_fd;
	}
	log_init(LOGLEVEL_INFO, u->log_fd);
	return 0;
}

int upgrade_main(struct upgrade *u)
{
	size_t n = u->opt->verb == VERB_CHECK ? N_CHECK_PHASES : ARRAY_SIZE(phases);
	int r, undo = 0;

	/* What goes wrong before there is a log is told with the result. */
	log_init(LOGLEVEL_NONE, -1);
	r = open_log(u);
	if (r == 0)
		r = undo_open(&u->undo, u->run_dirfd, true);
	if (r < 0)
		upgrade_problem(u, r, NULL, NULL, "cannot begin: %s",
				*log_first_error() ? log_first_error() : strerror(-r));
	else
		r = phases_run(phases, n, &hooks, u, &undo);
	if (r == -ECANCELED)
		upgrade_problem(u, r, NULL, NULL, "stopped as asked in phase %s", u->phase);
	else if (r < 0 && !u->n_obstacles)
		upgrade_problem(u, r, NULL, NULL, "phase %s failed: %s", u->phase,
				*log_first_error() ? log_first_error() : strerror(-r));
	u->result = r;
	report_end(u, undo);
	if (undo < 0)
		return EXIT_NOT_UNDONE;
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
