/* See hostlock.h. Connections: /proc/PID/fd of the tree against sock_diag's list. */
#define _GNU_SOURCE
#include "netlock/hostlock.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/sockdiag.h"
#include "netlock/iptables.h"
#include "util/io.h"
#include "util/log.h"

#define DEPTH_MAX	1000

enum { STATE_CLOSE = 7, STATE_LISTEN = 10 };

/* Adds the TCP sockets of one process that all knows to mine. */
static int add_process(pid_t pid, const struct map *all, struct map *mine)
{
	_cleanup_closedir_ DIR *dir = NULL;
	const struct dirent *de;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	if (!dir)
		return errno == ENOENT ? 0 : neg_errno();
	while ((de = readdir(dir))) {
		char link[64];
		unsigned int ino;
		struct sockdiag *d;
		ssize_t n = readlinkat(dirfd(dir), de->d_name, link, sizeof(link) - 1);

		if (n <= 0)
			continue;
		link[n] = '\0';
		if (sscanf(link, "socket:[%u]", &ino) != 1)
			continue;
		d = map_get(all, ino);
		if (d && d->state != STATE_LISTEN && d->state != STATE_CLOSE) {
			int r = map_put(mine, ino, d);

			if (r < 0)
				return r;
		}
	}
	return 0;
}

static int add_tree(pid_t pid, const struct map *all, struct map *mine, unsigned int depth);

static int add_children(pid_t pid, const char *tid, const struct map *all, struct map *mine,
			unsigned int depth)
{
	_cleanup_free_ char *text = NULL;
	char path[64], *rest, *word;
	int r;

	snprintf(path, sizeof(path), "/proc/%d/task/%.16s/children", pid, tid);
	r = read_file_at(AT_FDCWD, path, READ_FILE_MAX, &text, NULL);
	if (r < 0)
		return r == -ENOENT || r == -ESRCH ? 0 : r;
	for (word = strtok_r(text, " \n", &rest); word; word = strtok_r(NULL, " \n", &rest)) {
		int child;

		r = parse_int(word, &child);
		if (!r)
			r = add_tree(child, all, mine, depth + 1);
		if (r < 0)
			return r;
	}
	return 0;
}

static int add_tree(pid_t pid, const struct map *all, struct map *mine, unsigned int depth)
{
	_cleanup_closedir_ DIR *dir = NULL;
	const struct dirent *de;
	char path[64];
	int r;

	if (depth > DEPTH_MAX)
		return -ELOOP;
	r = add_process(pid, all, mine);
	if (r < 0)
		return r;
	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	if (!dir)
		return errno == ENOENT ? 0 : neg_errno();
	while ((de = readdir(dir))) {
		if (de->d_name[0] == '.')
			continue;
		r = add_children(pid, de->d_name, all, mine, depth);
		if (r < 0)
			return r;
	}
	return 0;
}

bool hostlock_is_v4(const struct sockdiag *d)
{
	struct in6_addr a;

	memcpy(&a, d->dst, sizeof(a));
	return d->family == AF_INET || IN6_IS_ADDR_V4MAPPED(&a);
}

const char *hostlock_address(const struct sockdiag *d, const uint8_t *addr,
			     char text[INET6_ADDRSTRLEN])
{
	bool v4 = hostlock_is_v4(d);

	if (v4 && d->family == AF_INET6)
		addr += 12;
	return inet_ntop(v4 ? AF_INET : AF_INET6, addr, text, INET6_ADDRSTRLEN);
}

/* One set per family: remote address and port, own address and port. */
static size_t put_set(FILE *f, const char *table, const struct map *all, bool v4)
{
	char dst[INET6_ADDRSTRLEN], src[INET6_ADDRSTRLEN];
	size_t n = 0;

	for (size_t i = 0; i < all->room; i++) {
		const struct sockdiag *d = all->slots[i].val;

		if (!d || hostlock_is_v4(d) != v4)
			continue;
		fprintf(f, n++ ? ", " : "add element inet %s %s { ", table, v4 ? "c4" : "c6");
		fprintf(f, "%s . %u . %s . %u", hostlock_address(d, d->dst, dst), d->dst_port,
			hostlock_address(d, d->src, src), d->src_port);
	}
	if (n)
		fputs(" }\n", f);
	return n;
}

static void put_rules(FILE *f, const char *t, const char *ip, const char *set)
{
	fprintf(f, "add rule inet %s input %s saddr . tcp sport . %s daddr . tcp dport @%s drop\n",
		t, ip, ip, set);
	fprintf(f, "add rule inet %s output %s daddr . tcp dport . %s saddr . tcp sport @%s drop\n",
		t, ip, ip, set);
}

