/*
 * Configuration files: one option a line, its long name without the dashes, then its value if it
 * has one, in double quotes where it contains blanks or '#'. '#' begins a comment.
 */
#include <fcntl.h>
#include <string.h>

#include "cmd/cmd.h"
#include "util/io.h"

#define DEFAULT_FILE	"/etc/criu/default.conf"
#define FILE_BYTES_MAX	(1u << 20)
#define BLANKS		" \t\r"

/* The next word of a line, unquoted in place; NULL: no more. *ret_bad: an open quote. */
static char *next_word(char **at, bool *ret_bad)
{
	char *p = *at + strspn(*at, BLANKS), *word = p, *to = p;
	bool quoted = *p == '"';

	if (!*p || *p == '#') {
		*at = p + strlen(p);
		return NULL;
	}
	p += quoted;
	while (*p && (quoted ? *p != '"' : !strchr(BLANKS "#", *p))) {
		if (quoted && p[0] == '\\' && p[1] == '"')
			p++;
		*to++ = *p++;
	}
	*ret_bad |= quoted && *p != '"';
	/* What ends the word must be read before it is overwritten. */
	*at = *p && *p != '#' ? p + 1 : p;
	if (*p == '#')
		**at = '\0';
	*to = '\0';
	return word;
}

static int take_line(struct cmd_opts *o, char *line)
{
	bool bad = false;
	const char *name = next_word(&line, &bad), *value, *more;
	char *argv[3] = { "cr" };

	if (!name)
		return 0;
	value = next_word(&line, &bad);
	more = next_word(&line, &bad);
	if (more || bad || !*name)
		return option_wrong(o, -EINVAL, "\"%s\": %s", name,
				    bad ? "a quote is not closed" : more ?
				    "it has one value at most" : "no option");
	argv[1] = value ? arena_printf(&o->arena, "--%s=%s", name, value) :
			  arena_printf(&o->arena, "--%s", name);
	return argv[1] ? cmd_take(o, 2, argv) : -ENOMEM;
}

static int take_lines(struct cmd_opts *o, char *text)
{
	char *line;
	int r = 0;

	while (r >= 0 && (line = strsep(&text, "\n")))
		r = take_line(o, line);
	return r;
}

int config_take(struct cmd_opts *o, const char *path)
{
	_cleanup_free_ char *text = NULL;
	size_t bytes;
	int r = read_file_at(AT_FDCWD, path, FILE_BYTES_MAX, &text, &bytes);

	if (r == -ENOENT)
		return r;
	o->config_file = path;
	if (r < 0)
		r = option_wrong(o, r, "cannot read it: %s", strerror(-r));
	else if (strlen(text) != bytes)
		r = option_wrong(o, -EINVAL, "it is no text");
	else
		r = take_lines(o, text);
	o->config_file = NULL;
	return r;
}

/* Nobody has asked for it: one that we may not even look for (HOME is another user's) is none. */
static int take_default(struct cmd_opts *o, const char *path)
{
	if (!access(path, R_OK))
		return config_take(o, path);
	if (errno != ENOENT && errno != ENOTDIR)
		log_warn("%s: cannot read it, it is ignored: %s", path, strerror(errno));
	return 0;
}

static int take_if_there(struct cmd_opts *o, const char *path)
{
	int r = config_take(o, path);

	return r == -ENOENT ? 0 : r;
}

static int take_of_home(struct cmd_opts *o)
{
	const char *home = getenv("HOME"), *path;

	if (!home)
		return 0;
	path = arena_printf(&o->arena, "%s/.criu/default.conf", home);
	return path ? take_default(o, path) : -ENOMEM;
}

int config_take_defaults(struct cmd_opts *o, const char *instead, bool none)
{
	const char *more = getenv("CRIU_CONFIG_FILE");
	int r = 0;

	if (!none && !instead)
		r = take_default(o, DEFAULT_FILE);
	if (r >= 0 && !none && !instead)
		r = take_of_home(o);
	if (r >= 0 && more)
		r = take_if_there(o, more);
	if (r >= 0 && instead)
		r = config_take(o, instead);
	return r == -ENOENT ? option_wrong(o, r, "--config %s: there is no such file", instead) : r;
}
