/*
 * Part of phase "check": what the trees share with things that will not be there, or not yet,
 * when they come back: PID 1's own sockets (units activated by a socket), addresses and interfaces that only the new
 * boot's network service makes, file systems that are mounted only later in the boot. File systems that will be there
 * are noted in the manifest: a unit does not come back without them. And security labels, whose policy the new boot
 * loads.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "crkexec/machine.h"
#include "crkexec/phases.h"
#include "crkexec/sockets.h"
#include "crkexec/tree.h"
#include "util/io.h"
#include "util/log.h"
#include "util/map.h"

#define LABEL_MAX	4096u

struct world {
	struct upgrade *u;
	const struct unit *unit;
	struct manifest_unit *mu;
	struct map init_sockets;	/* inodes that PID 1 holds */
	struct map said;		/* inodes, hashes of labels that have been complained about */
	struct host_mounts host;
	uint64_t netns;			/* the host's network namespace; 0: not known */
	int r;
};

static int add_init_socket(void *arg, pid_t pid, int fd, const char *link)
{
	struct world *w = arg;
	uint64_t ino;

	(void)pid;
	(void)fd;
	return socket_inode(link, &ino) < 0 ? 0 : map_put(&w->init_sockets, ino, w);
}

static int complain_once(struct world *w, uint64_t key, bool *ret_first)
{
	*ret_first = !map_get(&w->said, key);
	return *ret_first ? map_put(&w->said, key, w) : 0;
}

static int check_socket(struct world *w, pid_t pid, int fd, uint64_t ino)
{
	bool first;
	int r;

	if (!map_get(&w->init_sockets, ino))
		return 0;
	r = complain_once(w, ino, &first);
	if (r == 0 && first)
		w->r = upgrade_problem(w->u, -EOPNOTSUPP, w->unit->name,
			"start the service without its .socket unit, or leave it out",
			"pid %d: fd %d: a socket that belongs to systemd (socket activation): the new "
			"boot makes it anew", pid, fd);
	return r;
}

/* The name of the interface, "10.0.0.1 bond0" for 10.0.0.1; NULL: it comes early, or is no address of ours. */
static const char *late_interface(const struct strv *late, const char *address)
{
	size_t n = strlen(address);

	for (size_t i = 0; i < late->n; i++)
		if (!strncmp(late->v[i], address, n) && late->v[i][n] == ' ')
			return late->v[i] + n + 1;
	return NULL;
}

/* An address, an interface of another network namespace may have the name of one of the host's. */
static bool is_hosts(const struct world *w, const struct socket_place *p)
{
	return !p->netns || !w->netns || p->netns == w->netns;
}

static int check_place_of_socket(struct world *w, pid_t pid, int fd, uint64_t ino)
{
	struct socket_place p;
	const char *interface;
	bool bound, first;
	int r;

	if (!w->u->late_interfaces.n || socket_place(pid, fd, &p) < 0 || !is_hosts(w, &p))
		return 0;
	bound = *p.interface && strv_has(&w->u->late_interfaces, p.interface);
	interface = late_interface(&w->u->late_addresses, p.address);
	/* Interfaces over one another have the same link-local address, and a socket on it is bound to its own. */
	if (*p.interface && !bound && str_starts(p.address, "fe80:"))
		interface = NULL;
	if (!bound && !interface)
		return 0;
	r = complain_once(w, ino, &first);
	if (r < 0 || !first)
		return r;
	if (bound)
		w->r = upgrade_problem(w->u, -EOPNOTSUPP, w->unit->name,
			"have it use an interface with a device of its own, or leave the service out",
			"pid %d: fd %d: a socket bound to the interface %s, which only the new boot's network "
			"service sets up", pid, fd, p.interface);
	else
		w->r = upgrade_problem(w->u, -EOPNOTSUPP, w->unit->name,
			"have its clients use an interface with a device of its own, or leave the service out",
			"pid %d: fd %d: a socket on %s, an address of %s, which only the new boot's network service "
			"sets up", pid, fd, p.address, interface);
	return 0;
}

