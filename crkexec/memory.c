#include <fcntl.h>
#include <string.h>

#include "crkexec/memory.h"
#include "util/io.h"
#include "util/log.h"

#define PROCESS_BYTES	(512u << 10)
#define TREE_BYTES	(4u << 20)

int meminfo_value(const char *text, const char *key, uint64_t *ret_bytes)
{
	size_t n = strlen(key);

	for (const char *s = text; s; s = strchr(s, '\n')) {
		unsigned long long v;

		s += *s == '\n';
		if (strncmp(s, key, n) || s[n] != ':')
			continue;
		if (sscanf(s + n + 1, " %llu kB", &v) != 1 || v > UINT64_MAX >> 10)
			return -EBADMSG;
		*ret_bytes = (uint64_t)v << 10;
		return 0;
	}
	return -ENOENT;
}

int memory_available(uint64_t *ret_bytes)
{
	_cleanup_free_ char *text = NULL;
	int r = read_file_at(AT_FDCWD, "/proc/meminfo", 65536, &text, NULL);

	if (r == 0)
		r = meminfo_value(text, "MemAvailable", ret_bytes);
	return r < 0 ? log_err(r, "cannot read /proc/meminfo") : 0;
}

static int add_process(pid_t pid, struct memory_estimate *e)
{
	static const char *const keys[] = { "Anonymous", "Pss_Shmem", "Pss_Dirty", "SwapPss" };
	_cleanup_free_ char *text = NULL;
	uint64_t v[ARRAY_SIZE(keys)] = { 0 };
	char path[48];
	int r;

	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", pid);
	r = read_file_at(AT_FDCWD, path, 65536, &text, NULL);
	/* Ended, or a zombie: no memory. */
	if (r == -ENOENT || r == -ESRCH)
		return 0;
	if (r < 0)
		return log_err(r, "cannot read %s", path);
	for (size_t k = 0; k < ARRAY_SIZE(keys); k++) {
		r = meminfo_value(text, keys[k], &v[k]);
		if (r < 0 && r != -ENOENT)
			return log_err(r, "cannot understand %s", path);
	}
	/* Written private file pages are anonymous as well; Pss_Dirty is newer than these. */
	e->bytes += MAX(v[0] + v[1], v[2]) + v[3] + PROCESS_BYTES;
	e->private_bytes += v[0];
	e->swapped_bytes += v[3];
	return 0;
}

int memory_estimate_tree(const struct unit_tree *t, struct memory_estimate *ret)
{
	int r = 0;

	*ret = (struct memory_estimate){ .bytes = TREE_BYTES };
	for (size_t i = 0; i < t->n_pids && r == 0; i++)
		r = add_process(t->pids[i], ret);
	ret->bytes += ret->bytes / 8;
	return r;
}
