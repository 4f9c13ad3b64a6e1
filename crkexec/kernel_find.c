/*
 * Where kernels are installed: /boot/vmlinuz-VERSION (Debian, Fedora, SUSE),
 * /usr/lib/modules/VERSION/vmlinuz (kernel-install, Arch, Fedora), and Boot Loader
 * Specification entries (their "version", "linux" and "initrd" lines).
 */
#include <ctype.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "crkexec/kernel.h"
#include "util/io.h"

bool kernel_is_version(const char *s)
{
	return isdigit((unsigned char)*s) && !strchr(s, '/');
}

/* Digits by value, '~' before everything, the end before all else. */
int kernel_version_compare(const char *a, const char *b)
{
	while (*a || *b) {
		if (isdigit((unsigned char)*a) && isdigit((unsigned char)*b)) {
			size_t na, nb;
			int c;

			a += strspn(a, "0");
			b += strspn(b, "0");
			na = strspn(a, "0123456789");
			nb = strspn(b, "0123456789");
			c = na != nb ? (na < nb ? -1 : 1) : strncmp(a, b, na);
			if (c)
				return c;
			a += na;
			b += nb;
		} else if (*a == *b) {
			a++;
			b++;
		} else {
			int x = *a == '~' ? -1 : (unsigned char)*a;
			int y = *b == '~' ? -1 : (unsigned char)*b;

			return x < y ? -1 : 1;
		}
	}
	return 0;
}

void kernel_list_done(struct kernel_list *l)
{
	for (size_t i = 0; i < l->n; i++) {
		free(l->v[i].version);
		free(l->v[i].image);
		free(l->v[i].initrd);
	}
	free(l->v);
	*l = (struct kernel_list){ 0 };
}

/* Takes image and initrd. A version that is known already keeps its first place. */
static int list_add(struct kernel_list *l, const char *version, char *image, char *initrd)
{
	struct kernel_entry *v = NULL;
	char *copy = NULL;
	bool known = false;

	for (size_t i = 0; i < l->n; i++)
		known |= !strcmp(l->v[i].version, version);
	if (image && !known) {
		copy = strdup(version);
		v = reallocarray(l->v, l->n + 1, sizeof(*v));
	}
	if (!copy || !v) {
		int r = known ? 0 : -ENOMEM;

		if (v)
			l->v = v;
		free(copy);
		free(image);
		free(initrd);
		return r;
	}
	l->v = v;
	l->v[l->n++] = (struct kernel_entry){ copy, image, initrd };
	return 0;
}

static char *first_file(const char *root, const char *const *fmts, size_t n, const char *version)
{
	for (size_t i = 0; i < n; i++) {
		char path[PATH_MAX], rest[512];
		const char *p = strstr(fmts[i], "%s");
		struct stat st;

		snprintf(rest, sizeof(rest), "%.*s%s%s", (int)(p - fmts[i]), fmts[i], version, p + 2);
		if ((size_t)snprintf(path, sizeof(path), "%s%s", root, rest) < sizeof(path) &&
		    stat(path, &st) == 0)
			return strdup(path);
	}
	return NULL;
}

char *kernel_find_initrd(const char *root, const char *version)
{
	static const char *const fmts[] = {
		"/boot/initrd.img-%s", "/boot/initramfs-%s.img", "/boot/initrd-%s",
		"/boot/initrd-%s.img", "/usr/lib/modules/%s/initrd", "/usr/lib/modules/%s/initramfs.img",
	};

	return first_file(root, fmts, ARRAY_SIZE(fmts), version);
}

char *kernel_find_config(const char *root, const char *version)
{
	static const char *const fmts[] = {
		"/boot/config-%s", "/usr/lib/modules/%s/config", "/lib/modules/%s/config",
	};

	return first_file(root, fmts, ARRAY_SIZE(fmts), version);
}

char *kernel_find_modules(const char *root, const char *version)
{
	static const char *const fmts[] = { "/usr/lib/modules/%s", "/lib/modules/%s" };

	return first_file(root, fmts, ARRAY_SIZE(fmts), version);
}

