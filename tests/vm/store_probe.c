/*
 * A test of the pmem store without an engine: takes memory as an upgrade does, fills it with
 * two trees' images of known bytes, loads a kernel, and goes there. The other side,
 * store_probe_early.c, compares every byte.
 *
 *   store-probe MODE MIB VERSION [MODULE...]
 *
 * Modes: jump; damage (one byte of the second tree's images is changed after the commit);
 * undo (all is given back instead of the jump); overlap (memory where kexec loads to); full
 * (images larger than estimated); plan (only asks); moved (a page is elsewhere at the commit);
 * bind (the modules are loaded first over there: nd_e820 has nd_pmem take the memory); hold (keeps the memory until it is killed); recover (undoes what that left behind); fragment
 * (before all: free memory comes in small pieces).
 *
 * The early program is beside this one, as crkexec-early.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <linux/reboot.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "crkexec/cmdline.h"
#include "crkexec/memory.h"
#include "crkexec/store_pmem.h"
#include "tests/vm/store_probe.h"
#include "util/io.h"
#include "util/log.h"

struct probe {
	struct upgrade u;
	struct options opt;
	uint64_t mib;
	bool bind;
};

static int init(struct probe *p, int argc, char **argv)
{
	struct upgrade *u = &p->u;
	uint64_t mib;

	if (parse_u64(argv[2], 10, &mib) < 0)
		return -EINVAL;
	p->mib = mib;
	p->opt.store = CHOOSE_PMEM;
	u->opt = &p->opt;
	u->life_fd = -EBADF;
	u->initrd_fd = -EBADF;
	u->m = manifest_new();
	u->m->id = strdup(PROBE_ID);
	u->m->kernel_from = strdup("from");
	u->m->kernel_to = strdup(argv[3]);
	u->m->store = STORE_PMEM;
	u->target.version = strdup(argv[3]);
	u->target.image = str_fmt("/boot/vmlinuz-%s", argv[3]);
	u->target.config = kernel_find_config("", argv[3]);
	u->target.cmdline_max = 2047;
	u->target.own_initramfs = true;
	u->module_paths.v = argv + 4;
	u->module_paths.n = (size_t)(argc - 4);
	u->run_dirfd = open("/run", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	u->store = (struct store){ .ops = &store_pmem, .u = u };
	progress_init(&u->progress, STDERR_FILENO);
	return undo_open(&u->undo, u->run_dirfd, true);
}

static int add_units(struct manifest *m)
{
	static const char *const names[] = { "good.service", "other.service" };

	m->units = calloc(2, sizeof(*m->units));
	if (!m->units)
		return -ENOMEM;
	for (size_t i = 0; i < 2; i++) {
		struct manifest_unit *mu = &m->units[m->n_units++];

		mu->name = strdup(names[i]);
		mu->cgroup = str_fmt("/system.slice/%s", names[i]);
		mu->type = strdup("simple");
		mu->main_pid = (pid_t)(1000 + i);
		mu->trees = calloc(1, sizeof(*mu->trees));
		mu->n_trees = 1;
		mu->trees[0].root_pid = mu->main_pid;
		mu->trees[0].dir = str_fmt("%s/0", names[i]);
	}
	return 0;
}

static int fill(struct image_store *images, uint64_t tree, uint64_t mib)
{
	_cleanup_image_writer_ struct image_writer *w = NULL;
	int r = image_create(images, &image_pages, &w, 1);

	for (uint64_t i = 0; i < mib && r == 0; i++) {
		void *to;

		r = image_reserve(w, PROBE_CHUNK, &to);
		if (r == 0)
			probe_pattern(to, tree, i);
	}
	return r < 0 ? r : image_close(take_ptr(w));
}

static int fill_all(struct probe *p, uint64_t mib)
{
	struct store *s = &p->u.store;
	int r = add_units(p->u.m);

	for (size_t i = 0; i < 2 && r == 0; i++) {
		struct manifest_tree *t = &p->u.m->units[i].trees[0];
		struct image_store *images;
		int r2;

		r = s->ops->tree_open(s, i, ROOM_ALL, &images);
		if (r < 0)
			return r;
		r = fill(images, i, i ? mib - mib / 2 : mib / 2);
		r2 = s->ops->tree_done(s, images, r == 0 ? t : NULL);
		r = r < 0 ? r : r2;
	}
	return r;
}

static int prepare(struct probe *p)
{
	struct store *s = &p->u.store;
	const struct store_need needs[] = {
		{ .bytes = (p->mib / 2 + 1) << 20 },
		{ .bytes = (p->mib - p->mib / 2 + 1) << 20 },
	};
	_cleanup_free_ char *why = NULL;
	int r = s->ops->plan(s, needs, 2, &why);
	struct pmem_state *st = s->state;

	if (r < 0) {
		printf("refused: %s\n", why ? why : strerror(-r));
		return r;
	}
	/* Persistent memory rather than soft-reserved: nd_pmem takes it. */
	if (p->bind)
		st->block_bytes = 0;
	return s->ops->prepare(s, needs, 2);
}

static int load(struct probe *p)
{
	struct store *s = &p->u.store;
	_cleanup_free_ char *words = NULL, *suffix = NULL, *ours = NULL, *current = NULL;
	int r = s->ops->cmdline(s, &words, &suffix);

	if (r == 0)
		r = read_file_at(AT_FDCWD, "/proc/cmdline", 1u << 20, &current, NULL);
	if (r < 0)
		return r;
	ours = str_fmt("crkexec=%s%s %s", PROBE_ID, suffix, words);
	r = cmdline_build(current, ours, p->bind ? "store-probe-bind" : NULL, true, 2047,
			  &p->u.cmdline);
	return r < 0 ? r : s->ops->load(s);
}

