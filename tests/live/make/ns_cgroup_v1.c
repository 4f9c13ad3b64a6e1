/*
 * A process in a group of its own in every hierarchy of cgroup v1 that there is, with the settings of their
 * controllers, and in a named one that nobody has mounted; a thread of it in a group below that.
 *
 * The lines "group NAME PATH" of its log say which groups: the runner may take them away meanwhile.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <limits.h>
#include <linux/mount.h>
#include <pthread.h>

#include "maker.h"

#define HIERARCHIES_MAX	32

static const struct setting {
	const char *controller, *file, *text;	/* text of several lines: written one by one */
} settings[] = {
	{ "cpu", "cpu.shares", "512" },
	{ "cpu", "cpu.cfs_period_us", "50000" },
	{ "cpu", "cpu.cfs_quota_us", "25000" },
	{ "cpuset", "cpuset.cpus", "0" },
	{ "cpuset", "cpuset.mems", "0" },
	{ "cpuset", "cpuset.memory_migrate", "1" },
	{ "memory", "memory.limit_in_bytes", "1073741824" },
	{ "memory", "memory.memsw.limit_in_bytes", "2147483648" },
	{ "memory", "memory.soft_limit_in_bytes", "536870912" },
	{ "memory", "memory.swappiness", "33" },
	{ "pids", "pids.max", "77" },
	{ "net_cls", "net_cls.classid", "1048577" },
	{ "hugetlb", "hugetlb.2MB.limit_in_bytes", "4194304" },
	{ "freezer", "notify_on_release", "1" },
};

/* What v1 alone has, so that nobody misses it while it is mounted. */
static const char *const can_be_made[] = { "freezer", "devices", "net_cls,net_prio" };
#define N_CAN_BE_MADE	(sizeof(can_be_made) / sizeof(*can_be_made))
static bool made[N_CAN_BE_MADE];

static struct hierarchy {
	char name[64];
	int fd, group;
} hiers[HIERARCHIES_MAX];
static int n_hiers;
static char name[64], named[80];
static pid_t thread_id;

static int mount_hierarchy(const char *what)
{
	int fs = (int)syscall(SYS_fsopen, "cgroup", 0), fd = -1, error;
	char words[64], *save = NULL, *w;
	long r = 0;

	if (fs < 0)
		return -1;
	snprintf(words, sizeof(words), "%s", what);
	if (!strncmp(what, "name=", 5))
		r = syscall(SYS_fsconfig, fs, FSCONFIG_SET_FLAG, "none", NULL, 0) |
		    syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "name", what + 5, 0);
	else
		for (w = strtok_r(words, ",", &save); w; w = strtok_r(NULL, ",", &save))
			r |= syscall(SYS_fsconfig, fs, FSCONFIG_SET_FLAG, w, NULL, 0);
	if (!r && !syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0))
		fd = (int)syscall(SYS_fsmount, fs, 0, 0);
	error = errno;
	close(fs);
	errno = error;
	return fd;
}

static bool has_word(const char *list, const char *word)
{
	size_t n = strlen(word);

	for (const char *s = list; s; s = strchr(s, ',')) {
		s += *s == ',';
		if (!strncmp(s, word, n) && (!s[n] || s[n] == ','))
			return true;
	}
	return false;
}

static bool is_there(const char *hierarchy)
{
	char text[4096], line[80];

	maker_read_proc(getpid(), "cgroup", text, sizeof(text));
	snprintf(line, sizeof(line), ":%s:", hierarchy);
	return strstr(text, line);
}

static void open_hierarchy(const char *what)
{
	struct hierarchy *h = &hiers[n_hiers];

	MAKER_MUST(n_hiers < HIERARCHIES_MAX);
	h->fd = mount_hierarchy(what);
	if (h->fd < 0)
		return;
	snprintf(h->name, sizeof(h->name), "%s", what);
	h->group = -1;
	n_hiers++;
}

static void open_all(void)
{
	char text[4096], *save = NULL, *line;

	for (size_t i = 0; i < N_CAN_BE_MADE; i++) {
		if (is_there(can_be_made[i]))
			continue;
		open_hierarchy(can_be_made[i]);
		made[i] = is_there(can_be_made[i]);
	}
	maker_read_proc(getpid(), "cgroup", text, sizeof(text));
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char what[64] = "";
		bool known = false;

		if (sscanf(line, "%*d:%63[^:]:", what) != 1)
			continue;
		for (int i = 0; i < n_hiers; i++)
			known |= !strcmp(hiers[i].name, what);
		if (!known)
			open_hierarchy(what);
	}
	open_hierarchy(named);
}

