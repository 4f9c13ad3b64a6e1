/*
 * A sandbox as systemd builds it for Debian's redis-server.service, without systemd: mount and uts
 * namespaces owned by the initial user namespace, a user namespace inside. Shared by the live
 * makers and the unit tests; NS_MUST(cond) is the includer's.
 */
#ifndef TESTS_LIVE_NS_SANDBOX_H
#define TESTS_LIVE_NS_SANDBOX_H

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#define SANDBOX_UID	101
#define SANDBOX_GID	104

struct sandbox {
	char base[256];		/* on the host: sources of binds */
	char staging[300];
};

static inline void sandbox_mkdir(const char *base, const char *name, mode_t mode)
{
	char path[400];

	snprintf(path, sizeof(path), "%s/%s", base, name);
	NS_MUST(mkdir(path, 0700) == 0 || errno == EEXIST);
	NS_MUST(chmod(path, mode) == 0);
}

static inline void sandbox_file(const char *base, const char *name, mode_t mode, const char *text)
{
	char path[400];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", base, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	NS_MUST(fd >= 0);
	NS_MUST(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	NS_MUST(fchmod(fd, mode) == 0);
	close(fd);
}

/* What the host has for the unit: private directories, things nobody may see. */
static inline void sandbox_host_side(struct sandbox *s, const char *base)
{
	snprintf(s->base, sizeof(s->base), "%s", base);
	sandbox_mkdir(base, "", 0755);
	sandbox_mkdir(base, "tmp", 01777);
	sandbox_mkdir(base, "vartmp", 01777);
	sandbox_mkdir(base, "data", 0750);
	sandbox_mkdir(base, "covered", 0755);
	sandbox_mkdir(base, "covered/below", 0755);
	sandbox_mkdir(base, "two words", 0755);
	sandbox_mkdir(base, "home", 0755);
	sandbox_mkdir(base, "staging", 0755);
	sandbox_mkdir(base, "root", 0755);
	sandbox_mkdir(base, "nothing", 0);
	sandbox_file(base, "nothing.file", 0, "");
	sandbox_file(base, "secret", 0644, "visible\n");
	sandbox_file(base, "tmp/mine", 0600, "private\n");
	sandbox_file(base, "data/dump.rdb", 0660, "REDIS0011");
	snprintf(s->staging, sizeof(s->staging), "%s/data", base);
	NS_MUST(chown(s->staging, SANDBOX_UID, SANDBOX_GID) == 0);
	snprintf(s->staging, sizeof(s->staging), "%s/staging", base);
}

static inline void sandbox_bind(const char *from, const char *to, unsigned long flags)
{
	NS_MUST(mount(from, to, NULL, MS_BIND, NULL) == 0);
	if (flags)
		NS_MUST(mount(NULL, to, NULL, MS_REMOUNT | MS_BIND | flags, NULL) == 0);
}

static inline void sandbox_bind_in(const struct sandbox *s, const char *from, const char *to,
				   unsigned long flags)
{
	char a[400], b[400];

	snprintf(a, sizeof(a), "%s/%s", s->base, from);
	if (*to == '/')
		snprintf(b, sizeof(b), "%s", to);
	else
		snprintf(b, sizeof(b), "%s/%s", s->base, to);
	sandbox_bind(a, b, flags);
}

static inline void sandbox_node(const char *dir, const char *name, mode_t mode, dev_t dev)
{
	char path[400];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	NS_MUST(mknod(path, mode, dev) == 0);
	NS_MUST(chmod(path, mode & 07777) == 0);
}

static inline void sandbox_link(const char *dir, const char *name, const char *target)
{
	char path[400];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	NS_MUST(symlink(target, path) == 0);
}

/* Everything a memory filesystem can hold; what /dev has, and more. */
static inline void sandbox_fill_dev(const char *dev)
{
	char path[400], other[400];
	int fd;

	sandbox_node(dev, "null", S_IFCHR | 0666, makedev(1, 3));
	sandbox_node(dev, "zero", S_IFCHR | 0666, makedev(1, 5));
	sandbox_node(dev, "full", S_IFCHR | 0666, makedev(1, 7));
	sandbox_node(dev, "random", S_IFCHR | 0666, makedev(1, 8));
	sandbox_node(dev, "urandom", S_IFCHR | 0666, makedev(1, 9));
	sandbox_node(dev, "tty", S_IFCHR | 0666, makedev(5, 0));
	sandbox_node(dev, "pipe", S_IFIFO | 0620, 0);
	sandbox_node(dev, "sock", S_IFSOCK | 0666, 0);
	sandbox_link(dev, "fd", "/proc/self/fd");
	sandbox_link(dev, "stdin", "/proc/self/fd/0");
	sandbox_link(dev, "ptmx", "pts/ptmx");
	sandbox_mkdir(dev, "pts", 0755);
	sandbox_mkdir(dev, "shm", 01777);
	sandbox_mkdir(dev, "char", 0755);
	sandbox_link(dev, "char/1:3", "../null");
	sandbox_file(dev, "char/text", 0640, "kept\n");
	snprintf(path, sizeof(path), "%s/char/text", dev);
	snprintf(other, sizeof(other), "%s/linked", dev);
	NS_MUST(link(path, other) == 0);
	NS_MUST(chown(path, SANDBOX_UID, SANDBOX_GID) == 0);
	NS_MUST(setxattr(path, "trusted.kept", "a\0b", 3, 0) == 0);
	snprintf(path, sizeof(path), "%s/sparse", dev);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	NS_MUST(fd >= 0 && pwrite(fd, "end", 3, 3 << 20) == 3);
	close(fd);
}

static inline void sandbox_dev(const struct sandbox *s)
{
	char path[400];

	NS_MUST(mount("tmpfs", s->staging, "tmpfs", MS_NOSUID | MS_STRICTATIME,
		      "mode=0755,size=4m,nr_inodes=1024") == 0);
	sandbox_fill_dev(s->staging);
	snprintf(path, sizeof(path), "%s/pts", s->staging);
	sandbox_bind("/dev/pts", path, MS_NOSUID | MS_NOEXEC);
	snprintf(path, sizeof(path), "%s/shm", s->staging);
	sandbox_bind("/dev/shm", path, MS_NOSUID | MS_NODEV);
	NS_MUST(mount(s->staging, "/dev", NULL, MS_MOVE, NULL) == 0);
	NS_MUST(mount(NULL, "/dev", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NOEXEC,
		      NULL) == 0);
}

static inline void sandbox_proc(void)
{
	NS_MUST(mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC,
		      "hidepid=invisible") == 0);
	sandbox_bind("/proc/sys", "/proc/sys", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC);
	sandbox_bind("/proc/bus", "/proc/bus", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC);
}

