/*
 * For tests of the new kernel's side alone.
 *
 *   standin-pack hash FILE...                              XXH3-64 of each, in hexadecimal
 *   standin-pack build OUT EARLY|- BASE|- MANIFEST IMAGES [MODULE...]
 *
 * MANIFEST is JSON without the checksum line, which is added. BASE: a distribution's initrd.
 */
#include <fcntl.h>
#include <string.h>
#include <xxhash.h>

#include "initramfs/build.h"
#include "util/io.h"
#include "util/log.h"

static int hash_files(char **paths)
{
	for (; *paths; paths++) {
		_cleanup_free_ char *text = NULL;
		size_t n;

		if (read_file_at(AT_FDCWD, *paths, READ_FILE_MAX, &text, &n) < 0)
			return 1;
		printf("%016llx\n", (unsigned long long)XXH3_64bits(text, n));
	}
	return 0;
}

static int build(int argc, char **argv)
{
	_cleanup_free_ char *json = NULL, *text = NULL;
	size_t n;
	struct initramfs_spec spec = { .base_fd = -1 };
	int out = open(argv[0], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (out < 0 || read_file_at(AT_FDCWD, argv[3], READ_FILE_MAX, &json, &n) < 0)
		return 1;
	text = str_fmt("%s\nxxh3 %016llx\n", json, (unsigned long long)XXH3_64bits(json, n));
	spec.early_path = strcmp(argv[1], "-") ? argv[1] : NULL;
	if (strcmp(argv[2], "-"))
		spec.base_fd = open(argv[2], O_RDONLY | O_CLOEXEC);
	spec.manifest = text;
	spec.manifest_bytes = strlen(text);
	spec.images_fd = open(argv[4], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	spec.modules = (const char *const *)argv + 5;
	spec.n_modules = argc - 5;
	return initramfs_build(&spec, out) < 0;
}

int main(int argc, char **argv)
{
	log_init(LOGLEVEL_INFO, -1);
	if (argc >= 3 && !strcmp(argv[1], "hash"))
		return hash_files(argv + 2);
	if (argc >= 7 && !strcmp(argv[1], "build"))
		return build(argc - 2, argv + 2);
	fprintf(stderr, "usage: see the source\n");
	return 2;
}
