/*
 * The operations of the pmem store; see store_pmem.h.
 *
 * All is taken, mapped and tied to the loaded kernel before anything is frozen. In the
 * blackout remain the copy of the images into the mapping, which the dump makes anyway, the
 * manifest, and a look whether all pages are still where the new kernel will look for them.
 *
 * The trap: this process, or one it forked, must hold the pages until the jump.
 */
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "crkexec/load.h"
#include "crkexec/store_pmem.h"
#include "util/io.h"
#include "util/log.h"

/* Our early program, and what the archive adds. */
#define INITRAMFS_SLACK_BYTES	(16ull << 20)

static uint64_t region_bytes(uint64_t bytes)
{
	return ROUND_UP(MAX(bytes, (uint64_t)PAGE_BYTES), (uint64_t)PAGE_BYTES);
}

static uint64_t total_need(const struct pmem_state *p, const struct store_need *needs, size_t n)
{
	uint64_t total = PMEM_HEAD_BYTES;

	for (size_t i = 0; i < n; i++) {
		total += region_bytes(needs[i].bytes);
		if (p->pre_dump && needs[i].rest_bytes)
			total += region_bytes(needs[i].rest_bytes);
	}
	return ROUND_UP(total, PMEM_PAGE_BYTES);
}

static int op_plan(struct store *s, const struct store_need *needs, size_t n, char **ret_why)
{
	struct pmem_state *p = s->state;
	uint64_t swapped = 0;
	int r;

	if (!p) {
		p = s->state = calloc(1, sizeof(*p));
		if (!p)
			return -ENOMEM;
		p->pages = (struct hugepages)HUGEPAGES_INIT;
	}
	p->pre_dump = false;
	for (size_t i = 0; i < n; i++) {
		p->pre_dump |= needs[i].rest_bytes;
		swapped += needs[i].swapped_bytes;
	}
	r = pmem_plan(s, p, total_need(p, needs, n), swapped, ret_why);
	if (r != -ENOMEM || !p->pre_dump)
		return r;
	free(take_ptr(*ret_why));
	p->pre_dump = false;
	return pmem_plan(s, p, total_need(p, needs, n), swapped, ret_why);
}

static uint64_t file_bytes(const char *path)
{
	struct stat st;

	return path && stat(path, &st) == 0 ? (uint64_t)st.st_size : 0;
}

/* About; where it really comes to lie is checked after it was loaded. */
static uint64_t initramfs_bytes(const struct upgrade *u)
{
	uint64_t bytes = INITRAMFS_SLACK_BYTES;

	if (!u->target.own_initramfs)
		return bytes + file_bytes(u->target.initrd);
	for (size_t i = 0; i < u->module_paths.n; i++)
		bytes += file_bytes(u->module_paths.v[i]);
	for (size_t i = 0; i < u->firmware_paths.n; i++)
		bytes += file_bytes(u->firmware_paths.v[i]);
	return bytes;
}

static int take(struct store *s, uint64_t need)
{
	struct pmem_state *p = s->state;
	struct manifest *m = s->u->m;
	_cleanup_free_ struct manifest_range *avoid = NULL;
	struct iomem io = { 0 };
	size_t n_avoid;
	int r = iomem_read(&io);

	if (r < 0)
		return r;
	r = pmem_avoid_loader(&io, pmem_loader_bytes(s->u->target.image, initramfs_bytes(s->u)),
			      &avoid, &n_avoid);
	iomem_done(&io);
	if (r < 0)
		return r;
	free(m->ranges);
	m->ranges = NULL;
	m->n_ranges = 0;
	r = pmem_take(p, need, avoid, n_avoid, &s->u->undo, &m->ranges, &m->n_ranges);
	if (r < 0)
		return r;
	p->bytes = 0;
	for (size_t i = 0; i < m->n_ranges; i++)
		p->bytes += m->ranges[i].bytes;
	return 0;
}

/* What ranges hold beyond the need, all regions share, by their size. */
static void add_region(struct pmem_state *p, const struct store_need *needs, size_t unit,
		       enum store_room room, uint64_t total, uint64_t *at)
{
	uint64_t bytes = region_bytes(room == ROOM_ALL ? needs[unit].bytes : needs[unit].rest_bytes);
	uint64_t spare = p->bytes - total, of = total - PMEM_HEAD_BYTES;
	/* Units of 4 KiB: a product of bytes could overflow. */
	uint64_t more = of ? (spare >> 12) * (bytes >> 12) / (of >> 12) : 0;