static inline void sandbox_binds(const struct sandbox *s)
{
	char path[400];

	sandbox_bind_in(s, "nothing", "/root", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC);
	sandbox_bind_in(s, "nothing.file", "/etc/shadow", MS_RDONLY | MS_NOSUID);
	sandbox_bind("/usr", "/usr", MS_RDONLY | MS_NODEV);
	sandbox_bind("/etc", "/opt", MS_RDONLY);
	sandbox_bind("/var/lib", "/var/lib", MS_NOEXEC | MS_NODIRATIME);
	sandbox_bind("/sys", "/sys", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC);
	snprintf(path, sizeof(path), "%s/home", s->base);
	NS_MUST(mount("empty", path, "tmpfs", MS_NOSUID, "mode=0711,size=64k,uid=7") == 0);
	/* The superblock too. */
	NS_MUST(mount(NULL, path, NULL, MS_REMOUNT | MS_RDONLY, NULL) == 0);
	/* One that will be hidden, then what hides it. */
	sandbox_bind_in(s, "data", "covered/below", 0);
	sandbox_bind_in(s, "vartmp", "covered", MS_NOSUID);
	sandbox_bind_in(s, "data", "data", MS_NODEV);
	snprintf(path, sizeof(path), "%s/data", s->base);
	NS_MUST(mount(NULL, path, NULL, MS_SHARED, NULL) == 0);
	sandbox_bind_in(s, "data", "two words", 0);	/* its peer */
	sandbox_bind_in(s, "secret", "nothing.file", MS_RDONLY);
	snprintf(path, sizeof(path), "%s/nothing.file", s->base);
	NS_MUST(mount(NULL, path, NULL, MS_UNBINDABLE, NULL) == 0);
}

/* Everything below a new root, which is then made read-only (ProtectSystem=strict). */
static inline void sandbox_mounts_build(struct sandbox *s)
{
	char root[400], vartmp_path[40];
	int tmp, vartmp;

	NS_MUST(unshare(CLONE_NEWNS | CLONE_NEWUTS) == 0);
	NS_MUST(mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) == 0);
	snprintf(root, sizeof(root), "%s/root", s->base);
	NS_MUST(mount("/", root, NULL, MS_BIND | MS_REC, NULL) == 0);
	NS_MUST(chdir(root) == 0 && syscall(SYS_pivot_root, ".", ".") == 0);
	NS_MUST(umount2(".", MNT_DETACH) == 0 && chdir("/") == 0);
	snprintf(root, sizeof(root), "%s/tmp", s->base);
	tmp = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	snprintf(root, sizeof(root), "%s/vartmp", s->base);
	vartmp = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	NS_MUST(tmp >= 0 && vartmp >= 0);
	sandbox_binds(s);
	sandbox_dev(s);
	sandbox_proc();
	/* Late: the sources may be below. Then these hide what was mounted on them. */
	snprintf(root, sizeof(root), "/proc/self/fd/%d", tmp);
	snprintf(vartmp_path, sizeof(vartmp_path), "/proc/self/fd/%d", vartmp);
	sandbox_bind(vartmp_path, "/var/tmp", MS_NOSUID | MS_NODEV | MS_NOATIME);
	sandbox_bind(root, "/tmp", MS_NOSUID | MS_NODEV);
	close(tmp);
	close(vartmp);
	sandbox_bind("/tmp", "/tmp", MS_NOSUID | MS_NODEV | MS_NOEXEC);	/* one over the other */
	NS_MUST(mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) == 0);
	NS_MUST(sethostname("sandboxed", 9) == 0);
	NS_MUST(setdomainname("inside", 6) == 0);
}

