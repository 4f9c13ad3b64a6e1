/*
 * The end of the early program: what became of each unit is left for the generator, the
 * adoption helper and `crkexec status`; images of failed units are kept; the initramfs is
 * emptied; the real init takes over.
 */
#include "initramfs/early_store.h"

#include <dirent.h>
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <time.h>

#include "util/io.h"
#include "util/log.h"

#define TMPFILES	"/run/tmpfiles.d"
#define DEPTH_MAX	32

/* A path that tmpfiles would split or expand cannot be excluded by name. */
static bool is_plain(const char *path)
{
	return !strpbrk(path, " \t%\"\\*?[");
}

/* Private directories of units are named for a boot id; theirs are of the last boot. */
static int add_private_dirs(FILE *f, const struct manifest_unit *u)
{
	static const char *const tops[] = { "/tmp", "/var/tmp" };
	int n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(tops); i++) {
		_cleanup_free_ char *pattern = str_fmt("%s/systemd-private-*-%s-*", tops[i],
						       u->name);
		glob_t found;

		if (!pattern || !is_plain(u->name) || glob(pattern, GLOB_NOSORT, NULL, &found))
			continue;
		for (size_t k = 0; k < found.gl_pathc; k++, n++)
			fprintf(f, "x %s\n", found.gl_pathv[k]);
		globfree(&found);
	}
	return n;
}

static int add_carried(FILE *f, const struct manifest_unit *u)
{
	int n = 0;

	for (size_t i = 0; i < u->n_carries; i++) {
		const char *p = u->carries[i].path;

		if ((str_starts(p, "/tmp/") || str_starts(p, "/var/tmp/")) && is_plain(p))
			n += fprintf(f, "x %s\n", p) > 0;
	}
	return n;
}

static bool removes_private_dirs(const char *line)
{
	return *line == 'R' && (strstr(line, " /tmp/systemd-private-") ||
				strstr(line, " /var/tmp/systemd-private-"));
}

/*
 * systemd's own settings have an R! line for private directories of earlier boots, which x lines do
 * not hold back (tmpfiles.d(5)). A file of the same name in /run without that line takes their
 * place, while systemd boots: that is when R! lines act.
 */
static int override_removal(const char *name)
{
	_cleanup_free_ char *from = str_fmt("/usr/lib/tmpfiles.d/%s", name);
	_cleanup_free_ char *to = str_fmt(TMPFILES "/%s", name);
	_cleanup_free_ char *text = NULL, *kept = NULL;
	char *save = NULL, *end;
	bool found = false;
	FILE *f;
	int r;

	if (!from || !to)
		return -ENOMEM;
	r = read_file_at(AT_FDCWD, from, 1u << 20, &text, NULL);
	if (r < 0)
		return r == -ENOENT ? 0 : log_err(r, "cannot read %s", from);
	kept = end = calloc(1, strlen(text) + 2);
	if (!kept)
		return -ENOMEM;
	for (char *s = strtok_r(text, "\n", &save); s; s = strtok_r(NULL, "\n", &save)) {
		if (removes_private_dirs(s))
			found = true;
		else
			end += sprintf(end, "%s\n", s);
	}
	if (!found)
		return 0;
	f = fopen(to, "we");
	if (!f)
		return neg_errno();
	fprintf(f, CRKEXEC_TMPFILES_MARK " from %s\n%s", from, kept);
	return fclose(f) ? neg_errno() : 0;
}

/*
 * tmpfiles empties /tmp and removes private directories of earlier boots: not those that
 * restored processes use. What is written here goes when the units are adopted (adopt_tmp.c).
 */
static int write_tmpfiles(const struct manifest *m)
{
	_cleanup_fclose_ FILE *f = NULL;
	int n = 0, r;

	if (mkdir(TMPFILES, 0755) < 0 && errno != EEXIST)
		return neg_errno();
	f = fopen(TMPFILES "/crkexec.conf", "we");
	if (!f)
		return neg_errno();
	fputs(CRKEXEC_TMPFILES_MARK ": restored processes use these.\n", f);
	for (size_t i = 0; i < m->n_units; i++)
		if (m->units[i].outcome == OUTCOME_RESTORED)
			n += add_private_dirs(f, &m->units[i]) + add_carried(f, &m->units[i]);
	if (!n) {
		unlink(TMPFILES "/crkexec.conf");
		return 0;
	}
	/* The first since systemd 254 or so, the second before. */
	r = override_removal("systemd-tmp.conf");
	if (r >= 0)
		r = override_removal("tmp.conf");
	return r < 0 ? r : fflush(f) ? neg_errno() : 0;
}

