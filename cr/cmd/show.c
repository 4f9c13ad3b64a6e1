/*
 * cr show: prints image files, as text or JSON. What can be read of a damaged image is
 * printed, the damage is an error.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <getopt.h>
#include <string.h>
#include <sys/stat.h>

#include "cmd/show.h"
#include "image/store.h"
#include "util/io.h"
#include "util/log.h"

static const char usage[] =
	"Usage: cr show [-j] FILE|DIRECTORY...\n"
	"Print checkpoint images.\n"
	"\n"
	"  -j, --json   as JSON (an array when there are several images); bytes in base64\n"
	"  -h, --help   this text\n"
	"\n"
	"A directory stands for all images in it. Payloads (pages, queues, file contents) are\n"
	"shown by their length and first bytes.\n";

struct show {
	struct show_style style;
	bool array;		/* JSON: several images */
	size_t n_shown;
};

static void print_image(struct show *s, struct json_object *o)
{
	if (!s->style.json) {
		show_text(o);
		s->n_shown++;
		return;
	}
	if (s->n_shown++)
		puts(",");
	puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED |
					    JSON_C_TO_STRING_NOSLASHESCAPE));
}

static int show_file(struct show *s, int dirfd, const char *name)
{
	_cleanup_image_reader_ struct image_reader file = { .data = (const uint8_t *)"" };
	struct json_object *o = NULL;
	const struct image_type *t;
	const char *slash = strrchr(name, '/');
	struct image_reader r;
	int k;

	k = image_map_file(dirfd, name, &file);
	if (k < 0)
		return log_err(k, "cannot read %s", name);
	t = image_identify(name, file.data, file.bytes);
	if (!t)
		return log_fail(-EBADMSG, "%s: not an image (neither name nor magic is known)",
				name);
	k = image_open_memory(t, slash ? slash + 1 : name, file.data, file.bytes, &r);
	if (k < 0)
		return k;
	k = show_image(&s->style, name, &r, &o);
	if (o)
		print_image(s, o);
	json_object_put(o);
	return k;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strverscmp((*a)->d_name, (*b)->d_name);
}

/* By name only: logs and scripts that lie beside the images are nobody's error. */
static int is_image_name(const struct dirent *e)
{
	return image_identify(e->d_name, NULL, 0) != NULL;
}

static int show_directory(struct show *s, const char *path)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dirent **list;
	int n, r = 0, k;

	if (fd < 0)
		return log_err(neg_errno(), "cannot open %s", path);
	n = scandirat(fd, ".", &list, is_image_name, by_name);
	if (n < 0)
		return log_err(neg_errno(), "cannot list %s", path);
	if (!n)
		r = log_fail(-ENOENT, "there are no images in %s", path);
	for (int i = 0; i < n; i++) {
		k = show_file(s, fd, list[i]->d_name);
		if (k < 0)
			r = k;
		free(list[i]);
	}
	free(list);
	return r;
}

static int show_path(struct show *s, const char *path, bool is_directory)
{
	return is_directory ? show_directory(s, path) : show_file(s, AT_FDCWD, path);
}

static bool is_dir(const char *path)
{
	struct stat st;

	return !stat(path, &st) && S_ISDIR(st.st_mode);
}

static int show_all(struct show *s, char **paths, int n)
{
	int r = 0, k;

	for (int i = 0; i < n; i++)
		s->array |= n > 1 || is_dir(paths[i]);
	s->array &= s->style.json;
	if (s->array)
		puts("[");
	for (int i = 0; i < n; i++) {
		k = show_path(s, paths[i], is_dir(paths[i]));
		if (k < 0)
			r = k;
	}
	if (s->array)
		puts("]");
	if (fflush(stdout) || ferror(stdout))
		r = log_err(neg_errno(), "cannot write the output");
	return r;
}

int cmd_show(int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	struct show s = { 0 };
	int c;

	optind = 0;	/* getopt(3): start anew, the command line was looked at before */
	while ((c = getopt_long(argc, argv, "jh", options, NULL)) >= 0) {
		switch (c) {
		case 'j':
			s.style.json = true;
			break;
		case 'h':
			fputs(usage, stdout);
			return EXIT_SUCCESS;
		default:
			fputs(usage, stderr);
			return EXIT_FAILURE;
		}
	}
	if (optind == argc) {
		fputs(usage, stderr);
		return EXIT_FAILURE;
	}
	return show_all(&s, argv + optind, argc - optind) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
