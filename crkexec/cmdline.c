#include <ctype.h>
#include <string.h>

#include "crkexec/cmdline.h"
#include "crkexec/manifest.h"
#include "crkexec/pmem_layout.h"
#include "util/io.h"

/* Length of the word at s; blanks inside double quotes belong to it. */
static size_t word_length(const char *s)
{
	bool quoted = false;
	size_t n = 0;

	for (; s[n] && (quoted || !isspace((unsigned char)s[n])); n++)
		if (s[n] == '"')
			quoted = !quoted;
	return n;
}

static bool word_has_key(const char *word, size_t n, const char *key)
{
	size_t k = strlen(key);

	return n > k && word[k] == '=' && !strncmp(word, key, k);
}

struct filter {
	bool own_initramfs;
	bool after_store;		/* an earlier upgrade's crkexec=ID,store=... was seen */
};

/*
 * Taken for one jump: on the next one it would hide memory. Ours follows crkexec=; what the
 * operator has there of his own stands before it, or after it from --append.
 */
static bool word_is_stores(const char *word, size_t n, struct filter *f)
{
	if (!f->after_store)
		return false;
	if (n == strlen(PMEM_KEEP_OFF) && !strncmp(word, PMEM_KEEP_OFF, n))
		return true;
	if (!word_has_key(word, n, "memmap"))
		return false;
	f->after_store = false;
	return true;
}

static bool word_is_dropped(const char *word, size_t n, struct filter *f)
{
	static const char *const keys[] = {
		"BOOT_IMAGE", "initrd", CRKEXEC_CMDLINE_KEY, "kexec_jump_back_entry",
	};

	if (word_has_key(word, n, CRKEXEC_CMDLINE_KEY))
		f->after_store = memmem(word, n, ",store=", strlen(",store=")) != NULL;
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		if (word_has_key(word, n, keys[i]))
			return true;
	if (f->own_initramfs && word_has_key(word, n, "rdinit"))
		return true;
	return word_is_stores(word, n, f);
}

char *cmdline_get(const char *cmdline, const char *key)
{
	char *found = NULL;

	for (const char *s = cmdline; *s; s += word_length(s)) {
		size_t n;

		s += strspn(s, " \t\n");
		n = word_length(s);
		/* "--": the rest belongs to init. */
		if (n == 2 && !strncmp(s, "--", 2))
			break;
		if (word_has_key(s, n, key)) {
			size_t k = strlen(key) + 1;

			free(found);
			found = strndup(s + k, n - k);
		}
	}
	return found;
}

bool cmdline_has(const char *cmdline, const char *word)
{
	size_t n = 0;

	for (const char *s = cmdline + strspn(cmdline, " \t\n"); *s; s += n, s += strspn(s, " \t\n")) {
		n = word_length(s);
		if (n == strlen(word) && !strncmp(s, word, n))
			return true;
	}
	return false;
}

struct line {
	char *text;
	size_t used, room;
};

static void line_add(struct line *l, const char *word, size_t n)
{
	if (l->used && n)
		l->text[l->used++] = ' ';
	memcpy(l->text + l->used, word, n);
	l->used += n;
	l->text[l->used] = '\0';
}

int cmdline_build(const char *current, const char *ours, const char *append, bool own_initramfs,
		  size_t max, char **ret)
{
	size_t room = strlen(current) + (ours ? strlen(ours) : 0) + (append ? strlen(append) : 0);
	_cleanup_free_ char *text = malloc(room + 8);
	struct line l = { text, 0, room };
	struct filter filter = { .own_initramfs = own_initramfs };
	const char *s = current, *rest = "";

	if (!text)
		return -ENOMEM;
	text[0] = '\0';
	while (*(s += strspn(s, " \t\n"))) {
		size_t n = word_length(s);

		if (n == 2 && !strncmp(s, "--", 2)) {
			rest = s;
			break;
		}
		if (!word_is_dropped(s, n, &filter))
			line_add(&l, s, n);
		s += n;
	}
	if (ours)
		line_add(&l, ours, strlen(ours));
	if (append)
		line_add(&l, append, strlen(append));
	line_add(&l, rest, strcspn(rest, "\n"));
	if (l.used > max)
		return -E2BIG;
	*ret = take_ptr(text);
	return 0;
}
