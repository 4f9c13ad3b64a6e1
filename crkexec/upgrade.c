#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>

#include "crkexec/paths.h"
#include "crkexec/predump.h"
#include "crkexec/upgrade.h"
#include "util/io.h"
#include "util/log.h"

int upgrade_problem(struct upgrade *u, int r, const char *unit, const char *remedy,
		    const char *fmt, ...)
{
	struct obstacle *o = reallocarray(u->obstacles, u->n_obstacles + 1, sizeof(*o));
	char what[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	log_fail(r, "%s%s%s%s%s%s", unit ? unit : "", unit ? ": " : "", what, remedy ? " (" : "",
		 remedy ? remedy : "", remedy ? ")" : "");
	if (o) {
		u->obstacles = o;
		o += u->n_obstacles++;
		*o = (struct obstacle){ .unit = unit ? strdup(unit) : NULL, .what = strdup(what),
					.remedy = remedy ? strdup(remedy) : NULL };
	}
	if (!u->opt->json) {
		progress_line(&u->progress, "crkexec: %s%s%s", unit ? unit : "", unit ? ": " : "", what);
		if (remedy)
			progress_line(&u->progress, "         %s", remedy);
	}
	return r;
}

void upgrade_warn(struct upgrade *u, const char *fmt, ...)
{
	_cleanup_free_ char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	va_end(ap);
	if (!text)
		return;
	for (size_t i = 0; i < u->m->n_warnings; i++)
		if (!strcmp(u->m->warnings[i], text))
			return;
	log_warn("%s", text);
	if (manifest_add_warning(u->m, "%s", text) < 0)
		log_warn("(not in the report: out of memory)");
}

int upgrade_wait_fd(struct upgrade *u, int fd, short events, int timeout_msec)
{
	struct pollfd p[2] = {
		{ .fd = u->life_fd, .events = POLLIN },
		{ .fd = fd, .events = events },
	};
	int r = poll(p, 2, timeout_msec);

	if (r < 0)
		return errno == EINTR ? 0 : neg_errno();
	if (p[0].revents)
		return -ECANCELED;
	return p[1].revents != 0;
}

int upgrade_check_stop(struct upgrade *u)
{
	int r = upgrade_wait_fd(u, -1, 0, 0);

	return r < 0 ? r : 0;
}

static int read_boot_id(char **ret)
{
	int r = read_file_at(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 128, ret, NULL);

	if (r == 0)
		(*ret)[strcspn(*ret, "\n")] = '\0';
	return r;
}

int upgrade_init(struct upgrade *u, const struct options *opt, const char *id, int life_fd)
{
	struct utsname un;

	*u = (struct upgrade){
		.opt = opt, .life_fd = life_fd, .run_dirfd = -EBADF, .log_fd = -EBADF,
		.journal_fd = -EBADF, .initrd_fd = -EBADF, .undo = UNDO_LOG_INIT,
	};
	progress_init(&u->progress, STDERR_FILENO);
	u->m = manifest_new();
	if (!u->m || uname(&un) < 0)
		return -ENOMEM;
	u->m->id = strdup(id);
	u->m->kernel_from = strdup(un.release);
	u->run_dir = str_fmt("%s/%s", CRKEXEC_RUN_DIR, id);
	if (!u->m->id || !u->m->kernel_from || !u->run_dir)
		return -ENOMEM;
	u->run_dirfd = open(u->run_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (u->run_dirfd < 0)
		return log_err(neg_errno(), "cannot open %s", u->run_dir);
	return read_boot_id(&u->m->boot_id_from);
}

void upgrade_done(struct upgrade *u)
{
	pre_dumps_done(u);
	for (size_t i = 0; i < u->n_units; i++)
		unit_free(u->units[i]);
	free(u->units);
	for (size_t i = 0; i < u->n_obstacles; i++) {
		free(u->obstacles[i].unit);
		free(u->obstacles[i].what);
		free(u->obstacles[i].remedy);
	}
	free(u->obstacles);
	store_done(&u->store);
	target_done(&u->target);
	strv_done(&u->module_paths);
	strv_done(&u->firmware_paths);
	strv_done(&u->late_addresses);
	strv_done(&u->late_interfaces);
	strv_done(&u->to_stop);
	strv_done(&u->stopped);
	strv_done(&u->kept);
	free(u->cmdline);
	free(u->jump_error);
	close_fdp(&u->journal_fd);
	close_fdp(&u->initrd_fd);
	free(u->run_dir);
	manifest_free(u->m);
	sd_bus_unref(u->bus);
	undo_close(&u->undo);
	close_fdp(&u->run_dirfd);
}
