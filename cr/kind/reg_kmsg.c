/*
 * /dev/kmsg: which record of the kernel's log is read next.
 *
 *   dump     no file of the kernel shows it: from its own structure (kernel/peek.h). Where that cannot be
 *            read: who has read all there is comes behind the last record, which a file of our own finds
 *   restore  in the same boot records are read up to that place, for lseek(2) knows only the ends
 *
 * Where the place is not known, and in another boot, a reader begins at the first record: twice rather
 * than never.
 */
#include <fcntl.h>
#include <poll.h>
#include <string.h>

#include "kernel/peek.h"
#include "kind/kinds.h"

/* A record with what belongs to it is 8 KiB at most; a shorter buffer is EINVAL. */
#define RECORD_MAX 16384

static int boot_id_read(char **ret)
{
	int r = read_file_at(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 64, ret, NULL);

	if (r >= 0)
		(*ret)[strcspn(*ret, "\n")] = '\0';
	return r;
}

/* "6,1047,93842231,-;text": 1047. 1, 0 at the end, or -errno. The file does not block. */
static int record_read(int fd, uint64_t *ret_number)
{
	_cleanup_free_ char *text = malloc(RECORD_MAX + 1);
	unsigned long long number;
	ssize_t n;

	if (!text)
		return -ENOMEM;
	do
		n = read(fd, text, RECORD_MAX);
	while (n < 0 && (errno == EPIPE /* overwritten */ || errno == EINTR));
	if (n < 0)
		return errno == EAGAIN ? 0 : neg_errno();
	text[n] = '\0';
	if (sscanf(text, "%*u,%llu,", &number) != 1)
		return -EBADMSG;
	*ret_number = number;
	return 1;
}

static bool has_read_all(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return !poll(&p, 1, 0);
}

static int next_peek(struct dump_ctx *ctx, int fd, uint64_t *ret)
{
	uint64_t user, at;
	struct peek *pk;
	int r = dump_peek_private(ctx, fd, &pk, &user);

	if (r >= 0)
		r = peek_inside(pk, user, "devkmsg_user", "seq", &at);
	return r < 0 ? r : peek_word(pk, at, ret);
}

/*
 * 1, or 0: there is more to read. First to the end, then the poll: whose next record is none yet after that
 * had no other before.
 */
static int next_find(const struct dump_file *f, uint64_t *ret)
{
	_cleanup_close_ int own = -EBADF;
	uint64_t last = UINT64_MAX;
	int r;

	if (!has_read_all(f->fd))
		return 0;
	r = reopen_fd(f->fd, O_RDONLY | O_NONBLOCK, &own);
	if (r < 0)
		return r;
	while ((r = record_read(own, &last)) > 0)
		;
	*ret = last + 1;
	return r < 0 ? r : last != UINT64_MAX && has_read_all(f->fd);
}

int reg_kmsg_dump(struct dump_ctx *ctx, const struct dump_file *f, RegFileEntry *e)
{
	KmsgPlaceEntry *place = ARENA_MSG(&ctx->arena, KmsgPlaceEntry, kmsg_place_entry);
	_cleanup_free_ char *boot_id = NULL;
	int r;

	if (!place)
		return -ENOMEM;
	if (f->flags & O_PATH || (f->flags & O_ACCMODE) == O_WRONLY)
		return 0;
	r = boot_id_read(&boot_id);
	if (r < 0)
		return r;
	if (next_peek(ctx, f->fd, &place->next) < 0) {
		r = next_find(f, &place->next);
		if (r <= 0)
			return r;
	}
	place->boot_id = arena_strdup(&ctx->arena, boot_id);
	e->kmsg = place;
	return place->boot_id ? 0 : -ENOMEM;
}

int reg_kmsg_seek(int fd, const RegFileEntry *e)
{
	_cleanup_free_ char *boot_id = NULL;
	int flags = fcntl(fd, F_GETFL), r;
	uint64_t number = 0;

	r = boot_id_read(&boot_id);
	if (r < 0)
		return r;
	if (strcmp(boot_id, e->kmsg->boot_id))
		return 0;
	/* The caller sets the saved flags afterwards. */
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return neg_errno();
	do
		r = record_read(fd, &number);
	while (r > 0 && number + 1 < e->kmsg->next);
	/* Those before it are gone already, and the first that is left was read: not to be lost. */
	if (r > 0 && number >= e->kmsg->next)
		r = lseek(fd, 0, SEEK_SET) < 0 ? neg_errno() : 0;
	return r < 0 ? r : 0;
}
