/*
 * Firmware that drivers ask for when they find their device, before the root file system is there: what
 * modules say they may want (modinfo -F firmware), as far as it is installed, for our own initramfs.
 *
 * The traps: newer names are patterns; a driver lists what all its devices want, so most of it is missing.
 */
#include <glob.h>
#include <string.h>
#include <sys/stat.h>

#include "crkexec/kernel.h"
#include "util/io.h"
#include "util/log.h"

static int add_files(const char *pattern, size_t skip, struct strv *ret)
{
	_cleanup_(globfree) glob_t g = { 0 };
	int r = 0;

	if (glob(pattern, GLOB_NOSORT, NULL, &g))
		return 0;
	for (size_t i = 0; i < g.gl_pathc && r == 0; i++) {
		struct stat st;

		if (stat(g.gl_pathv[i], &st) == 0 && S_ISREG(st.st_mode))
			r = strv_add_once(ret, g.gl_pathv[i] + skip);
	}
	return r;
}

int firmware_find(const char *root, const char *version, const char *name, struct strv *ret)
{
	/* Where the kernel looks (Documentation/driver-api/firmware), and as what. */
	const char *const dirs[] = { "updates/", version, "" };
	static const char *const suffixes[] = { "", ".zst", ".xz" };
	int r = 0;

	if (strstr(name, "..") || *name == '/')
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(dirs) && r == 0; i++)
		for (size_t k = 0; k < ARRAY_SIZE(suffixes) && r == 0; k++) {
			_cleanup_free_ char *pattern = str_fmt("%s/lib/firmware/%s%s%s%s", root, dirs[i],
							       dirs[i] == version ? "/" : "", name, suffixes[k]);

			r = pattern ? add_files(pattern, strlen(root), ret) : -ENOMEM;
		}
	return r;
}