static void close_all(void)
{
	for (int i = 0; i < n_hiers; i++) {
		close(hiers[i].fd);
		if (hiers[i].group >= 0)
			close(hiers[i].group);
	}
	n_hiers = 0;
}

static void put(int dir, const char *file, const char *text)
{
	int fd = openat(dir, file, O_WRONLY);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		maker_fail("%s: %s: %s", file, text, strerror(errno));
	close(fd);
}

static void get(int dir, const char *file, char *text, size_t room)
{
	int fd = openat(dir, file, O_RDONLY);
	ssize_t n = fd < 0 ? -1 : read(fd, text, room - 1);

	if (n < 0)
		maker_fail("%s: %s", file, strerror(errno));
	close(fd);
	text[n] = '\0';
	if (n && text[n - 1] == '\n')
		text[n - 1] = '\0';
}

static void expect(int dir, const char *file, const char *should)
{
	char text[4096];

	get(dir, file, text, sizeof(text));
	if (strcmp(text, should))
		maker_fail("%s is %s, not %s", file, text, should);
}

/* Two limits, one for each of two disks; "" on a machine without. */
static const char *throttle(void)
{
	static char text[128];
	DIR *d = opendir("/sys/block");
	struct dirent *e;
	int found = 0;

	*text = '\0';
	while (d && found < 2 && (e = readdir(d))) {
		char path[300], dev[32] = "";
		int fd;

		snprintf(path, sizeof(path), "/sys/block/%.200s/dev", e->d_name);
		fd = e->d_name[0] == '.' ? -1 : open(path, O_RDONLY);
		if (fd < 0)
			continue;
		if (read(fd, dev, sizeof(dev) - 1) > 0)
			snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%.*s %d",
				 found ? "\n" : "", (int)strcspn(dev, "\n"), dev, 1 << (20 + found));
		found += !!*dev;
		close(fd);
	}
	if (d)
		closedir(d);
	return text;
}

/* What is set line by line: the write of each, or that all are there. */
static void each_line(int dir, const char *file, const char *lines, bool check)
{
	char copy[256], now[4096] = "", *save = NULL;

	snprintf(copy, sizeof(copy), "%s", lines);
	if (check)
		get(dir, file, now, sizeof(now));
	for (char *s = strtok_r(copy, "\n", &save); s; s = strtok_r(NULL, "\n", &save)) {
		if (!check)
			put(dir, file, s);
		else if (!strstr(now, s))
			maker_fail("%s lacks %s: %s", file, s, now);
	}
}

static void special(const struct hierarchy *h, bool check)
{
	if (has_word(h->name, "blkio"))
		each_line(h->group, "blkio.throttle.read_bps_device", throttle(), check);
	if (has_word(h->name, "net_prio"))
		each_line(h->group, "net_prio.ifpriomap", "lo 5", check);
	if (has_word(h->name, "devices") && check) {
		expect(h->group, "devices.list", "c *:* rwm\nb 8:* r");
	} else if (has_word(h->name, "devices")) {
		put(h->group, "devices.deny", "a");
		put(h->group, "devices.allow", "c *:* rwm");
		put(h->group, "devices.allow", "b 8:* r");
	}
	if (has_word(h->name, "memory") && check) {
		char text[256];

		get(h->group, "memory.oom_control", text, sizeof(text));
		if (!strstr(text, "oom_kill_disable 1"))
			maker_fail("memory.oom_control is %s", text);
	} else if (has_word(h->name, "memory")) {
		put(h->group, "memory.oom_control", "1");
	}
}

static void each_setting(const struct hierarchy *h, bool check)
{
	for (size_t i = 0; i < sizeof(settings) / sizeof(*settings); i++) {
		const struct setting *s = &settings[i];

		if (!has_word(h->name, s->controller) || faccessat(h->group, s->file, F_OK, 0) < 0)
			continue;
		if (check)
			expect(h->group, s->file, s->text);
		else
			put(h->group, s->file, s->text);
	}
	special(h, check);
}