char *hostlock_rules(const char *table, const struct map *connections, size_t *ret_n)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	if (!f)
		return NULL;
	fprintf(f, "add table inet %s\n", table);
	for (int v = 4; v <= 6; v += 2)
		fprintf(f, "add set inet %s c%d { type ipv%d_addr . inet_service . ipv%d_addr . "
			"inet_service ; }\n", table, v, v, v);
	for (int out = 0; out < 2; out++) {
		const char *chain = out ? "output" : "input";

		fprintf(f, "add chain inet %s %s { type filter hook %s priority -300 ; }\n", table,
			chain, chain);
		fprintf(f, "add rule inet %s %s meta mark " LOCK_MARK " accept\n", table, chain);
	}
	put_rules(f, table, "ip", "c4");
	put_rules(f, table, "ip6", "c6");
	*ret_n = put_set(f, table, connections, true);
	*ret_n += put_set(f, table, connections, false);
	if (fclose(f)) {
		free(text);
		return NULL;
	}
	return text;
}

/* libnftables(3), loaded when it is needed: nothing else in the command wants it. */
#define NFT_CTX_DEFAULT	0
#define ROOM_FROM	256	/* the log and what else the command opened first are below */
struct nft_ctx;

struct nft {
	void *lib;
	struct nft_ctx *ctx;
	struct nft_ctx *(*ctx_new)(uint32_t flags);
	void (*ctx_free)(struct nft_ctx *ctx);
	int (*buffer_output)(struct nft_ctx *ctx), (*buffer_error)(struct nft_ctx *ctx);
	const char *(*error_text)(struct nft_ctx *ctx);
	int (*run)(struct nft_ctx *ctx, const char *buf);
};

static void *symbol(struct nft *n, const char *name, bool *missing)
{
	void *p = dlsym(n->lib, name);

	*missing |= !p;
	return p;
}

static void nft_close(struct nft *n)
{
	if (n->ctx)
		n->ctx_free(n->ctx);
	if (n->lib)
		dlclose(n->lib);
}

static int nft_open(struct nft *n)
{
	bool missing = false;

	n->lib = dlopen("libnftables.so.1", RTLD_NOW | RTLD_LOCAL);
	if (!n->lib)
		return -ENOPKG;
	n->ctx_new = symbol(n, "nft_ctx_new", &missing);
	n->ctx_free = symbol(n, "nft_ctx_free", &missing);
	n->buffer_output = symbol(n, "nft_ctx_buffer_output", &missing);
	n->buffer_error = symbol(n, "nft_ctx_buffer_error", &missing);
	n->error_text = symbol(n, "nft_ctx_get_error_buffer", &missing);
	n->run = symbol(n, "nft_run_cmd_from_buffer", &missing);
	if (missing)
		return -ENOPKG;
	n->ctx = n->ctx_new(NFT_CTX_DEFAULT);
	if (!n->ctx || n->buffer_error(n->ctx) || n->buffer_output(n->ctx))
		return -ENOMEM;
	return 0;
}

/*
 * libnftables waits with select(2), which cannot have a descriptor above 1023 and ends the process
 * that tries: its socket may get such a number when the tree has many files. So it runs in a child,
 * which makes room below.
 */
static int in_child(int (*fn)(void *arg), void *arg)
{
	pid_t child = fork();
	int status;

	if (child < 0)
		return log_err(neg_errno(), "cannot start a process for nftables");
	if (!child) {
		close_range(ROOM_FROM, FD_SETSIZE - 1, 0);
		_exit(-fn(arg));
	}
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return log_err(neg_errno(), "cannot wait for nftables");
	if (!WIFEXITED(status))
		return log_fail(-EIO, "nftables was ended by signal %d", WTERMSIG(status));
	return -WEXITSTATUS(status);
}

static int nft_run(struct nft *n, const char *rules, const char *what)
{
	const char *e;

	if (!n->run(n->ctx, rules))
		return 0;
	e = n->error_text(n->ctx);
	return log_fail(-EIO, "cannot %s the network: nftables: %.*s", what,
			(int)strcspn(e, "\n"), e);
}

/* CRIU 4.1 cuts the run's UUID short. */
#define TABLE_OF_RUN	"CRIU-%.21s"

static int lock_with(void *rules)
{
	_cleanup_(nft_close) struct nft n = { 0 };
	int r = nft_open(&n);

	if (r == -ENOPKG)
		return log_fail(r, "cannot lock the network: libnftables is missing (install it, "
				"or give --network-lock skip)");
	if (r < 0)
		return log_err(r, "cannot lock the network");
	/* One transaction: all rules or none. */
	return nft_run(&n, rules, "lock");
}