static int keep_tree(struct early *e, const char *base, const struct manifest_tree *t)
{
	_cleanup_free_ char *path = str_fmt("%s/%s", base, t->dir);
	_cleanup_close_ int to = -EBADF;
	mode_t old;
	int r;

	if (!path)
		return -ENOMEM;
	/* The directories above as well: images are root's only. */
	old = umask(077);
	r = early_mkdirs(path, 0700);
	umask(old);
	if (r < 0)
		return r;
	to = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (to < 0)
		return neg_errno();
	return early_images_keep(e, t, to);
}

/*
 * Images are for looking into; what starts cold needs the room more. /run is memory: at most
 * half of what is free there and on disk.
 */
static int room_for(const struct manifest_unit *u, const char *base)
{
	uint64_t bytes = u->image_bytes + manifest_pre_dump_bytes(u), free_bytes;
	struct statvfs v;

	if (statvfs(base, &v) < 0)
		return neg_errno();
	free_bytes = (uint64_t)v.f_bavail * v.f_frsize;
	if (bytes > free_bytes / 2)
		return log_fail(-ENOSPC, "%" PRIu64 " bytes of images, %" PRIu64 " bytes free", bytes,
				free_bytes);
	return 0;
}

/* Half a copy is of no use to anybody. */
static void drop_images(const char *base, const struct manifest_unit *u)
{
	_cleanup_close_ int fd = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	struct stat st;

	if (fd >= 0 && fstat(fd, &st) == 0)
		early_remove_at(fd, u->name, st.st_dev, 0);
	/* If there are none of other units. */
	rmdir(base);
}

/* To disk when that is writable, else to /run; the reason says where. */
static void keep_images(struct early *e, struct manifest_unit *u)
{
	static const char *const places[] = { CRKEXEC_STATE_DIR, CRKEXEC_RUN_DIR };

	for (size_t p = 0; p < ARRAY_SIZE(places); p++) {
		_cleanup_free_ char *top = str_fmt("%s/failed", places[p]);
		_cleanup_free_ char *base = str_fmt("%s/failed/%s", places[p], e->manifest->id);
		char *reason = NULL;
		int r = top && base ? early_mkdirs(places[p], 0700) : -ENOMEM;

		if (r == 0)
			r = early_mkdirs(top, 0700);

		if (r == 0)
			r = early_mkdirs(base, 0700);
		if (r == 0)
			r = room_for(u, base);
		for (size_t i = 0; i < u->n_trees && r == 0; i++)
			r = keep_tree(e, base, &u->trees[i]);
		if (r < 0) {
			log_err(r, "cannot keep the images of %s in %s", u->name, places[p]);
			if (base)
				drop_images(base, u);
			continue;
		}
		reason = str_fmt("%s; images kept in %s/%s", u->reason ? u->reason : "?", base,
				 u->name);
		if (reason) {
			free(u->reason);
			u->reason = reason;
		}
		return;
	}
}

void early_mark_cold(struct manifest_unit *u, const char *fmt, ...)
{
	va_list ap;

	u->outcome = OUTCOME_COLD;
	if (u->reason)
		return;
	va_start(ap, fmt);
	if (vasprintf(&u->reason, fmt, ap) < 0)
		u->reason = NULL;
	va_end(ap);
}

static void settle_unit(struct early *e, struct manifest_unit *u)
{
	if (u->outcome == OUTCOME_PENDING) {
		early_mark_cold(u, "%s", *e->reason ? e->reason : "the restore was never reached");
		early_say("%s will start cold: %s", u->name, u->reason ? u->reason : "");
	}
	/* Streamed writes of a unit that is gone lead nowhere. */
	if (u->outcome == OUTCOME_COLD) {
		_cleanup_free_ char *out = str_fmt(CRKEXEC_RUN_DIR "/%s.out", u->name);

		if (out)
			unlink(out);
		keep_images(e, u);
	}
}