static void check_owner(int dir)
{
	struct stat st;

	MAKER_MUST(!fstat(dir, &st));
	MAKER_SAME("the group's mode", st.st_mode & 07777, 0750);
	MAKER_SAME("the group's owner", st.st_uid, 1234);
}

static void make_groups(void)
{
	char pid[16];

	snprintf(pid, sizeof(pid), "%d", getpid());
	for (int i = 0; i < n_hiers; i++) {
		struct hierarchy *h = &hiers[i];

		MAKER_MUST(!mkdirat(h->fd, name, 0755));
		h->group = openat(h->fd, name, O_PATH | O_DIRECTORY);
		MAKER_MUST(h->group >= 0);
		each_setting(h, false);
		MAKER_MUST(!fchownat(h->fd, name, 1234, 0, 0) && !fchmodat(h->fd, name, 0750, 0));
		put(h->group, "cgroup.procs", pid);
		maker_log("group %s /%s", h->name, name);
	}
	snprintf(pid, sizeof(pid), "%d", thread_id);
	MAKER_MUST(!mkdirat(hiers[n_hiers - 1].group, "thread", 0755));
	put(hiers[n_hiers - 1].group, "thread/tasks", pid);
	maker_log("group %s /%s/thread", named, name);
}

static void expect_member(const char *task, const char *hierarchy, const char *group)
{
	char text[4096], line[200];

	maker_read_proc(getpid(), task, text, sizeof(text));
	snprintf(line, sizeof(line), ":%s:%s\n", hierarchy, group);
	if (!strstr(text, line))
		maker_fail("%s does not say %.180s but: %.600s", task, line, text);
}

static void check_all(void)
{
	char task[40], group[80], inner[90];

	snprintf(group, sizeof(group), "/%s", name);
	snprintf(inner, sizeof(inner), "%s/thread", group);
	snprintf(task, sizeof(task), "task/%d/cgroup", thread_id);
	for (int i = 0; i < n_hiers; i++) {
		struct hierarchy *h = &hiers[i];

		expect_member("cgroup", h->name, group);
		expect_member(task, h->name, strcmp(h->name, named) ? group : inner);
		h->group = openat(h->fd, name, O_PATH | O_DIRECTORY);
		MAKER_MUST(h->group >= 0);
		each_setting(h, true);
		check_owner(h->group);
	}
}

static void *sleeper(void *arg)
{
	__atomic_store_n((pid_t *)arg, (pid_t)syscall(SYS_gettid), __ATOMIC_RELEASE);
	for (;;)
		pause();
	return NULL;
}

/* One that only we had goes with its last mount, if its groups are gone by then. */
static void unmake(const char *what)
{
	for (int try = 0; try < 400 && is_there(what); try++) {
		close(mount_hierarchy(what));
		usleep(5000);
	}
}

static void clean_up(void)
{
	char pid[16], inner[80];

	snprintf(pid, sizeof(pid), "%d", getpid());
	snprintf(inner, sizeof(inner), "%s/thread", name);
	for (int i = 0; i < n_hiers; i++) {
		put(hiers[i].fd, "cgroup.procs", pid);
		unlinkat(hiers[i].fd, inner, AT_REMOVEDIR);
		for (int try = 0; try < 400 && unlinkat(hiers[i].fd, name, AT_REMOVEDIR) < 0 &&
				  errno != ENOENT; try++)
			usleep(5000);
	}
	close_all();
	unmake(named);
	for (size_t i = 0; i < N_CAN_BE_MADE; i++)
		if (made[i])
			unmake(can_be_made[i]);
}

int main(int argc, char **argv)
{
	pthread_t t;

	maker_begin(argc, argv);
	snprintf(name, sizeof(name), "crk-v1-%d", maker_number());
	snprintf(named, sizeof(named), "name=%s", name);
	open_all();
	if (!n_hiers)
		maker_skip("no cgroup v1: %s", strerror(errno));
	MAKER_MUST(!pthread_create(&t, NULL, sleeper, &thread_id));
	while (!__atomic_load_n(&thread_id, __ATOMIC_ACQUIRE))
		usleep(1000);
	make_groups();
	close_all();
	maker_ready();
	maker_wait();

	open_all();
	check_all();
	clean_up();
	maker_ok();
}