static int check_fd(void *arg, pid_t pid, int fd, const char *link)
{
	uint64_t ino;
	int r;

	if (socket_inode(link, &ino) < 0)
		return 0;
	r = check_socket(arg, pid, fd, ino);
	return r < 0 ? r : check_place_of_socket(arg, pid, fd, ino);
}

/* The engine itself misses mounts of a namespace of the tree's own, not those of the host. */
static int note_place(struct world *w, const struct file_place *p)
{
	struct strv list = { w->mu->filesystems, w->mu->n_filesystems };
	int r;

	if (!p->hosts || !strcmp(p->mount->mountpoint, "/"))
		return 0;
	r = strv_add_once(&list, p->mount->mountpoint);
	w->mu->filesystems = list.v;
	w->mu->n_filesystems = list.n;
	return r;
}

static int check_place(void *arg, const struct file_place *p)
{
	struct world *w = arg;
	const char *why;
	const struct mount *m = host_mounts_late(&w->host, p->mount, &why);
	bool first;
	int r;

	if (!m)
		return note_place(w, p);
	/* A hundred workers have the same files open. */
	r = complain_once(w, hash_bytes(hash_bytes(HASH_BEGIN, &m->id, sizeof(m->id)), &w->unit, sizeof(w->unit)), &first);
	if (r < 0 || !first)
		return r;
	w->r = upgrade_problem(w->u, -EOPNOTSUPP, w->unit->name,
			       "move the file to the root's or another plain disk, or leave the service out",
			       "pid %d: %s is on %s (%s), which is mounted only later in the boot", p->pid,
			       p->what, m->mountpoint, why);
	return 0;
}

/* Copied from the host when the namespace was made, and not bound for the sandbox. */
static bool is_inherited(const struct world *w, const struct mount *m)
{
	for (size_t i = 0; i < w->host.table.n; i++) {
		const struct mount *h = &w->host.table.mounts[i];

		if (h->dev == m->dev && !strcmp(h->root, m->root) && !strcmp(h->mountpoint, m->mountpoint))
			return true;
	}
	return false;
}

/* A socket of journald's itself: the new boot has another one, and what was bound stays with the old. */
static bool is_log_socket(const struct world *w, const struct mount *m)
{
	for (size_t i = 0; i < w->host.table.n; i++)
		if (w->host.table.mounts[i].dev == m->dev && !strcmp(w->host.table.mounts[i].mountpoint, "/run"))
			return path_below(m->root, "/systemd/journal") != NULL;
	return false;
}

/*
 * What of a sandbox cannot be made without a mount that comes late. That one itself comes by propagation
 * (mount_namespaces(7)), also below what covers it altogether (ProtectHome=).
 */
static void check_sandbox_mount(struct world *w, const struct mount_table *t, const struct mount *m)
{
	const struct mount *on = mount_by_id(t, m->parent_id), *late;
	bool inherited = is_inherited(w, m);
	const char *why;

	if (is_log_socket(w, m)) {
		w->r = upgrade_problem(w->u, -EOPNOTSUPP, w->unit->name,
				       "do without it (BindLogSockets=no), or leave the service out",
				       "its sandbox has journald's %s bound to %s, which the new boot replaces",
				       m->root, m->mountpoint);
		return;
	}
	late = host_mounts_late(&w->host, m, &why);
	if (late && inherited && on && !on->master_id) {
		w->r = upgrade_problem(w->u, -EOPNOTSUPP, w->unit->name,
				       "let it follow the host (MountFlags=slave), or leave the service out",
				       "its sandbox would never see %s (%s), which is mounted only later in the "
				       "boot", m->mountpoint, why);
		return;
	}
	if (late ? !inherited : on && (late = host_mounts_late(&w->host, on, &why)) &&
			       !inherited && strcmp(on->mountpoint, m->mountpoint))
		w->r = upgrade_problem(w->u, -EOPNOTSUPP, w->unit->name,
				       "do without this path in the unit's settings, or leave the service out",
				       "its sandbox has %s, which takes %s (%s): that is mounted only later in "
				       "the boot", m->mountpoint, late->mountpoint, why);
}