	p->regions[p->n_regions++] = (struct pmem_region){
		.unit = unit, .room = room, .off = *at, .bytes = bytes + (more << 12),
	};
	*at += bytes + (more << 12);
}

static int divide(struct pmem_state *p, const struct store_need *needs, size_t n)
{
	uint64_t at = PMEM_HEAD_BYTES, total = total_need(p, needs, n);

	p->regions = calloc(2 * n + 1, sizeof(*p->regions));
	if (!p->regions)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		add_region(p, needs, i, ROOM_ALL, total, &at);
		if (p->pre_dump && needs[i].rest_bytes)
			add_region(p, needs, i, ROOM_REST, total, &at);
	}
	return 0;
}

/* Memory in pieces may be too little for pre-dumps as well: they are a gain, no need. */
static int take_enough(struct store *s, const struct store_need *needs, size_t n)
{
	struct pmem_state *p = s->state;
	off_t mark = undo_mark(&s->u->undo);
	int r = take(s, total_need(p, needs, n)), r2;

	if (r >= 0 || !p->pre_dump)
		return r;
	hugepages_close(&p->pages);
	r2 = undo_rewind(&s->u->undo, mark, undo_kinds);
	if (r2 < 0)
		return r2;
	log_first_error_forget();
	log_info("store: no room for pre-dumps");
	p->pre_dump = false;
	return take(s, total_need(p, needs, n));
}

static int op_prepare(struct store *s, const struct store_need *needs, size_t n)
{
	struct pmem_state *p = s->state;
	struct manifest *m = s->u->m;
	uint64_t lost;
	void *map;
	int r;

	if (getrandom(&p->salt, sizeof(p->salt), 0) != sizeof(p->salt))
		return log_err(neg_errno(), "no random number");
	r = take_enough(s, needs, n);
	if (r == 0)
		r = hugepages_map(&p->pages, m->ranges, m->n_ranges, &map);
	if (r < 0)
		return r;
	p->map = map;
	log_info("store: %" PRIu64 " MiB in %zu ranges from %#" PRIx64 " on for %" PRIu64
		 " MiB of images", p->bytes >> 20, m->n_ranges, m->ranges[0].addr,
		 total_need(p, needs, n) >> 20);
	lost = p->bytes - pmem_returnable_bytes(m->ranges, m->n_ranges, p->block_bytes);
	if (lost)
		upgrade_warn(s->u, "%" PRIu64 " MiB of memory, of %" PRIu64 " MiB taken for the "
			     "images, are missing until the next boot", lost >> 20, p->bytes >> 20);
	return divide(p, needs, n);
}

static int op_cmdline(struct store *s, char **ret_words, char **ret_suffix)
{
	const struct pmem_state *p = s->state;
	const struct manifest *m = s->u->m;
	const struct pmem_spec spec = { m->ranges[0].addr, m->ranges[0].bytes, p->salt };
	_cleanup_free_ char *text = pmem_spec_format(&spec), *words = NULL;

	words = pmem_memmap_format(m->ranges, m->n_ranges, p->give_back);
	*ret_words = words ? str_fmt("%s%s", s->u->target.own_initramfs ? "" : PMEM_KEEP_OFF " ",
				     words) : NULL;
	*ret_suffix = text ? str_fmt(",store=%s", text) : NULL;
	return *ret_words && *ret_suffix ? 0 : -ENOMEM;
}

static int op_load(struct store *s)
{
	_cleanup_close_ int initrd = -EBADF, kmsg = pmem_kmsg_open();
	_cleanup_free_ struct manifest_range *segments = NULL;
	const struct manifest *m = s->u->m;
	size_t n;
	int r = store_build_initramfs(s->u, NULL, 0, -1, &initrd);

	if (r == 0)
		r = load_kernel(s->u, initrd);
	if (r < 0)
		return r;
	if (kmsg < 0) {
		log_warn("store: cannot read the kernel's log: where kexec loads to is not checked");
		return 0;
	}
	r = pmem_kmsg_segments(kmsg, &segments, &n);
	if (r < 0)
		return r;
	if (!n)
		log_info("store: this kernel does not tell where kexec loads to (Linux 6.8 does)");
	r = pmem_check_segments(m->ranges, m->n_ranges, segments, n);
	return r < 0 ? upgrade_problem(s->u, r, NULL, "try --store tmpfs", "%s",
				       log_first_error()) : 0;
}