static int lock_found(const char *run_id, const struct map *mine)
{
	_cleanup_free_ char *table = str_fmt(TABLE_OF_RUN, run_id);
	size_t n_connections;
	_cleanup_free_ char *rules = table ? hostlock_rules(table, mine, &n_connections) : NULL;
	int r;

	if (!rules)
		return log_err(-ENOMEM, "cannot lock the network");
	if (!n_connections)
		return 0;
	r = in_child(lock_with, rules);
	if (!r)
		log_info("network locked for %zu connection(s): table inet %s", n_connections,
			 table);
	return r;
}

static int with_connections(pid_t root, int (*fn)(const char *run_id, const struct map *mine),
			    const char *run_id)
{
	struct map all = { 0 }, mine = { 0 };
	struct arena a;
	int r;

	arena_init(&a);
	r = sockdiag_sweep(SOCKDIAG_TCP, &a, &all);
	if (!r)
		r = add_tree(root, &all, &mine, 0);
	r = r < 0 ? log_err(r, "cannot find the tree's connections") : fn(run_id, &mine);
	map_done(&all);
	map_done(&mine);
	arena_done(&a);
	return r;
}

struct locked {
	const char *run_id;
	pid_t root;
};

/* Runs fn in our network namespace, then in the root's if that is another. */
static int in_both(const struct locked *l, int (*fn)(const struct locked *l))
{
	_cleanup_close_ int own = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	_cleanup_free_ char *path = str_fmt("/proc/%d/ns/net", l->root);
	_cleanup_close_ int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -ENOMEM;
	struct stat a, b;
	int r = fn(l);

	if (r < 0)
		return r;
	/* A root that is gone had a namespace of its own that is gone, too. */
	if (fd < 0 && errno == ENOENT)
		return 0;
	if (own < 0 || fd < 0 || fstat(own, &a) < 0 || fstat(fd, &b) < 0)
		return log_err(neg_errno(), "cannot open the network namespace of %d", l->root);
	if (a.st_ino == b.st_ino)
		return 0;
	if (setns(fd, CLONE_NEWNET) < 0)
		return log_err(neg_errno(), "cannot enter the network namespace of %d", l->root);
	r = fn(l);
	if (setns(own, CLONE_NEWNET) < 0)
		return log_err(neg_errno(), "cannot leave the network namespace of %d", l->root);
	return r;
}

static int lock_here(const struct locked *l)
{
	return with_connections(l->root, lock_found, l->run_id);
}

static int unlock_table(struct nft *n, char *table)
{
	_cleanup_free_ char *name = table;
	_cleanup_free_ char *list = name ? str_fmt("list table inet %s\n", name) : NULL;
	_cleanup_free_ char *delete = name ? str_fmt("delete table inet %s\n", name) : NULL;
	const char *e;

	if (!list || !delete)
		return log_err(-ENOMEM, "cannot unlock the network");
	if (!n->run(n->ctx, list))
		return nft_run(n, delete, "unlock");
	e = n->error_text(n->ctx);
	/* No such table, as for most trees; or nobody knows. */
	if (!strstr(e, strerror(ENOENT)))
		log_warn("if table inet %s is there, connections stay blocked: nftables: %.*s", name,
			 (int)strcspn(e, "\n"), e);
	return 0;
}

static int unlock(void *arg)
{
	const struct locked *l = arg;
	_cleanup_(nft_close) struct nft n = { 0 };
	int r = nft_open(&n);

	/* Without the library there was no lock either. */
	if (r == -ENOPKG)
		return 0;
	if (r < 0)
		return log_err(r, "cannot unlock the network");
	if (l->run_id)
		r = unlock_table(&n, str_fmt(TABLE_OF_RUN, l->run_id));
	return r < 0 ? r : unlock_table(&n, str_fmt("CRIU-%d", l->root));
}

static int unlock_here(const struct locked *l)
{
	return in_child(unlock, (void *)l);
}

int hostlock_lock(const char *run_id, pid_t root)
{
	const struct locked l = { run_id, root };
	int r = in_both(&l, lock_here);

	if (r < 0 && unlock_here(&l) < 0)
		log_warn("the network stays locked");
	return r;
}

int hostlock_unlock(const char *run_id, pid_t root)
{
	return in_both(&(struct locked){ run_id, root }, unlock_here);
}

int hostlock_unlock_iptables(pid_t root)
{
	return with_connections(root, iptables_unlock, NULL);
}