static int list_boot(const char *root, struct kernel_list *l)
{
	static const char prefix[] = "vmlinuz-";
	_cleanup_free_ char *path = str_fmt("%s/boot", root);
	_cleanup_closedir_ DIR *d = path ? opendir(path) : NULL;
	struct dirent *e;

	while (d && (e = readdir(d))) {
		const char *version = e->d_name + sizeof(prefix) - 1;
		int r;

		if (!str_starts(e->d_name, prefix) || !kernel_is_version(version))
			continue;
		r = list_add(l, version, str_fmt("%s/%s", path, e->d_name),
			     kernel_find_initrd(root, version));
		if (r < 0)
			return r;
	}
	return 0;
}

static int list_modules(const char *root, struct kernel_list *l)
{
	_cleanup_free_ char *path = str_fmt("%s/usr/lib/modules", root);
	_cleanup_closedir_ DIR *d = path ? opendir(path) : NULL;
	struct dirent *e;

	while (d && (e = readdir(d))) {
		char *image;
		int r;

		if (!kernel_is_version(e->d_name))
			continue;
		image = str_fmt("%s/%s/vmlinuz", path, e->d_name);
		if (image && access(image, F_OK) < 0) {
			free(image);
			continue;
		}
		r = list_add(l, e->d_name, image, kernel_find_initrd(root, e->d_name));
		if (r < 0)
			return r;
	}
	return 0;
}

/* The value of "key value" when the line has that key, else NULL. */
static char *bls_value(char *line, const char *key)
{
	size_t n = strlen(key);
	char *end;

	if (strncmp(line, key, n) || (line[n] != ' ' && line[n] != '\t'))
		return NULL;
	line += n + strspn(line + n, " \t");
	end = line + strlen(line);
	while (end > line && isspace((unsigned char)end[-1]))
		*--end = '\0';
	return *line ? line : NULL;
}

static int list_bls_entry(const char *root, const char *boot, char *text, struct kernel_list *l)
{
	const char *version = NULL, *image = NULL, *initrd = NULL;
	char *save = NULL;

	for (char *s = strtok_r(text, "\n", &save); s; s = strtok_r(NULL, "\n", &save)) {
		const char *v;

		s += strspn(s, " \t");
		v = bls_value(s, "version");
		version = v ? v : version;
		v = bls_value(s, "linux");
		image = v ? v : image;
		v = bls_value(s, "initrd");
		initrd = v && !initrd ? v : initrd;
	}
	if (!version || !image || !kernel_is_version(version) || strstr(image, "..") ||
	    (initrd && strstr(initrd, "..")))
		return 0;
	return list_add(l, version, str_fmt("%s%s/%s", root, boot, image),
			initrd ? str_fmt("%s%s/%s", root, boot, initrd) : NULL);
}

static int list_bls(const char *root, const char *boot, struct kernel_list *l)
{
	_cleanup_free_ char *path = str_fmt("%s%s/loader/entries", root, boot);
	_cleanup_closedir_ DIR *d = path ? opendir(path) : NULL;
	struct dirent *e;

	while (d && (e = readdir(d))) {
		_cleanup_free_ char *text = NULL;
		size_t n = strlen(e->d_name);
		int r;

		if (n < 6 || strcmp(e->d_name + n - 5, ".conf") ||
		    read_file_at(dirfd(d), e->d_name, 65536, &text, NULL) < 0)
			continue;
		r = list_bls_entry(root, boot, text, l);
		if (r < 0)
			return r;
	}
	return 0;
}

static int compare_entries(const void *a, const void *b)
{
	const struct kernel_entry *x = a, *y = b;

	return kernel_version_compare(x->version, y->version);
}

int kernel_list(const char *root, struct kernel_list *ret)
{
	static const char *const boots[] = { "/boot", "/boot/efi", "/efi" };
	int r = list_boot(root, ret);

	if (r == 0)
		r = list_modules(root, ret);
	for (size_t i = 0; i < ARRAY_SIZE(boots) && r == 0; i++)
		r = list_bls(root, boots[i], ret);
	if (r < 0) {
		kernel_list_done(ret);
		return r;
	}
	if (ret->n)
		qsort(ret->v, ret->n, sizeof(*ret->v), compare_entries);
	return 0;
}

void target_done(struct target *t)
{
	free(t->version);
	free(t->image);
	free(t->initrd);
	free(t->config);
	free(t->modules_dir);
	*t = (struct target){ 0 };
}
