/* Can this machine and the target kernel keep memory over the jump, and is there enough? */
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <string.h>

#include "crkexec/cmdline.h"
#include "crkexec/load.h"
#include "crkexec/memory.h"
#include "crkexec/store_pmem.h"
#include "util/io.h"
#include "util/log.h"

/* Kernel image twice, initramfs twice: what a load takes besides. */
#define LOAD_BYTES		(192ull << 20)
#define RESERVE_MIN_BYTES	(128ull << 20)
#define BLOCK_MIN_BYTES		(128ull << 20)
/* " crkexec=ID,store=pmem:..." and the words around the ranges; then each range. */
#define CMDLINE_OURS		128u
#define CMDLINE_RANGE		32u
/* KASLR knows so many ranges to keep away from. */
#define KASLR_RANGES		4u

static const struct kconfig_need needed[] = {
	{ "DEVMEM", "the early program reads the images through /dev/mem" },
	{ NULL, NULL }
};
static const struct kconfig_need needed_back[] = {
	{ "EFI_SOFT_RESERVE", "memory is given back as soft-reserved memory" },
	{ "DEV_DAX_HMEM", "memory is given back by its driver" },
	{ "DEV_DAX_KMEM", "memory is given back by its driver" },
	{ NULL, NULL }
};

uint64_t pmem_reserve_bytes(uint64_t available)
{
	return LOAD_BYTES + MAX(RESERVE_MIN_BYTES, available / 16);
}

/* One memmap= word: its items that stand for a range. */
static size_t count_items(const char *word, size_t bytes)
{
	size_t n = 0;

	for (size_t i = 0; i < bytes; i++)
		n += word[i] == '!' || word[i] == '$' || word[i] == '#';
	return n;
}

size_t pmem_count_memmap(const char *cmdline)
{
	size_t n = 0;

	for (const char *s = cmdline; (s = strstr(s, "memmap=")); s++)
		if (s == cmdline || s[-1] == ' ')
			n += count_items(s, strcspn(s, " \t\n"));
	return n;
}

/* The command line as it will be, without our words. */
static int check_cmdline(struct store *s, struct pmem_state *p, size_t *ret_taken,
			 char **ret_why)
{
	_cleanup_free_ char *current = NULL, *text = NULL;
	const struct target *t = &s->u->target;
	size_t taken, used;
	int r = read_file_at(AT_FDCWD, "/proc/cmdline", 1u << 20, &current, NULL);

	if (r == 0)
		r = cmdline_build(current, NULL, s->u->opt->append, t->own_initramfs,
				  t->cmdline_max, &text);
	if (r < 0) {
		*ret_why = str_fmt("the command line cannot be extended: %s", strerror(-r));
		return *ret_why ? r : -ENOMEM;
	}
	taken = *ret_taken = pmem_count_memmap(text);
	if (taken >= KASLR_RANGES && !strstr(text, "nokaslr")) {
		*ret_why = str_fmt("memmap= on the command line keeps %zu ranges already: address "
				   "randomization would not keep away from more (nokaslr helps)",
				   taken);
		return *ret_why ? -EOPNOTSUPP : -ENOMEM;
	}
	used = strlen(text) + CMDLINE_OURS;
	if (t->cmdline_max < used + CMDLINE_RANGE) {
		*ret_why = str_fmt("the command line has %zu characters, kernel %s takes %u: no room "
				   "for the store", strlen(text), t->version, t->cmdline_max);
		return *ret_why ? -E2BIG : -ENOMEM;
	}
	p->max_ranges = MIN((t->cmdline_max - used) / CMDLINE_RANGE, (size_t)PMEM_RANGES_MAX);
	return 0;
}

static bool target_lacks(const struct target *t, const struct kconfig_need *needs,
			 struct strv *ret)
{
	_cleanup_free_ char *text = NULL;

	/* Without its configuration, believe that it is like others. */
	if (!t->config || read_file_at(AT_FDCWD, t->config, 4u << 20, &text, NULL) < 0)
		return false;
	return kconfig_missing(text, needs, ret) == 0 && ret->n;
}

static int check_kernels(struct store *s, char **ret_why)
{
	struct strv missing = { 0 };
	int r = 0;

	if (!hugepages_exist())
		*ret_why = strdup("the running kernel has no huge pages of 2 MiB");
	else if (lockdown_is_on())
		*ret_why = strdup("kernel lockdown closes /dev/mem, through which the images would "
				  "be read");
	else if (target_lacks(&s->u->target, needed, &missing))
		*ret_why = str_fmt("kernel %s was built without %s", s->u->target.version,
				   strv_text(&missing));
	else
		r = 1;
	strv_done(&missing);
	return r ? 0 : *ret_why ? -EOPNOTSUPP : -ENOMEM;
}