static int check_sandbox(struct world *w)
{
	_cleanup_close_ int dir = -EBADF;
	struct mount_table t;
	struct arena a;
	char path[32];
	int r;

	snprintf(path, sizeof(path), "/proc/%d", w->unit->tree.root);
	dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	/* It has ended: others find out. */
	if (dir < 0)
		return 0;
	arena_init(&a);
	r = mountinfo_read(&a, dir, &t);
	/* Ids of mounts are the machine's: those of the host's own namespace are no sandbox. */
	for (size_t i = 0; r == 0 && i < t.n; i++)
		if (!mount_by_id(&w->host.table, t.mounts[i].id))
			check_sandbox_mount(w, &t, &t.mounts[i]);
	arena_done(&a);
	return r == -ESRCH ? 0 : r;
}

/*
 * An AppArmor profile or an SELinux context that the early kernel does not know yet: a thread could not
 * take it (lsm.c), and must not run without. Profiles can be brought along.
 */
static int check_label(void *arg, pid_t pid)
{
	_cleanup_free_ char *path = str_fmt("/proc/%d/attr/current", pid), *label = NULL;
	struct world *w = arg;
	bool first;
	int r = path ? read_file_at(AT_FDCWD, path, LABEL_MAX, &label, NULL) : -ENOMEM;

	/* No module that has labels is there, or the process is not. */
	if (r == -EINVAL || r == -ENOENT || r == -ESRCH)
		return 0;
	if (r < 0)
		return log_err(r, "cannot read %s", path);
	label[strcspn(label, "\n")] = '\0';
	if (!*label || !strcmp(label, "unconfined") || !strcmp(label, "kernel"))
		return 0;
	r = complain_once(w, hash_bytes(hash_bytes(HASH_BEGIN, label, strlen(label)), &w->unit, sizeof(w->unit)),
			  &first);
	if (r < 0 || !first)
		return r;
	r = apparmor_note(w->mu, label);
	if (r == -ENOENT || r == -EINVAL) {
		w->r = upgrade_problem(w->u, -EOPNOTSUPP, w->unit->name,
			"run the service without it, or leave it out",
			"pid %d: its security label is \"%s\", and the policy that has it is loaded only later in the "
			"boot", pid, label);
		r = 0;
	}
	return r;
}

static int check_unit(struct world *w)
{
	int r = tree_each_fd(&w->unit->tree, check_fd, w);

	if (r == 0)
		r = tree_each_pid(&w->unit->tree, check_label, w);
	if (r == 0)
		r = tree_each_file_place(&w->unit->tree, check_place, w);
	return r < 0 ? r : check_sandbox(w);
}

static bool has_late(const struct world *w)
{
	bool late = w->u->late_addresses.n || w->u->late_interfaces.n;

	for (size_t i = 0; i < w->host.table.n; i++)
		late |= w->host.late[i] != NULL;
	return late;
}

static int check_units(struct world *w)
{
	int r = pid_each_fd(1, add_init_socket, w);

	for (size_t i = 0; i < w->u->n_units && r == 0; i++) {
		w->unit = w->u->units[i];
		w->mu = &w->u->m->units[i];
		r = check_unit(w);
	}
	return r;
}

static int check_all(struct upgrade *u, bool (*is_worth)(const struct world *w))
{
	struct world w = { .u = u, .netns = socket_netns() };
	int r = host_mounts_read(&w.host);

	if (r == 0 && (!is_worth || is_worth(&w)))
		r = check_units(&w);
	if (r < 0)
		log_err(r, "cannot look through the files of %s", w.unit ? w.unit->name : "PID 1");
	host_mounts_done(&w.host);
	map_done(&w.init_sockets);
	map_done(&w.said);
	return r < 0 ? r : w.r;
}

int check_world(struct upgrade *u)
{
	return check_all(u, NULL);
}

/* In most machines nothing comes late, and the services are waiting. */
int check_world_again(struct upgrade *u)
{
	return check_all(u, has_late);
}
