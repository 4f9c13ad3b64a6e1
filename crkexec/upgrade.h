/*
 * One upgrade: what was asked for, what was found, how far it is. Passed to every phase.
 */
#ifndef CRKEXEC_UPGRADE_H
#define CRKEXEC_UPGRADE_H

#include <stdbool.h>
#include <systemd/sd-bus.h>

#include "crkexec/kernel.h"
#include "crkexec/manifest.h"
#include "crkexec/progress.h"
#include "crkexec/store.h"
#include "crkexec/strv.h"
#include "crkexec/unit.h"
#include "crkexec/undo.h"

struct netlock;

enum verb { VERB_UPGRADE, VERB_CHECK, VERB_STATUS, VERB_RECOVER, VERB_FINISH };
enum store_choice { CHOOSE_AUTO, CHOOSE_TMPFS, CHOOSE_PMEM };

struct options {
	enum verb verb;
	struct strv services;
	const char *kernel, *initrd, *append;
	enum store_choice store;
	bool dry_run, json, verbose, no_pre_dump;
	bool guard;			/* recover: wait for the others to end */
};

/* Something that stands in the way, for the report. */
struct obstacle {
	char *unit;			/* NULL: the machine, the kernel */
	char *what, *remedy;		/* remedy may be NULL */
};

/* Where the undo log stood when a phase began. */
enum mark { MARK_PREPARE, MARK_STORE, MARK_LOAD, MARK_QUIESCE, MARK_FREEZE, MARK_JUMP, N_MARKS };

struct upgrade {
	const struct options *opt;
	int run_dirfd;			/* /run/crkexec/ID */
	char *run_dir;
	int life_fd;			/* the front: readable or closed means "please stop" */
	sd_bus *bus;
	struct manifest *m;
	struct unit **units;		/* the chosen ones; same order as m->units */
	size_t n_units;
	struct target target;		/* kernel, initrd, config, modules */
	struct strv module_paths;	/* for our own initramfs, in load order */
	struct strv firmware_paths;	/* and what these ask for */
	int initrd_fd;			/* what the images are appended to; negative: not open yet */
	char *cmdline;
	struct store store;
	struct undo_log undo;
	struct netlock *netlock;
	struct obstacle *obstacles;
	size_t n_obstacles;
	struct progress progress;
	struct strv late_addresses;	/* "10.0.0.1 bond0": set up by the new boot's network service only */
	struct strv late_interfaces;	/* all that are made, or get their names, only by the new boot */
	struct strv to_stop;		/* units, when that was asked for: check, dry run */
	bool to_stop_known;
	struct strv stopped, kept;	/* services: quiesce */
	uint64_t estimate_bytes;	/* of the images */
	struct pre_dump *pre_dumps;	/* predump.h */
	size_t n_pre_dumps;
	uint64_t pre_dump_bytes;	/* copied before the freeze */
	struct peek *peek;		/* cr.h: for the dumps, got before the freeze; NULL: none */
	struct cr_ahead **ahead;	/* idem, by unit; NULL: none */
	off_t marks[N_MARKS];
	uint64_t phase_begin_usec;	/* CLOCK_REALTIME */
	const char *phase;		/* the present one's name */
	uint64_t tsc_khz;
	int journal_fd;			/* of a sync under way, or negative */
	char *jump_error;		/* told when file systems can be written again */
	int log_fd;
	int result;
};

/* Exit statuses besides 0, 1 (refused or failed, nothing is left changed) and 2 (usage). */
#define EXIT_USAGE	2
#define EXIT_NOT_UNDONE	3

/*
 * A refusal or failure an operator reads: printed at once (or kept for JSON), kept for the
 * report. what names the object; remedy what to do, or NULL. Returns r.
 */
int upgrade_problem(struct upgrade *u, int r, const char *unit, const char *remedy,
		    const char *fmt, ...) __attribute__((format(printf, 5, 6)));
/* Something worth knowing that does not stop it: into the manifest and the report. */
void upgrade_warn(struct upgrade *u, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* The operator asked for an end (or the front died). -ECANCELED, else 0. */
int upgrade_check_stop(struct upgrade *u) _must_check_;
/* Waits for fd (POLLIN, POLLPRI) or the wish to stop: 1 ready, 0 timeout, -ECANCELED. */
int upgrade_wait_fd(struct upgrade *u, int fd, short events, int timeout_msec) _must_check_;

int upgrade_init(struct upgrade *u, const struct options *opt, const char *id, int life_fd)
	_must_check_;
void upgrade_done(struct upgrade *u);
/* The worker's whole life: phases, undo, report. Returns the exit status. */
int upgrade_main(struct upgrade *u);

#endif
