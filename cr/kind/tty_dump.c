/*
 * Dump of one file of a terminal: which terminal it is, its settings, its path.
 */
#include <fcntl.h>
#include <linux/kd.h>
#include <linux/vt.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "kernel/stat.h"
#include "kind/tty.h"

#define DELETED " (deleted)"
/* Numbers that CRIU gives to what has no number of its own. */
enum { INDEX_CONSOLE = 1002, INDEX_VT = 1004, INDEX_CTTY = 1006, INDEX_SERIAL = 1010,
       INDEX_EXTERNAL = 1013, INDEX_ODD = 1u << 20 };

struct tty_sides *tty_sides(struct dump_ctx *ctx)
{
	void **slot = &ctx->kind_state[FD_TYPES__TTY];

	if (!*slot)
		*slot = ARENA_NEW(&ctx->arena, struct tty_sides);
	return *slot;
}

struct tty_side *tty_side_find(const struct tty_sides *s, TtyType type, dev_t tty, bool master)
{
	for (size_t i = 0; i < s->n; i++)
		if (!s->sides[i]->hung && s->sides[i]->e->type == type &&
		    s->sides[i]->tty == tty && s->sides[i]->master == master)
			return s->sides[i];
	return NULL;
}

/* CRIU's number where it is still free. */
static uint32_t side_id(struct tty_sides *s, TtyType type, dev_t tty, bool master)
{
	static const uint32_t fixed[] = {
		[TTY_TYPE__CONSOLE] = INDEX_CONSOLE, [TTY_TYPE__VT] = INDEX_VT,
		[TTY_TYPE__CTTY] = INDEX_CTTY, [TTY_TYPE__SERIAL] = INDEX_SERIAL,
		[TTY_TYPE__EXT_TTY] = INDEX_EXTERNAL,
	};
	uint32_t id = (type == TTY_TYPE__PTY ? minor(tty) : fixed[type]) << 1 | master;

	for (size_t i = 0; i < s->n; i++)
		if (s->sides[i]->e->id == id)
			return (INDEX_ODD + s->n_odd_ids++) << 1 | master;
	return id;
}

static int side_new(struct dump_ctx *ctx, TtyType type, dev_t tty, bool master,
		    struct tty_side **ret)
{
	struct tty_sides *s = tty_sides(ctx);
	struct tty_side *side = ARENA_NEW(&ctx->arena, struct tty_side), **slot;
	uint32_t id;

	if (!s || !side)
		return log_err(-ENOMEM, "terminal");
	id = side_id(s, type, tty, master);
	*side = (struct tty_side){ .e = ARENA_MSG(&ctx->arena, TtyInfoEntry, tty_info_entry),
				   .tty = tty, .master_fd = -1, .master = master };
	slot = ARENA_PUSH(&ctx->arena, s->sides, s->n);
	if (!side->e || !slot)
		return log_err(-ENOMEM, "terminal");
	*slot = side;
	side->e->id = id;
	side->e->type = type;
	if (type == TTY_TYPE__PTY) {
		side->e->pty = ARENA_MSG(&ctx->arena, TtyPtyEntry, tty_pty_entry);
		if (!side->e->pty)
			return log_err(-ENOMEM, "terminal");
		side->e->pty->index = minor(tty);
	}
	*ret = side;
	return 0;
}

static int side_get(struct dump_ctx *ctx, TtyType type, dev_t tty, bool master,
		    struct tty_side **ret)
{
	struct tty_sides *s = tty_sides(ctx);

	*ret = s ? tty_side_find(s, type, tty, master) : NULL;
	return *ret ? 0 : side_new(ctx, type, tty, master, ret);
}

static void node_put(struct dump_ctx *ctx, TtyInfoEntry *e, const struct stat *st)
{
	e->rdev = (uint32_t)st->st_rdev;
	e->has_dev = e->has_uid = e->has_gid = e->has_mode = true;
	e->dev = (uint32_t)st->st_dev;
	e->uid = dump_uid(ctx, st->st_uid);
	e->gid = dump_gid(ctx, st->st_gid);
	e->mode = st->st_mode & 07777;
}

/* The slave's node, which may have no file in the tree. O_PATH opens the node, not the terminal. */
static int pts_stat(int master, struct stat *st)
{
	_cleanup_close_ int fd = ioctl(master, TIOCGPTPEER, O_PATH | O_CLOEXEC);

	return fd < 0 || fstat(fd, st) < 0 ? neg_errno() : 0;
}

/* Numbers are those of an instance of devpts; images name a pair by its number alone. */
static int instance_check(const struct dump_file *f, const struct tty_side *side,
			  const struct stat *st)
{
	if (!side->e->has_dev || side->e->dev == (uint32_t)st->st_dev)
		return 0;
	return log_obstacle("close one of them before",
			    "%s: there is another terminal of this number in another devpts",
			    f->link);
}