static int commit(struct probe *p)
{
	_cleanup_free_ char *text = NULL;
	size_t bytes;
	int r = manifest_to_text(p->u.m, &text, &bytes);

	return r < 0 ? r : p->u.store.ops->commit(&p->u.store, text, bytes);
}

/* Exchanges the frames of two pages, by an exchange of their mappings. */
static int move_pages(struct probe *p)
{
	struct pmem_state *st = p->u.store.state;
	size_t last = st->bytes - HUGEPAGE_BYTES;
	off_t first_page = -1;

	for (size_t i = 0; i < st->pages.n && first_page < 0; i++)
		if (st->pages.frames[i] == p->u.m->ranges[0].addr)
			first_page = (off_t)(i * HUGEPAGE_BYTES);
	return mmap(st->map + last, HUGEPAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		    st->pages.fd, first_page) == MAP_FAILED ? neg_errno() : 0;
}

static int jump(void)
{
	fflush(stdout);
	sync();
	syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_KEXEC, NULL);
	return neg_errno();
}

/* The held page that lies highest: where kexec begins to fill memory. */
static uint64_t highest(const struct hugepages *h)
{
	uint64_t top = 0;

	for (size_t i = 0; i < h->n; i++)
		top = MAX(top, h->frames[i]);
	return top;
}

/* Takes nearly all memory, keeps the top, has the loader say where it loads to. */
static int overlap(struct probe *p)
{
	struct pmem_state *st = calloc(1, sizeof(*st));
	struct manifest *m = p->u.m;
	uint64_t have;
	size_t got;
	void *map;
	int r = st ? memory_available(&have) : -ENOMEM;

	if (r < 0)
		return r;
	p->u.store.state = st;
	r = hugepages_open(&st->pages, &p->u.undo);
	if (r == 0)
		r = hugepages_grow(&st->pages, (have - (160ull << 20)) / HUGEPAGE_BYTES, &got);
	m->ranges = r < 0 ? NULL : calloc(1, sizeof(*m->ranges));
	if (!m->ranges)
		return r < 0 ? r : -ENOMEM;
	m->ranges[0] = (struct manifest_range){ highest(&st->pages), HUGEPAGE_BYTES };
	m->n_ranges = 1;
	r = hugepages_keep(&st->pages, m->ranges, 1);
	if (r == 0)
		r = hugepages_map(&st->pages, m->ranges, 1, &map);
	if (r < 0)
		return r;
	st->map = map;
	st->bytes = HUGEPAGE_BYTES;
	return load(p);
}

static int run(struct probe *p, const char *mode)
{
	struct pmem_state *st;
	int r;

	if (!strcmp(mode, "overlap"))
		return overlap(p);
	p->bind = !strcmp(mode, "bind");
	if (!strcmp(mode, "recover"))
		return 0;
	r = prepare(p);
	if (r < 0 || !strcmp(mode, "plan"))
		return r;
	while (!strcmp(mode, "hold")) {
		printf("held\n");
		pause();
	}
	r = load(p);
	if (r == 0)
		r = fill_all(p, !strcmp(mode, "full") ? p->mib * 2 : p->mib);
	if (r == 0 && !strcmp(mode, "moved"))
		r = move_pages(p);
	if (r == 0)
		r = commit(p);
	if (r < 0)
		return r;
	st = p->u.store.state;
	printf("committed %" PRIu64 " MiB in %zu ranges, given back later: %d\n", st->bytes >> 20,
	       p->u.m->n_ranges, st->give_back);
	if (!strcmp(mode, "damage"))
		st->map[p->u.m->units[1].trees[0].bundle_off + (1u << 20) + 4711] ^= 1;
	return strcmp(mode, "undo") ? jump() : 0;
}

/*
 * Memory in pieces: a process holds one page of every 64 of so many MiB, until it is killed.
 * What is between them is free, but no huge page until somebody moves those that are left.
 */
static int fragment(uint64_t mib)
{
	size_t bytes = mib << 20, step = 64 * PAGE_BYTES;
	uint8_t *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED || madvise(p, bytes, MADV_NOHUGEPAGE) < 0 ||
	    madvise(p, bytes, MADV_POPULATE_WRITE) < 0)
		return neg_errno();
	for (size_t i = 0; i < bytes; i += step)
		if (madvise(p + i + PAGE_BYTES, step - PAGE_BYTES, MADV_DONTNEED) < 0)
			return neg_errno();
	return daemon(0, 0) < 0 ? neg_errno() : 1;
}

int main(int argc, char **argv)
{
	struct probe p = { 0 };
	int r, r2;

	log_init(LOGLEVEL_DEBUG, STDOUT_FILENO);
	if (argc < 4 || init(&p, argc, argv) < 0)
		return 2;
	if (!strcmp(argv[1], "fragment")) {
		if (fragment(p.mib) < 0)
			return 1;
		for (;;)
			pause();
	}
	setlinebuf(stdout);
	r = run(&p, argv[1]);
	printf("%s: %s\n", argv[1], r < 0 ? strerror(-r) : "done");
	store_done(&p.u.store);
	r2 = undo_rewind(&p.u.undo, 0, undo_kinds);
	return r < 0 || r2 < 0;
}
