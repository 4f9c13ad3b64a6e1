/*
 * The kernel's command line, as far as it concerns us: words separated by blanks, double
 * quotes keep blanks together (as the kernel's own parser does), the last of equal keys wins.
 */
#include "initramfs/early.h"

#include <ctype.h>
#include <limits.h>
#include <string.h>

#include "util/io.h"

/* Ends the word in place and returns what follows; quotes are removed. */
static char *cut_word(char *p)
{
	bool quoted = false;
	char *to = p;

	for (; *p && (quoted || !isspace((unsigned char)*p)); p++) {
		if (*p == '"')
			quoted = !quoted;
		else
			*to++ = *p;
	}
	if (*p)
		p++;
	*to = '\0';
	return p;
}

static int take(char **field, const char *value)
{
	char *copy = strdup(value);

	if (!copy)
		return -ENOMEM;
	free(*field);
	*field = copy;
	return 0;
}

static int take_word(struct early_cmdline *c, const char *word)
{
	const char *value = strchr(word, '=');
	size_t key = value ? (size_t)(value - word) : strlen(word);
	const struct {
		const char *key;
		char **field;
	} strings[] = {
		{ "root", &c->root },		{ "rootfstype", &c->root_type },
		{ "rootflags", &c->root_flags },	{ "init", &c->init },
		{ CRKEXEC_CMDLINE_KEY, &c->id },
	};

	if (!strcmp(word, "ro"))
		c->read_only = true;
	if (!strcmp(word, "rw"))
		c->read_only = false;
	if (!value)
		return 0;
	value++;
	for (size_t i = 0; i < ARRAY_SIZE(strings); i++)
		if (key == strlen(strings[i].key) && !strncmp(word, strings[i].key, key))
			return take(strings[i].field, value);
	if (key == 5 && !strncmp(word, "panic", 5)) {
		int seconds;

		/* The kernel ignores a value it cannot read; so do we. */
		if (parse_int(value, &seconds) == 0 && seconds <= 3600)
			c->panic_seconds = seconds;
	}
	return 0;
}

/* crkexec=ID[,store=...] */
static int split_id(struct early_cmdline *c)
{
	char *at = c->id;
	int r = 0;

	strsep(&at, ",");
	while (at && r == 0) {
		const char *part = strsep(&at, ",");

		if (str_starts(part, "store="))
			r = take(&c->store, part + strlen("store="));
	}
	return r;
}

int early_cmdline_parse(const char *text, struct early_cmdline *ret)
{
	_cleanup_free_ char *copy = strdup(text);
	struct early_cmdline c = { .read_only = true };
	int r = 0;

	if (!copy)
		return -ENOMEM;
	for (char *p = copy; *p && r == 0;) {
		char *word = p;

		p = cut_word(p);
		/* What follows is for the real init. */
		if (!strcmp(word, "--"))
			break;
		r = take_word(&c, word);
	}
	if (r == 0)
		r = split_id(&c);
	if (r < 0) {
		early_cmdline_done(&c);
		return r;
	}
	*ret = c;
	return 0;
}

void early_cmdline_done(struct early_cmdline *c)
{
	free(c->root);
	free(c->root_type);
	free(c->root_flags);
	free(c->init);
	free(c->id);
	free(c->store);
	*c = (struct early_cmdline){ 0 };
}
