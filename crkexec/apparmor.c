/*
 * AppArmor profiles of the chosen services. The kernel gives back what was loaded, byte by byte
 * (CONFIG_SECURITY_APPARMOR_EXPORT_BINARY), and a newer one takes it: so the early program loads it before the
 * trees come back, and needs neither parser nor cache. The real system's service replaces the profile later, as
 * it does for services that run.
 */
#include <dirent.h>
#include <fcntl.h>
#include <string.h>

#include "crkexec/phases.h"
#include "crkexec/strv.h"
#include "util/io.h"
#include "util/log.h"

#define PROFILES	"/sys/kernel/security/apparmor/policy/profiles"
#define RAW_MAX		(64u << 20)
#define NAME_BYTES	4096u

static const struct image_type image_profile = {
	.name = "apparmor", .file_fmt = "apparmor-%u.img", .framing = IMAGE_RAW,
};

int apparmor_profile_of(const char *label, char **ret)
{
	const char *mode = strrchr(label, '('), *child = strstr(label, "//");
	size_t n = strlen(label);

	if (label[0] == ':' || strstr(label, "//&"))
		return -EINVAL;
	if (mode && mode > label + 1 && mode[-1] == ' ' && label[n - 1] == ')')
		n = (size_t)(mode - 1 - label);
	if (child && child < label + n)
		n = (size_t)(child - label);
	*ret = strndup(label, n);
	return *ret ? 0 : -ENOMEM;
}

/* The path of its binary, of the newest of that name. */
static int find_binary(const char *profile, char **ret)
{
	_cleanup_closedir_ DIR *d = opendir(PROFILES);
	struct dirent *e;

	*ret = NULL;
	while (d && (e = readdir(d))) {
		_cleanup_free_ char *path = str_fmt("%s/name", e->d_name), *name = NULL;

		if (e->d_name[0] == '.' || !path || read_file_at(dirfd(d), path, NAME_BYTES, &name, NULL) < 0)
			continue;
		name[strcspn(name, "\n")] = '\0';
		if (strcmp(name, profile))
			continue;
		free(*ret);
		*ret = str_fmt(PROFILES "/%s/raw_data", e->d_name);
		if (!*ret)
			return -ENOMEM;
	}
	return *ret && access(*ret, R_OK) == 0 ? 0 : -ENOENT;
}

int apparmor_note(struct manifest_unit *mu, const char *label)
{
	struct strv list = { mu->profiles, mu->n_profiles };
	_cleanup_free_ char *profile = NULL, *path = NULL;
	int r = apparmor_profile_of(label, &profile);

	if (r == 0)
		r = find_binary(profile, &path);
	if (r < 0)
		return r;
	r = strv_add_once(&list, profile);
	mu->profiles = list.v;
	mu->n_profiles = list.n;
	return r;
}

static int write_one(const char *profile, unsigned int number, struct image_store *images)
{
	_cleanup_image_writer_ struct image_writer *w = NULL;
	_cleanup_free_ char *path = NULL, *raw = NULL;
	size_t bytes;
	int r = find_binary(profile, &path);

	if (r == 0)
		r = read_file_at(AT_FDCWD, path, RAW_MAX, &raw, &bytes);
	if (r == 0)
		r = image_create(images, &image_profile, &w, number);
	if (r == 0)
		r = image_put_raw(w, raw, bytes);
	if (r == 0)
		r = image_close(take_ptr(w));
	return r < 0 ? log_err(r, "cannot save the AppArmor profile %s", profile) : 0;
}

int apparmor_write(const struct manifest_unit *mu, struct image_store *images)
{
	int r = 0;

	for (size_t i = 0; i < mu->n_profiles && r == 0; i++)
		r = write_one(mu->profiles[i], (unsigned int)i, images);
	return r;
}