static struct pmem_region *find_region(struct pmem_state *p, size_t unit, enum store_room room)
{
	for (size_t i = 0; i < p->n_regions; i++)
		if (p->regions[i].unit == unit && p->regions[i].room == room)
			return &p->regions[i];
	return NULL;
}

static bool op_has_rest(struct store *s, size_t unit)
{
	return find_region(s->state, unit, ROOM_REST);
}

static int op_tree_open(struct store *s, size_t unit, enum store_room room, struct image_store **ret)
{
	struct pmem_state *p = s->state;
	struct pmem_region *region = find_region(p, unit, room);
	int r;

	if (!region)
		return -ENOENT;
	r = image_bundle_create(p->map + region->off, region->bytes, &region->images);
	if (r == 0)
		*ret = region->images;
	return r;
}

/* It has been sealed: its numbers are asked for. */
static int note_pre_dump(const struct pmem_region *g, struct manifest_tree *t)
{
	t->pre_dump_off = g->off;
	return image_store_seal(g->images, &t->pre_dump_bytes, &t->pre_dump_hash);
}

/* t NULL: the dump failed, what was written is of no use. */
static int op_tree_done(struct store *s, struct image_store *images, struct manifest_tree *t)
{
	struct pmem_state *p = s->state;
	int r = 0;

	if (!images)
		return 0;
	for (struct pmem_region *g = p->regions; g < p->regions + p->n_regions && r == 0; g++) {
		if (g->images != images)
			continue;
		g->images = NULL;
		if (!t)
			continue;
		t->bundle_off = g->off;
		r = image_store_seal(images, &t->bundle_bytes, &t->bundle_hash);
		if (r == 0 && g->room == ROOM_REST)
			r = note_pre_dump(find_region(p, g->unit, ROOM_ALL), t);
		if (r < 0)
			log_err(r, "cannot seal the images");
	}
	image_store_close(images);
	return r;
}

static int op_commit(struct store *s, const char *text, size_t bytes)
{
	const struct pmem_state *p = s->state;
	const struct manifest *m = s->u->m;
	struct pmem_header *h = (struct pmem_header *)p->map;

	if (bytes > PMEM_MANIFEST_MAX)
		return log_fail(-EFBIG, "the manifest has %zu bytes, the store takes %llu", bytes,
				PMEM_MANIFEST_MAX);
	memcpy(p->map + PMEM_MANIFEST_OFF, text, bytes);
	memset(h, 0, sizeof(*h));
	memcpy(h->id, m->id, MIN(strlen(m->id), sizeof(h->id)));
	h->salt = p->salt;
	h->total_bytes = p->bytes;
	h->manifest_bytes = bytes;
	h->manifest_hash = XXH3_64bits(text, bytes);
	h->n_ranges = m->n_ranges;
	for (size_t i = 0; i < m->n_ranges; i++) {
		h->ranges[i].addr = m->ranges[i].addr;
		h->ranges[i].bytes = m->ranges[i].bytes;
	}
	pmem_header_seal(h);
	return hugepages_check(p->map, m->ranges, m->n_ranges);
}

static void op_free(struct store *s)
{
	struct pmem_state *p = s->state;

	if (!p)
		return;
	if (p->map)
		munmap(p->map, p->bytes);
	hugepages_close(&p->pages);
	free(p->regions);
	free(p);
	free(s->u->m->ranges);
	s->u->m->ranges = NULL;
	s->u->m->n_ranges = 0;
	s->state = NULL;
}

const struct store_ops store_pmem = {
	.name = "pmem",
	.kind = STORE_PMEM,
	.plan = op_plan,
	.prepare = op_prepare,
	.cmdline = op_cmdline,
	.load = op_load,
	.has_rest = op_has_rest,
	.tree_open = op_tree_open,
	.tree_done = op_tree_done,
	.commit = op_commit,
	.done = op_free,
};
