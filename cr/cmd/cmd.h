/* The `cr` command: a thin front over libcr, with CRIU's verbs, option names and exit codes. */
#ifndef CR_CMD_CMD_H
#define CR_CMD_CMD_H

#include "cr.h"
#include "util/log.h"

#define SCRIPTS_MAX 16

#define ROOTS_MAX	64

struct cmd_opts {
	struct cr_opts cr;
	const char *verb;
	char **words;			/* after the verb and its options */
	int n_words;
	const char *images_dir, *work_dir, *log_file, *pidfile;
	const char *scripts[SCRIPTS_MAX];
	size_t n_scripts;
	const char *features[32];
	size_t n_features;
	pid_t more_pids[ROOTS_MAX];
	int images_fd, work_fd, log_fd;
	enum log_level level;
	bool extra, all;
	bool json;
	bool pre_dump_mode_read;
	bool pidfile_made;
};

/* 0: go on; 1: asked for help or version, done; negative: said what is wrong. */
int cmd_parse(int argc, char **argv, struct cmd_opts *o) _must_check_;
/* Opens directories and the log; the process's working directory becomes the work dir. */
int cmd_open(struct cmd_opts *o) _must_check_;
void cmd_usage(FILE *to);

int cmd_dump(struct cmd_opts *o);
int cmd_pre_dump(struct cmd_opts *o);
int cmd_dedup(struct cmd_opts *o);
int cmd_restore(struct cmd_opts *o);
int cmd_check(struct cmd_opts *o);

/*
 * Where the kernel has no soft-dirty bits somebody must hold what tracks the memory between two
 * dumps: a process that waits at a socket in the images directory (keeper.c).
 */
#define KEEPER_SOCKET "cr-track.sock"
/* Takes over from the keeper of the directory before; without one, an empty *ret. */
int keeper_ask(const struct cmd_opts *o, struct cr_track **ret) _must_check_;
/* Begins to keep t. */
int keeper_start(const struct cmd_opts *o, const struct cr_track *t) _must_check_;

/* --action-script: runs every script with CRTOOLS_SCRIPT_ACTION=event. struct cr_opts.notify. */
int cmd_run_scripts(void *arg, const char *event, pid_t root) _must_check_;

#endif
