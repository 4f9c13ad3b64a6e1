/* The `cr` command: a thin front over libcr, with CRIU's verbs, option names and exit codes. */
#ifndef CR_CMD_CMD_H
#define CR_CMD_CMD_H

#include <signal.h>

#include "cr.h"
#include "util/arena.h"
#include "util/log.h"

#define SCRIPTS_MAX 16

/* Whose images, options and requests these are. */
#define CRIU_MAJOR 4
#define CRIU_MINOR 1
#define CRIU_VERSION "4.1"

#define ROOTS_MAX	64

/* Where an option comes from; the later ones win. */
enum option_source { FROM_FILE, FROM_ARGV, FROM_RPC };

struct rpc_session;

struct cmd_opts {
	struct cr_opts cr;
	struct arena arena;		/* texts that options refer to */
	const char *verb;
	char **words;			/* after the verb and its options */
	int n_words;
	enum option_source source;	/* of the option that is looked at, */
	const char *config_file;	/* and its name if that is a file */
	const char *images_dir, *work_dir, *log_file, *pidfile;
	const char *scripts[SCRIPTS_MAX];
	size_t n_scripts;
	const char *features[32];
	size_t n_features;
	pid_t more_pids[ROOTS_MAX];
	int images_fd, work_fd, log_fd;
	enum log_level level;
	bool extra, all;
	bool json, display_stats;
	bool pidfile_made;
	bool held_back;			/* by post-dump: the dump was complete */
	bool exec_cmd;			/* become words when the tree runs */
	bool keys_for_job;		/* Ctrl-C is the restored job's, not ours */
	const char *address;		/* service */
	int status_fd;			/* service: -1: none */
	struct rpc_session *rpc;	/* who asks and is told, by the socket; NULL: nobody */
};

/* Exit status of a dump whose images were complete, but whose post-dump script failed; as CRIU's. */
#define EXIT_HELD_BACK 255
/* Of cpuinfo check: this processor cannot do as much; as CRIU's. */
#define EXIT_OTHER_CPU 161

/* 0: go on; 1: asked for help or version, done; negative: said what is wrong. */
int cmd_parse(int argc, char **argv, struct cmd_opts *o) _must_check_;
void cmd_opts_init(struct cmd_opts *o);
void cmd_opts_done(struct cmd_opts *o);
/* Takes options only, from o->source; argv[0] is no option. */
int cmd_take(struct cmd_opts *o, int argc, char **argv) _must_check_;
/* option_values.c: the option with this number in the table of options.c. */
int option_take(struct cmd_opts *o, int number, const char *name, const char *arg) _must_check_;
/* Tells what is wrong with an option: at the terminal, or in the log of a request. Returns r. */
int option_wrong(const struct cmd_opts *o, int r, const char *fmt, ...) _printf_(3, 4);

/* config.c: options from a file. -ENOENT: it is not there, and nothing was said. */
int config_take(struct cmd_opts *o, const char *path) _must_check_;
/* The files that are read without being asked for; instead: --config. */
int config_take_defaults(struct cmd_opts *o, const char *instead, bool none) _must_check_;

/* Opens directories and the log; the process's working directory becomes the work dir. */
int cmd_open(struct cmd_opts *o) _must_check_;
int cmd_open_log(struct cmd_opts *o) _must_check_;
void cmd_close(struct cmd_opts *o);
void cmd_usage(FILE *to);

int cmd_dump(struct cmd_opts *o);
int cmd_pre_dump(struct cmd_opts *o);
int cmd_dedup(struct cmd_opts *o);
int cmd_cpuinfo(struct cmd_opts *o);
int cmd_restore(struct cmd_opts *o);
int cmd_check(struct cmd_opts *o);
int cmd_service(struct cmd_opts *o);
int cmd_swrk(struct cmd_opts *o);

/*
 * verbs.c: what they do, without a word at the terminal. o is open. The dump must be run by
 * cmd_in_child().
 */
int cmd_run_dump(struct cmd_opts *o, bool pre) _must_check_;
int cmd_run_restore(struct cmd_opts *o, pid_t *ret_root) _must_check_;
int cmd_run_cpuinfo(struct cmd_opts *o, bool check) _must_check_;
/*
 * Runs fn in a child that is told to end, not killed. Its exit status, 128 + its signal, or -errno.
 * *ret_told: we were told to end meanwhile.
 */
int cmd_in_child(int (*fn)(void *arg), void *arg, bool *ret_told) _must_check_;
/*
 * Signals as any program expects them, for what is run in our place or by us. Otherwise a
 * reader of our output that goes away, or a limit of file sizes, gives an error, not our end.
 */
void cmd_signals_default(void);
/* Those that ask for an end. */
void cmd_end_signals(sigset_t *set);
/* Says at the terminal, too, why what failed. 1. */
int cmd_failed(const struct cmd_opts *o, const char *what, int r);
int cmd_write_pidfile(const char *path, pid_t pid) _must_check_;

/*
 * Where the kernel has no soft-dirty bits somebody must hold what tracks the memory between two
 * dumps: a process that waits at a socket in the images directory (keeper.c).
 */
#define KEEPER_SOCKET "cr-track.sock"
/* Takes over from the keeper of the directory before; without one, an empty *ret. */
int keeper_ask(const struct cmd_opts *o, struct cr_track **ret) _must_check_;
/* Begins to keep t. */
int keeper_start(const struct cmd_opts *o, const struct cr_track *t) _must_check_;

/*
 * struct cr_opts.notify: tells whoever asked by the socket, then runs every --action-script with
 * CRTOOLS_SCRIPT_ACTION=event.
 */
int cmd_notify(void *arg, const char *event, pid_t root) _must_check_;

#endif
