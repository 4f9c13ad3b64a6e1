/*
 * `crkexec status`: the last upgrade, from the report in /var/lib, or from /run while its units
 * are being adopted, or what is going on now. `crkexec finish` makes the report; it is run by
 * crkexec-finish.service.
 */
#include <fcntl.h>
#include <json-c/json.h>
#include <string.h>
#include <sys/stat.h>

#include "crkexec/commands.h"
#include "crkexec/lock.h"
#include "crkexec/logs.h"
#include "crkexec/machine.h"
#include "crkexec/paths.h"
#include "crkexec/report.h"
#include "crkexec/store_pmem.h"
#include "crkexec/undo.h"
#include "util/io.h"
#include "util/log.h"

#define RUN_MANIFEST	CRKEXEC_RUN_DIR "/manifest.json"
#define MEMORY_TIMEOUT_MSEC	20000u
#define LAST_NAME	"last.json"
#define LAST_REPORT	CRKEXEC_STATE_DIR "/" LAST_NAME

/* 0 all went well, 1 a unit started cold or is not adopted: for scripts. */
static int status_exit(const struct manifest *m)
{
	for (size_t i = 0; i < m->n_units; i++)
		if (m->units[i].outcome != OUTCOME_ADOPTED)
			return 1;
	return 0;
}

static void print(const struct manifest *m, bool json, bool finished)
{
	struct json_object *o;

	if (!json) {
		if (!finished)
			printf("The restored units are being handed over to systemd.\n");
		report_manifest_text(m, stdout);
		return;
	}
	o = report_manifest_json(m);
	json_object_object_add(o, "state", json_object_new_string(finished ? "finished" :
								  "adopting"));
	report_print_json(o);
}

static int print_running(bool json)
{
	char id[LOCK_ID_BYTES];
	pid_t pid = 0;
	_cleanup_free_ char *path = NULL, *phase = NULL;

	if (lock_holder(&pid, id) <= 0)
		return -ENOENT;
	/* The guard, or `crkexec recover`, does not sign the lock. */
	if (!pid) {
		if (json)
			printf("{ \"state\": \"recovering\" }\n");
		else
			printf("An interrupted upgrade is being undone.\n");
		return 0;
	}
	path = str_fmt("%s/%s/phase", CRKEXEC_RUN_DIR, id);
	if (!path || read_file_at(AT_FDCWD, path, 64, &phase, NULL) < 0)
		phase = strdup("?");
	if (json)
		printf("{ \"state\": \"running\", \"id\": \"%s\", \"pid\": %d, \"phase\": \"%s\" }\n", id,
		       pid, phase ? phase : "?");
	else
		printf("upgrade %s is under way: pid %d, phase %s\n", id, pid, phase ? phase : "?");
	return 0;
}

/* What an interrupted upgrade has left: the lines of its undo log. */
static int print_interrupted(bool json)
{
	char id[LOCK_ID_BYTES], *line, *rest;
	_cleanup_free_ char *path = NULL, *text = NULL;
	struct json_object *o, *left;
	int r;

	if (!recover_pending(id))
		return -ENOENT;
	path = str_fmt("%s/%s/undo", CRKEXEC_RUN_DIR, id);
	r = path ? read_file_at(AT_FDCWD, path, UNDO_MAX_BYTES, &text, NULL) : -ENOMEM;
	/* Killed before it changed anything, or when all was undone but its directory. */
	if (r == -ENOENT || (r == 0 && !*text))
		return -ENOENT;
	if (r < 0)
		text = strdup("");
	if (!text)
		return -ENOMEM;
	if (!json) {
		printf("Upgrade %s was interrupted, and not all of it is undone. `crkexec recover` tries again.\n"
		       "Left:\n", id);
		for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
			printf("  to undo: %s\n", line);
		return 0;
	}
	o = json_object_new_object();
	left = json_object_new_array();
	for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
		json_object_array_add(left, json_object_new_string(line));
	json_object_object_add(o, "state", json_object_new_string("interrupted"));
	json_object_object_add(o, "id", json_object_new_string(id));
	json_object_object_add(o, "left", left);
	report_print_json(o);
	return 0;
}

