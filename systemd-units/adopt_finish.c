/*
 * After all units are adopted: `--finish` notes it in the manifest, `--cleanup` gives the units
 * their own settings back (one daemon-reload, for which the generator finds nothing any more)
 * and empties /run/crkexec. By then systemd-tmpfiles has done its work of the boot.
 *
 * Units of Type=dbus keep their drop-in until the next boot (generator_dropin.c says why): the
 * manifest stays for them. So do images that found no place on disk: the report says that they are here.
 */
#include "systemd-units/adopt.h"

#include <dirent.h>
#include <fcntl.h>
#include <spawn.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "crkexec/manifest.h"
#include "util/io.h"
#include "util/log.h"

#define MANIFEST	CRKEXEC_RUN_DIR "/manifest.json"
#define DEPTH_MAX	16

extern char **environ;

int adopt_run(const char *const argv[])
{
	int status, r;
	pid_t pid;

	r = posix_spawnp(&pid, argv[0], NULL, NULL, (char *const *)argv, environ);
	if (r)
		return log_err(-r, "cannot run %s", argv[0]);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return neg_errno();
	if (status)
		return log_fail(-EIO, "%s %s failed (wait status 0x%x)", argv[0],
				argv[1] ? argv[1] : "", (unsigned int)status);
	return 0;
}

int adopt_mark(const char *unit, const char *text)
{
	_cleanup_free_ char *path = str_fmt(ADOPTED_DIR "/%s", unit);
	_cleanup_close_ int fd = -EBADF;
	int r;

	if (!path)
		return -ENOMEM;
	if (mkdir(ADOPTED_DIR, 0755) < 0 && errno != EEXIST)
		return log_err(neg_errno(), "cannot make " ADOPTED_DIR);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd < 0)
		return log_err(neg_errno(), "cannot make %s", path);
	r = write_full(fd, text, strlen(text));
	return r < 0 ? log_err(r, "cannot write %s", path) : 0;
}

static void settle(struct manifest *m, struct manifest_unit *u)
{
	_cleanup_free_ char *path = str_fmt(ADOPTED_DIR "/%s", u->name);
	_cleanup_free_ char *text = NULL;
	int r;

	if (u->outcome != OUTCOME_RESTORED || !path)
		return;
	r = read_file_at(AT_FDCWD, path, 4096, &text, NULL);
	if (r < 0) {
		(void)!manifest_add_warning(m, "%s was restored but systemd did not take it over:"
					    " see systemctl status %s", u->name, u->name);
		return;
	}
	text[strcspn(text, "\n")] = '\0';
	if (!str_starts(text, "cold")) {
		u->outcome = OUTCOME_ADOPTED;
		return;
	}
	u->outcome = OUTCOME_COLD;
	free(u->reason);
	u->reason = strdup(text[4] == ' ' ? text + 5 : text);
}

int adopt_finish(void)
{
	_cleanup_(manifest_freep) struct manifest *m = NULL;
	int r = manifest_load(AT_FDCWD, MANIFEST, &m);

	if (r < 0)
		return log_err(r, "cannot read " MANIFEST);
	for (size_t i = 0; i < m->n_units; i++)
		settle(m, &m->units[i]);
	r = manifest_save(m, AT_FDCWD, MANIFEST);
	return r < 0 ? log_err(r, "cannot write " MANIFEST) : 0;
}

static bool is_one_of(const char *name, const char *const *names)
{
	for (; *names; names++)
		if (!strcmp(name, *names))
			return true;
	return false;
}

static void empty_dir(int fd, const char *const *keep, int depth)
{
	static const char *const none[] = { NULL };
	DIR *dir = depth < DEPTH_MAX ? fdopendir(fd) : NULL;
	struct dirent *de;

	if (!dir) {
		close(fd);
		return;
	}
	while ((de = readdir(dir))) {
		if (!strcmp(de->d_name, ".") || !strcmp(de->d_name, "..") || is_one_of(de->d_name, keep))
			continue;
		if (de->d_type == DT_DIR) {
			int sub = openat(fd, de->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC |
					 O_NOFOLLOW);

			if (sub >= 0)
				empty_dir(sub, none, depth + 1);
		}
		unlinkat(fd, de->d_name, de->d_type == DT_DIR ? AT_REMOVEDIR : 0);
	}
	closedir(dir);
}

static bool keeps_dropins(void)
{
	_cleanup_(manifest_freep) struct manifest *m = NULL;

	if (manifest_load(AT_FDCWD, MANIFEST, &m) < 0)
		return false;
	for (size_t i = 0; i < m->n_units; i++)
		if (!strcmp(m->units[i].type, "dbus") && m->units[i].outcome == OUTCOME_ADOPTED)
			return true;
	return false;
}

int adopt_cleanup(void)
{
	const char *const reload[] = { "systemctl", "daemon-reload", NULL };
	const char *const kept[] = { "failed", keeps_dropins() ? "manifest.json" : NULL, NULL };
	int fd = open(CRKEXEC_RUN_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	adopt_tmp();
	if (fd < 0)
		return errno == ENOENT ? 0 : log_err(neg_errno(), "cannot open " CRKEXEC_RUN_DIR);
	empty_dir(fd, kept, 0);
	/* If nothing is kept. */
	rmdir(CRKEXEC_RUN_DIR);
	return adopt_run(reload);
}
