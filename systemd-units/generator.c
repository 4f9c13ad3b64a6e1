/*
 * crkexec-generator: run by systemd at boot and at each daemon-reload. After an upgrade it
 * gives each restored unit a drop-in that turns its start into an adoption, and pulls in
 * crkexec-finish.service; at all other times it finds no manifest and ends.
 *
 * systemd.generator(7): nothing may be asked of systemd here, and nothing is writable but the
 * directories of the arguments. Errors go to the kernel log.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "systemd-units/generator.h"
#include "util/io.h"
#include "util/log.h"

#define MANIFEST	CRKEXEC_RUN_DIR "/manifest.json"
#define FINISH		"crkexec-finish.service"

static FILE *open_dropin(const char *dir, const char *unit)
{
	_cleanup_free_ char *sub = str_fmt("%s/%s.d", dir, unit);
	_cleanup_free_ char *path = str_fmt("%s/%s.d/zzz-crkexec.conf", dir, unit);
	FILE *f;

	if (!sub || !path)
		return NULL;
	if (mkdir(sub, 0755) < 0 && errno != EEXIST) {
		log_err(neg_errno(), "cannot make %s", sub);
		return NULL;
	}
	f = fopen(path, "wxe");
	if (!f)
		log_err(neg_errno(), "cannot make %s", path);
	return f;
}

static int close_written(FILE *f)
{
	int bad = ferror(f);

	return fclose(f) || bad ? log_fail(-EIO, "cannot write a drop-in") : 0;
}

static enum adoption read_adoption(const char *unit)
{
	_cleanup_free_ char *path = str_fmt(CRKEXEC_RUN_DIR "/adopted/%s", unit);
	_cleanup_free_ char *text = NULL;

	if (!path || read_file_at(AT_FDCWD, path, 4096, &text, NULL) < 0)
		return ADOPTION_NONE;
	return adoption_from_text(text);
}

static int generate_unit(const char *dir, const struct manifest_unit *u)
{
	FILE *f;

	if (!generator_wants(u, read_adoption(u->name)))
		return 0;
	f = open_dropin(dir, u->name);
	if (!f)
		return -EIO;
	generator_write_dropin(f, u);
	return close_written(f);
}

static int generate_finish(const char *dir, const struct manifest *m)
{
	_cleanup_free_ char *wants = str_fmt("%s/multi-user.target.wants", dir);
	_cleanup_free_ char *link = str_fmt("%s/multi-user.target.wants/" FINISH, dir);
	FILE *f;

	if (!wants || !link)
		return -ENOMEM;
	if ((mkdir(wants, 0755) < 0 && errno != EEXIST) ||
	    symlink("/usr/lib/systemd/system/" FINISH, link) < 0)
		return log_err(neg_errno(), "cannot make %s", link);
	f = open_dropin(dir, FINISH);
	if (!f)
		return -EIO;
	generator_write_finish(f, m);
	return close_written(f);
}

int main(int argc, char **argv)
{
	_cleanup_(manifest_freep) struct manifest *m = NULL;
	int kmsg, r;

	if (access(MANIFEST, F_OK) < 0)
		return 0;
	if (argc < 2) {
		fprintf(stderr, "usage: %s NORMAL-DIR [EARLY-DIR LATE-DIR]\n", argv[0]);
		return 2;
	}
	kmsg = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	log_init(LOGLEVEL_WARN, kmsg);
	r = manifest_load(AT_FDCWD, MANIFEST, &m);
	if (r < 0)
		return 1;
	for (size_t i = 0; i < m->n_units; i++)
		if (generate_unit(argv[1], &m->units[i]) < 0)
			r = -EIO;
	if (generate_finish(argv[1], m) < 0)
		r = -EIO;
	return r < 0;
}