static inline void sandbox_put(const char *fmt, int pid, const char *text)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), fmt, pid);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	NS_MUST(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
}

/* The maps have to be written from outside, by a child that stays there. */
static inline void sandbox_user(void)
{
	int gate[2], status;
	pid_t me = getpid(), child;
	char byte;

	NS_MUST(pipe2(gate, O_CLOEXEC) == 0);
	child = fork();
	NS_MUST(child >= 0);
	if (!child) {
		close(gate[1]);
		if (read(gate[0], &byte, 1) != 1)
			_exit(1);
		sandbox_put("/proc/%d/setgroups", me, "deny");
		sandbox_put("/proc/%d/uid_map", me, "0 0 1\n101 101 1\n");
		sandbox_put("/proc/%d/gid_map", me, "0 0 1\n104 104 1\n");
		_exit(0);
	}
	NS_MUST(unshare(CLONE_NEWUSER) == 0);
	NS_MUST(write(gate[1], "x", 1) == 1);
	NS_MUST(waitpid(child, &status, 0) == child && status == 0);
	close(gate[0]);
	close(gate[1]);
}

/* /proc/PID/mountinfo, comparable: without ids, in an order of its own. Heap. */
struct sandbox_line {
	int id, parent;
	unsigned int shared;
	char key[4096];		/* mount points and roots from the root down */
	char text[2048];
};

static inline int sandbox_compare(const void *a, const void *b)
{
	return strcmp(((const struct sandbox_line *)a)->key, ((const struct sandbox_line *)b)->key);
}

static inline void sandbox_parse(char *line, struct sandbox_line *l)
{
	char root[512], point[512], options[512], *dash = strstr(line, " - "), *tags;
	int used = 0;

	NS_MUST(dash != NULL);
	*dash = '\0';
	NS_MUST(sscanf(line, "%d %d %*s %511s %511s %511s%n", &l->id, &l->parent, root, point,
		       options, &used) == 5);
	tags = strstr(line + used, "shared:");
	l->shared = tags ? (unsigned int)atoi(tags + 7) : 0;
	snprintf(l->key, sizeof(l->key), "%s=%s", point, root);
	snprintf(l->text, sizeof(l->text), "%s %s %s%s%s%s - %s", point, root, options,
		 strstr(line + used, "shared:") ? " shared" : "",
		 strstr(line + used, "master:") ? " slave" : "",
		 strstr(line + used, "unbindable") ? " unbindable" : "", dash + 3);
}

static inline char *sandbox_mounts_text(int dirfd)
{
	static struct sandbox_line lines[512];
	static char buf[1 << 18];
	size_t n = 0, len = 0;
	char *out = (char *)calloc(1, sizeof(buf) * 4), *save = NULL;
	int fd = openat(dirfd, "mountinfo", O_RDONLY | O_CLOEXEC);

	NS_MUST(out && fd >= 0);
	for (ssize_t k; (k = read(fd, buf + len, sizeof(buf) - 1 - len)) > 0;)
		len += (size_t)k;
	buf[len] = '\0';
	close(fd);
	for (char *l = strtok_r(buf, "\n", &save); l && n < 512; l = strtok_r(NULL, "\n", &save))
		sandbox_parse(l, &lines[n++]);
	/* Keys get their ancestors' in front; a root's parent is not listed. */
	for (size_t i = 0; i < n; i++) {
		char key[4096];
		int up = lines[i].parent;

		for (size_t hops = 0, k = 0; k < n && hops < n; k++) {
			if (lines[k].id != up || lines[k].id == lines[k].parent)
				continue;
			snprintf(key, sizeof(key), "%.1500s>%.2500s", strrchr(lines[k].key, '>') ?
				 strrchr(lines[k].key, '>') + 1 : lines[k].key, lines[i].key);
			strcpy(lines[i].key, key);
			up = lines[k].parent;
			k = (size_t)-1;
			hops++;
		}
	}
	qsort(lines, n, sizeof(lines[0]), sandbox_compare);
	for (size_t i = 0; i < n; i++) {
		size_t peer = i;

		for (size_t k = 0; lines[i].shared && k < i; k++)
			if (lines[k].shared == lines[i].shared) {
				peer = k;
				break;
			}
		sprintf(out + strlen(out), "%s | %s | peer of %zu\n", lines[i].key, lines[i].text,
			peer);
	}
	return out;
}

#endif