static void add_phase(struct manifest *m, const char *name, uint64_t begin, uint64_t end)
{
	if (manifest_add_phase(m, name, begin, MAX(begin, end)) < 0)
		log_warn("phase %s is missing in the report", name);
}

static int by_begin(const void *a, const void *b)
{
	const struct early_mark *x = a, *y = b;

	return (x->begin_usec > y->begin_usec) - (x->begin_usec < y->begin_usec);
}

/*
 * For the report, in wall-clock time as it is right now: the jump itself, the kernel (and what
 * the distribution's initramfs did), then ours.
 */
static void add_phases(struct early *e)
{
	uint64_t boot = clock_usec(CLOCK_REALTIME) - clock_usec(CLOCK_BOOTTIME);
	struct manifest *m = e->manifest;

	add_phase(m, "jump", m->clock.realtime_nsec / 1000, boot);
	add_phase(m, e->initrd ? "kernel and initramfs" : "kernel", boot, boot + e->begin_usec);
	qsort(e->marks, e->n_marks, sizeof(*e->marks), by_begin);
	for (size_t i = 0; i < e->n_marks; i++)
		add_phase(m, e->marks[i].name, boot + e->marks[i].begin_usec,
			  boot + e->marks[i].end_usec);
}

int early_outcome(struct early *e)
{
	struct manifest *m = e->manifest;
	int r;

	if (!m) {
		early_say("nothing restored: %s", e->reason);
		return 0;
	}
	early_restore_abandon(e);
	for (size_t i = 0; i < m->n_units; i++)
		settle_unit(e, &m->units[i]);
	add_phases(e);
	r = write_tmpfiles(m);
	if (r < 0)
		log_err(r, "cannot write " TMPFILES "/crkexec.conf");
	r = manifest_save(m, AT_FDCWD, CRKEXEC_RUN_DIR "/manifest.json");
	return r < 0 ? log_err(r, "cannot write " CRKEXEC_RUN_DIR "/manifest.json") : 0;
}

/* Frees the memory of the initramfs; what is mounted on it stays. */
static void empty_dir(int fd, dev_t dev, int depth)
{
	DIR *dir = depth < DEPTH_MAX ? fdopendir(fd) : NULL;
	struct dirent *de;

	if (!dir) {
		close(fd);
		return;
	}
	while ((de = readdir(dir))) {
		struct stat st;

		if (!strcmp(de->d_name, ".") || !strcmp(de->d_name, "..") ||
		    fstatat(fd, de->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_dev != dev)
			continue;
		if (S_ISDIR(st.st_mode)) {
			int sub = openat(fd, de->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW |
					 O_CLOEXEC);

			if (sub >= 0)
				empty_dir(sub, dev, depth + 1);
		}
		unlinkat(fd, de->d_name, S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0);
	}
	closedir(dir);
}

static void empty_initramfs(struct early *e)
{
	struct stat st, root;

	/* After a failed move "/" would be the initramfs itself, with the real root below. */
	if (e->rootfs_fd < 0 || fstat(e->rootfs_fd, &st) < 0 || stat("/", &root) < 0 ||
	    st.st_dev == root.st_dev)
		return;
	empty_dir(take_fd(&e->rootfs_fd), st.st_dev, 0);
}

int early_exec_init(struct early *e)
{
	const char *candidates[] = {
		e->cmdline.init, e->manifest ? e->manifest->root_init : NULL,
		"/sbin/init", "/usr/lib/systemd/systemd", "/etc/init", "/bin/init", "/bin/sh",
	};
	sigset_t none;

	empty_initramfs(e);
	/* The kernel makes a variable of every parameter it does not know. */
	unsetenv(CRKEXEC_CMDLINE_KEY);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
	early_say("handing over to the real init, %.3f s after the kernel's start",
		  clock_usec(CLOCK_BOOTTIME) / 1e6);
	for (size_t i = 0; i < ARRAY_SIZE(candidates); i++) {
		if (!candidates[i])
			continue;
		e->argv[0] = (char *)candidates[i];
		execv(candidates[i], e->argv);
		log_err(neg_errno(), "cannot execute %s", candidates[i]);
	}
	early_die(e, "no init found");
}