int command_status(const struct options *opt)
{
	_cleanup_(manifest_freep) struct manifest *m = NULL;
	bool finished = false;
	int r;

	if (print_running(opt->json) == 0)
		return EXIT_SUCCESS;
	if (print_interrupted(opt->json) == 0)
		return EXIT_FAILURE;
	r = manifest_load(AT_FDCWD, RUN_MANIFEST, &m);
	if (r == -ENOENT) {
		finished = true;
		r = manifest_load(AT_FDCWD, LAST_REPORT, &m);
	}
	if (r == -ENOENT) {
		printf(opt->json ? "{ \"state\": \"none\" }\n" :
		       "There has been no upgrade on this machine.\n");
		return EXIT_SUCCESS;
	}
	if (r < 0) {
		fprintf(stderr, "crkexec: the report cannot be read: %s\n",
			*log_first_error() ? log_first_error() : strerror(-r));
		return EXIT_FAILURE;
	}
	print(m, opt->json, finished);
	return status_exit(m);
}

/* The logs of the new kernel's side, beside the old one's: /run/crkexec is emptied afterwards. */
static void keep_log(const char *id, const char *name)
{
	_cleanup_free_ char *from = str_fmt("%s/%s.log", CRKEXEC_RUN_DIR, name), *text = NULL;
	_cleanup_free_ char *to = str_fmt("%s/%s-%s.log", CRKEXEC_LOG_DIR, id, name);
	_cleanup_close_ int fd = -EBADF;
	size_t n;

	if (!from || !to || read_file_at(AT_FDCWD, from, 16u << 20, &text, &n) < 0 ||
	    make_dirs(CRKEXEC_LOG_DIR) < 0)
		return;
	fd = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || write_full(fd, text, n) < 0)
		log_err(neg_errno(), "cannot write %s", to);
}

/* udev is still at work this early. */
static void check_memory(struct manifest *m)
{
	uint64_t missing = pmem_wait_returned(m, MEMORY_TIMEOUT_MSEC);

	if (missing)
		(void)!manifest_add_warning(m, "%llu MiB of memory that the images were in were not "
					    "given back (module kmem): missing until the next boot",
					    (unsigned long long)(missing >> 20));
}

int command_finish(void)
{
	_cleanup_(manifest_freep) struct manifest *m = NULL;
	_cleanup_close_ int dirfd = -EBADF;
	_cleanup_free_ char *name = NULL;
	int r = manifest_load(AT_FDCWD, RUN_MANIFEST, &m);

	if (r == -ENOENT) {
		fprintf(stderr, "crkexec: there is no upgrade to finish\n");
		return EXIT_FAILURE;
	}
	if (r == 0) {
		check_memory(m);
		packet_filter_remove(m);
	}
	if (r == 0)
		r = make_dirs(CRKEXEC_STATE_DIR);
	if (r == 0) {
		dirfd = open(CRKEXEC_STATE_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		name = str_fmt("%s.json", m->id);
		r = dirfd < 0 ? neg_errno() : !name ? -ENOMEM : manifest_save(m, dirfd, name);
	}
	if (r == 0)
		r = manifest_save(m, dirfd, LAST_NAME);
	if (r < 0) {
		fprintf(stderr, "crkexec: the report could not be written to %s: %s\n",
			CRKEXEC_STATE_DIR, strerror(-r));
		return EXIT_FAILURE;
	}
	keep_log(m->id, "early");
	keep_log(m->id, "adopt");
	r = logs_trim_state(CRKEXEC_STATE_DIR, m->id);
	if (r < 0)
		log_err(r, "cannot remove old reports and images from %s", CRKEXEC_STATE_DIR);
	report_manifest_text(m, stdout);
	return EXIT_SUCCESS;
}