static int master_dump(struct dump_ctx *ctx, struct dump_file *f, struct tty_side **ret)
{
	struct tty_side *side, *slave;
	unsigned int index;
	struct stat st;
	int r;

	if (ioctl(f->fd, TIOCGPTN, &index) < 0 || index >= PTY_INDEX_MAX)
		return log_err(neg_errno(), "cannot read the terminal's number");
	r = pts_stat(f->fd, &st);
	if (r < 0)
		return log_err(r, "cannot look at slave %u of %s", index, f->link);
	r = side_get(ctx, TTY_TYPE__PTY, makedev(TTY_MAJOR_PTS, index), true, &side);
	if (r >= 0)
		r = side_get(ctx, TTY_TYPE__PTY, makedev(TTY_MAJOR_PTS, index), false, &slave);
	if (r >= 0)
		r = instance_check(f, slave, &st);
	if (r < 0)
		return r;
	*ret = side;
	if (side->f)
		return log_obstacle("close one of them before",
				    "%s: there is another terminal of number %u in another devpts",
				    f->link, index);
	side->master_fd = fcntl(f->fd, F_DUPFD_CLOEXEC, 3);
	if (side->master_fd < 0)
		return log_err(neg_errno(), "cannot keep the master");
	side->f = f;
	node_put(ctx, slave->e, &st);
	node_put(ctx, side->e, &f->st);
	r = tty_params_get(&ctx->arena, f->fd, side->e);
	return r < 0 || slave->f ? r : tty_params_get(&ctx->arena, f->fd, slave->e);
}

static int hung_dump(struct dump_ctx *ctx, struct dump_file *f, struct tty_side **ret)
{
	dev_t tty = major(f->st.st_rdev) == TTY_MAJOR_PTS ? f->st.st_rdev :
							    makedev(TTY_MAJOR_PTS, 0);
	int r;

	if (major(f->st.st_rdev) != TTY_MAJOR_PTS && f->st.st_rdev != TTY_DEV_CTTY)
		return log_obstacle("close it before", "%s: a terminal that was hung up", f->link);
	r = side_new(ctx, TTY_TYPE__PTY, tty, false, ret);
	if (r < 0)
		return r;
	(*ret)->hung = true;
	(*ret)->f = f;
	node_put(ctx, (*ret)->e, &f->st);
	return 0;
}

/* What the program makes of a console itself: graphics, its own switching, scan codes. */
static int console_check(const struct dump_file *f)
{
	struct vt_mode vt = { 0 };
	int mode = KD_TEXT, keys = K_XLATE;

	if (ioctl(f->fd, KDGETMODE, &mode) < 0 || ioctl(f->fd, VT_GETMODE, &vt) < 0 ||
	    ioctl(f->fd, KDGKBMODE, &keys) < 0)
		return 0;	/* no virtual console */
	if (mode == KD_TEXT && vt.mode == VT_AUTO && (keys == K_XLATE || keys == K_UNICODE))
		return 0;
	return log_obstacle("stop the program that draws on the screen before",
			    "%s: a console in graphics mode, or with its own switching or keyboard",
			    f->link);
}

static int unread_read(const struct dump_file *f, int *ret)
{
	return ioctl(f->fd, FIONREAD, ret) < 0 ?
	       log_err(neg_errno(), "cannot look for unread input of %s", f->link) : 0;
}

/* What is typed to a real terminal is not taken out and put back. */
static int device_check(struct dump_file *f)
{
	int unread, r;

	r = dump_path_names(f->owner, f->link, f->mnt_id, &f->st);
	if (r < 0)
		return log_err(r, "cannot look up %s", f->link);
	if (!r)
		return log_obstacle("close it before, or take away what is mounted over it",
				    "%s: the path leads to another file now", f->link);
	r = unread_read(f, &unread);
	if (r < 0)
		return r;
	if (unread)
		return log_obstacle("try again when the program has read it",
				    "%s: %d bytes of input are unread", f->link, unread);
	return console_check(f);
}

/* The terminal behind a file that is not a master. -EIO: hung up. */
static int tty_of(const struct dump_file *f, dev_t *ret)
{
	unsigned int nr;

	if (ioctl(f->fd, TIOCGDEV, &nr) < 0)
		return neg_errno();
	*ret = dev_of_kernel(nr);
	return 0;
}

static TtyType type_of(dev_t dev)
{
	if (dev == TTY_DEV_CONSOLE)
		return TTY_TYPE__CONSOLE;
	if (major(dev) == TTY_MAJOR_PTS)
		return TTY_TYPE__PTY;
	return major(dev) == 4 && minor(dev) < 64 ? TTY_TYPE__VT : TTY_TYPE__SERIAL;
}

/* Without settings CRIU takes it for hung up. */
static int ctty_put(struct dump_ctx *ctx, struct dump_file *f, const struct tty_side *terminal,
		    struct tty_side *side)
{
	int r = side->f ? 0 : tty_params_get(&ctx->arena, f->fd, side->e);