uint64_t pmem_block_bytes(void)
{
	_cleanup_free_ char *text = NULL;
	uint64_t bytes;

	if (read_file_at(AT_FDCWD, "/sys/devices/system/memory/block_size_bytes", 64, &text,
			 NULL) < 0)
		return 0;
	text[strcspn(text, "\n")] = '\0';
	return parse_u64(text, 16, &bytes) < 0 ? 0 : MAX(bytes, BLOCK_MIN_BYTES);
}

/* Built in, the driver would hand the memory out before anything of ours runs. */
static bool hmem_is_module(const struct target *t)
{
	_cleanup_free_ char *text = NULL;

	return t->config && read_file_at(AT_FDCWD, t->config, 4u << 20, &text, NULL) == 0 &&
	       strstr(text, "\nCONFIG_DEV_DAX_HMEM=m\n");
}

/* Memory that the firmware calls what "!" on the command line does (type 12): NVDIMMs. */
static bool firmware_has_pmem(void)
{
	bool found = false;
	glob_t g = { 0 };

	if (glob("/sys/firmware/memmap/*/type", 0, NULL, &g) == 0)
		for (size_t i = 0; i < g.gl_pathc; i++) {
			_cleanup_free_ char *text = NULL;

			found |= read_file_at(AT_FDCWD, g.gl_pathv[i], 256, &text, NULL) == 0 &&
				 str_starts(text, IOMEM_PMEM);
		}
	globfree(&g);
	return found;
}

/*
 * Giving memory back needs drivers, and that nothing else is of this type: the conversion on
 * the command line is for all of it. taken: ranges of others on the command line.
 */
static void plan_give_back(struct store *s, struct pmem_state *p, size_t taken)
{
	const struct target *t = &s->u->target;
	struct strv missing = { 0 };

	p->block_bytes = 0;
	if (taken || firmware_has_pmem())
		log_info("store: there is other persistent memory: ours is not given back");
	else if (!t->own_initramfs)
		/* Its driver cannot be kept off: other modules need dax_hmem (tried). */
		log_info("store: udev in the distribution's initramfs would hand the memory out "
			 "before it is read: it is not given back");
	else if (target_lacks(t, needed_back, &missing) || !hmem_is_module(t))
		log_info("store: kernel %s cannot take memory back (%s)", t->version,
			 missing.n ? strv_text(&missing) : "DEV_DAX_HMEM must be a module");
	else if (strverscmp(t->version, "6.3") < 0)
		/* Neither loads udev dax_hmem, nor takes kmem what it makes (tried with 6.1). */
		log_info("store: kernel %s does not take memory back by itself (Linux 6.3 does)", t->version);
	else
		p->block_bytes = pmem_block_bytes();
	strv_done(&missing);
}

static int check_others(struct store *s, size_t taken, char **ret_why)
{
	if (s->u->target.own_initramfs || (!taken && !firmware_has_pmem()))
		return 0;
	*ret_why = strdup("in the distribution's initramfs the driver of persistent memory must be "
			  "kept off, and there is other such memory that needs it");
	return *ret_why ? -EOPNOTSUPP : -ENOMEM;
}

/*
 * Images and processes lie side by side twice: now, and while the processes are restored. The second time all of
 * these is in memory.
 */
int pmem_plan(struct store *s, struct pmem_state *p, uint64_t need, uint64_t swapped, char **ret_why)
{
	_cleanup_free_ char *more = NULL;
	uint64_t have, reserve;
	size_t taken = 0;
	int r = check_kernels(s, ret_why);

	if (r == 0)
		r = check_cmdline(s, p, &taken, ret_why);
	if (r == 0)
		r = check_others(s, taken, ret_why);
	if (r == 0)
		r = memory_available(&have);
	if (r < 0)
		return r;
	plan_give_back(s, p, taken);
	reserve = pmem_reserve_bytes(have);
	if (need + reserve + swapped <= have)
		return 0;
	if (swapped)
		more = str_fmt(", and %" PRIu64 " MiB for what is swapped out now", swapped >> 20);
	*ret_why = str_fmt("%" PRIu64 " MiB are needed for the images and %" PRIu64 " MiB for the "
			   "kernel to be loaded and for the others meanwhile%s, %" PRIu64 " MiB are "
			   "available", need >> 20, reserve >> 20, more ? more : "", have >> 20);
	return -ENOMEM;
}