	if (r < 0)
		return r;
	side->f = f;
	side->e->has_terminal = true;
	side->e->terminal = terminal->e->id;
	node_put(ctx, side->e, &f->st);
	return 0;
}

static int other_dump(struct dump_ctx *ctx, struct dump_file *f, struct tty_side **ret)
{
	bool is_ctty = f->st.st_rdev == TTY_DEV_CTTY;
	struct tty_side *side;
	TtyType type;
	dev_t tty;
	int r;

	r = tty_of(f, &tty);
	if (r == -EIO)
		return hung_dump(ctx, f, ret);
	if (r < 0)
		return log_err(r, "cannot read which terminal it is");
	type = type_of(is_ctty ? tty : f->st.st_rdev);
	r = side_get(ctx, type, tty, false, &side);
	if (r >= 0 && type == TTY_TYPE__PTY && !is_ctty)
		r = instance_check(f, side, &f->st);
	if (r >= 0 && type != TTY_TYPE__PTY)
		r = device_check(f);
	if (r < 0)
		return r;
	*ret = side;
	if (!side->f)
		r = tty_params_get(&ctx->arena, f->fd, side->e);
	if (r >= 0 && type == TTY_TYPE__PTY)
		r = unread_read(f, &side->unread);
	/* /dev/tty says nothing of the terminal's own node. */
	if (r >= 0 && (!side->f || !side->e->has_dev) && !is_ctty) {
		node_put(ctx, side->e, &f->st);
		side->mnt_id = f->mnt_id;
	}
	if (!side->f)
		side->f = f;
	if (r < 0 || !is_ctty)
		return r;
	r = side_get(ctx, TTY_TYPE__CTTY, tty, false, ret);
	if (r < 0)
		return r;
	return ctty_put(ctx, f, side, *ret);
}

void tty_external_key(char key[TTY_KEY_MAX], uint64_t rdev, uint64_t dev)
{
	snprintf(key, TTY_KEY_MAX, "tty[%llx:%llx]", (unsigned long long)rdev,
		 (unsigned long long)dev);
}

static bool is_external(struct dump_ctx *ctx, const struct dump_file *f)
{
	char key[TTY_KEY_MAX];

	tty_external_key(key, f->st.st_rdev, f->st.st_dev);
	return external_find(ctx->opts, key);
}

static int external_dump(struct dump_ctx *ctx, struct dump_file *f, struct tty_side **ret)
{
	int r = side_get(ctx, TTY_TYPE__EXT_TTY, f->st.st_rdev, false, ret);

	if (r < 0)
		return r;
	(*ret)->f = f;
	node_put(ctx, (*ret)->e, &f->st);
	return 0;
}

/* The path of the file, as a REG entry that no descriptor shows. Never a ghost. */
static int path_put(struct dump_ctx *ctx, struct dump_file *f, TtyFileEntry *e)
{
	FileEntry *fe = ARENA_MSG(&ctx->arena, FileEntry, file_entry);
	RegFileEntry *reg = ARENA_MSG(&ctx->arena, RegFileEntry, reg_file_entry);
	FownEntry *fown = ARENA_MSG(&ctx->arena, FownEntry, fown_entry);
	size_t n = strlen(f->link), cut = strlen(DELETED);

	if (n > cut && !strcmp(f->link + n - cut, DELETED))
		n -= cut;
	if (!fe || !reg || !fown || !(reg->name = arena_strndup(&ctx->arena, f->link, n)))
		return log_err(-ENOMEM, "%s", f->link);
	e->has_regf_id = true;
	e->regf_id = fe->id = reg->id = dump_file_new_id(ctx);
	fe->type = FD_TYPES__REG;
	fe->reg = reg;
	reg->flags = f->flags;
	reg->fown = fown;
	reg->has_mode = true;
	reg->mode = f->st.st_mode;
	if (ctx->mntns_dumped && f->mnt_id >= 0) {
		reg->has_mnt_id = true;
		reg->mnt_id = f->mnt_id;
	}
	return dump_file_put(ctx, fe);
}

int tty_dump(struct dump_ctx *ctx, struct dump_file *f)
{
	TtyFileEntry *e = ARENA_MSG(&ctx->arena, TtyFileEntry, tty_file_entry);
	bool external = is_external(ctx, f);
	struct tty_side *side = NULL;
	int r;

	if (!e)
		return log_err(-ENOMEM, "%s", f->link);
	if (external)
		r = external_dump(ctx, f, &side);
	else if (f->st.st_rdev == TTY_DEV_PTMX)
		r = master_dump(ctx, f, &side);
	else
		r = other_dump(ctx, f, &side);
	if (r < 0)
		return r;
	e->id = f->id;
	e->tty_info_id = side->e->id;
	e->flags = f->flags;
	f->fe->tty = e;
	r = external ? 0 : path_put(ctx, f, e);
	return r < 0 ? r : dump_fown(ctx, f, &e->fown);
}
