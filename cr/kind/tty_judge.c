/*
 * Dump of terminals, when all files of the tree are known: whose session, who is outside, what
 * is queued. Then tty-info.img and tty-data.img are written.
 *
 * TIOCGSID on a master tells the session of its slave; on a slave it answers only to members of
 * that session, so /proc/PID/stat tells it for terminals whose other end is elsewhere.
 */
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>

#include "core/files_dump.h"
#include "core/pids.h"
#include "kind/tty.h"

#define REMEDY_OUTSIDE	"start it as a service without terminal, or include the program that shows " \
			"the terminal; for a job of a shell give --shell-job to dump and restore; a " \
			"container's runtime gives orphan_pts_master"

/* One that has ended keeps its number where that is everybody's. */
static uint32_t group_virtual(struct dump_ctx *ctx, int pgrp)
{
	if (pgrp <= 0)
		return 0;
	return ctx->pid_level ? dump_pgid_virtual(ctx, pgrp) : (uint32_t)pgrp;
}

/* The terminal's session as its members in the tree have it. */
static void session_by_members(struct dump_ctx *ctx, struct tty_side *side)
{
	for (size_t i = 0; i < ctx->n_procs; i++) {
		const struct dump_process *p = ctx->procs[i];

		if (p->life == TASK_DEAD || p->tty != side->tty)
			continue;
		side->e->sid = p->sid;
		side->e->pgrp = group_virtual(ctx, p->tty_pgrp);
		return;
	}
}

/* The session of a pair whose master is in the tree; its leader must be there, too. */
static int session_of_pair(struct dump_ctx *ctx, struct tty_side *m, struct tty_side *slave)
{
	const struct dump_process *leader;
	int sid, pgrp;

	if (ioctl(m->master_fd, TIOCGSID, &sid) < 0)
		return errno == ENOTTY ? 0 : log_err(neg_errno(), "cannot read its session");
	if (ioctl(m->master_fd, TIOCGPGRP, &pgrp) < 0)
		return log_err(neg_errno(), "cannot read its foreground group");
	if (sid <= 0)
		return 0;
	leader = dump_process_find(ctx, sid);
	if (!leader)
		return log_obstacle("choose the process above both",
				    "%s: the session %d on this terminal is outside the tree",
				    m->f->link, sid);
	m->e->sid = slave->e->sid = leader->pid_virtual;
	m->e->pgrp = slave->e->pgrp = group_virtual(ctx, pgrp);
	return 0;
}

static int judge_master(struct dump_ctx *ctx, struct tty_side *m)
{
	struct tty_side *slave = tty_side_find(tty_sides(ctx), TTY_TYPE__PTY, m->tty, false);
	struct pollfd p = { m->master_fd, POLLIN, 0 };

	p.events |= POLLPRI;
	if (poll(&p, 1, 0) < 0)
		return log_err(neg_errno(), "cannot look at the master");
	if (p.revents & POLLPRI)
		return log_obstacle("try again when the program has read it",
				    "%s: a status of packet mode is unread", m->f->link);
	if (!slave->f && !(p.revents & POLLHUP)) {
		m->e->has_fresh = m->e->fresh = true;
		if (!m->e->locked)
			log_warn("%s: its slave is not open in the tree; if it is outside, that end is lost",
				 m->f->link);
	}
	return session_of_pair(ctx, m, slave);
}

/* A slave without its master: somebody outside shows this terminal. */
static int judge_outside(struct dump_ctx *ctx, struct tty_side *side)
{
	struct tty_sides *s = tty_sides(ctx);

	if (tty_side_is_orphan(ctx, side)) {
		session_by_members(ctx, side);
		return tty_judge_orphan(side);
	}
	if (!ctx->opts->shell_job)
		return log_obstacle(REMEDY_OUTSIDE,
				    "%s: a terminal whose master is outside the tree", side->f->link);
	for (size_t i = 0; s->sides[i] != side; i++)
		if (s->sides[i]->e->type == TTY_TYPE__PTY && !s->sides[i]->hung &&
		    !tty_side_is_orphan(ctx, s->sides[i]) &&
		    !tty_side_find(s, TTY_TYPE__PTY, s->sides[i]->tty, true))
			return log_obstacle("close one of them before: --shell-job can replace only one",
					    "%s: a second terminal whose master is outside the tree",
					    side->f->link);
	session_by_members(ctx, side);
	return 0;
}

static int judge(struct dump_ctx *ctx, struct tty_side *side)
{
	if (side->hung || side->e->type == TTY_TYPE__EXT_TTY)
		return 0;
	if (side->master)
		return judge_master(ctx, side);
	/* A slave with a master got its session from that. */
	if (tty_side_find(tty_sides(ctx), TTY_TYPE__PTY, side->tty, true))
		return 0;
	if (side->e->type == TTY_TYPE__PTY)
		return judge_outside(ctx, side);
	session_by_members(ctx, side);
	return 0;
}

/*
 * A controlling terminal is made again with a file of it. With --shell-job the session of the
 * root gets the one that the restore has.
 */
static int judge_process(struct dump_ctx *ctx, const struct dump_process *p)
{
	const struct tty_sides *s = tty_sides(ctx);
	const struct dump_process *leader = dump_process_find_virtual(ctx, p->sid);

	if (p->life == TASK_DEAD || !leader || !leader->tty ||
	    (ctx->opts->shell_job && p->sid == ctx->procs[0]->sid))
		return 0;
	if (!p->tty) {
		log_warn("process %d (%s) has given its session's terminal up: it comes back with it",
			 p->pid, p->comm);
		return 0;
	}
	for (size_t i = 0; s && i < s->n; i++)
		if (!s->sides[i]->hung && s->sides[i]->tty == p->tty)
			return 0;
	if (p != leader)
		return 0;
	return log_obstacle(REMEDY_OUTSIDE,
			    "process %d (%s): its controlling terminal (device %u:%u) is open outside the tree only",
			    p->pid, p->comm, major(p->tty), minor(p->tty));
}

/* /dev/tty is its terminal's session. */
static void ctty_sessions(struct tty_sides *s)
{
	for (size_t i = 0; i < s->n; i++) {
		struct tty_side *c = s->sides[i];

		if (c->e->type != TTY_TYPE__CTTY)
			continue;
		for (size_t k = 0; k < s->n; k++)
			if (s->sides[k]->e->id == c->e->terminal) {
				c->e->sid = s->sides[k]->e->sid;
				c->e->pgrp = s->sides[k]->e->pgrp;
			}
	}
}

static int queue_write(struct dump_ctx *ctx, struct image_writer **w, uint32_t id, const void *p,
		       uint32_t n, const struct tty_queues *pushes)
{
	TtyDataEntry e = TTY_DATA_ENTRY__INIT;
	int r = 0;

	e.tty_id = id;
	e.data.data = (uint8_t *)p;
	e.data.len = n;
	e.n_pushed = pushes ? pushes->n_pushed : 0;
	e.pushed = pushes ? (uint32_t *)pushes->pushed : NULL;
	if (!n && !e.n_pushed)
		return 0;
	if (!*w)
		r = image_create(ctx->store, &image_tty_data, w);
	if (r >= 0)
		r = image_put(*w, &e.base);
	return r < 0 ? log_err(r, "cannot write tty-data.img") : 0;
}

static int queues_write(struct dump_ctx *ctx, struct tty_side **masters, struct tty_queues *queues,
			size_t n)
{
	_cleanup_image_writer_ struct image_writer *w = NULL;

	for (size_t i = 0; i < n; i++) {
		TtyInfoEntry *m = masters[i]->e;
		const struct tty_queues *q = &queues[i];
		struct tty_side *slave = tty_side_find(tty_sides(ctx), TTY_TYPE__PTY,
						       masters[i]->tty, false);
		int r;

		if (q->stopped != TTY_FLOWS) {
			m->has_stopped = true;
			m->stopped = q->stopped;
		}
		r = queue_write(ctx, &w, m->id, q->out, q->n_out, NULL);
		if (r >= 0)
			r = queue_write(ctx, &w, slave->e->id, q->in, q->n_in, q);
		if (r < 0)
			return r;
	}
	return image_close(take_ptr(w));
}

static int queues_dump(struct dump_ctx *ctx, struct tty_sides *s)
{
	struct tty_side **masters = arena_alloc(&ctx->arena, (s->n + 1) * sizeof(*masters));
	struct tty_peek *peeks = arena_alloc(&ctx->arena, (s->n + 1) * sizeof(*peeks));
	struct tty_queues *queues;
	size_t n = 0;
	int r;

	if (!masters || !peeks)
		return log_err(-ENOMEM, "terminals");
	for (size_t i = 0; i < s->n; i++)
		if (s->sides[i]->master && !s->sides[i]->e->fresh)
			masters[n++] = s->sides[i];
	if (!n)
		return 0;
	queues = mmap(NULL, n * sizeof(*queues), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (queues == MAP_FAILED)
		return log_err(neg_errno(), "terminals");
	for (size_t i = 0; i < n; i++)
		peeks[i] = (struct tty_peek){ masters[i]->master_fd, &queues[i] };
	r = tty_queues_peek(peeks, n);
	if (r < 0)
		r = log_err(r, "cannot read what is queued in the tree's terminals");
	else
		r = queues_write(ctx, masters, queues, n);
	munmap(queues, n * sizeof(*queues));
	return r;
}

static int infos_write(struct dump_ctx *ctx, struct tty_sides *s)
{
	_cleanup_image_writer_ struct image_writer *w = NULL;
	int r;

	r = image_create(ctx->store, &image_tty_info, &w);
	for (size_t i = 0; r >= 0 && i < s->n; i++)
		r = image_put(w, &s->sides[i]->e->base);
	if (r >= 0)
		r = image_close(take_ptr(w));
	return r < 0 ? log_err(r, "cannot write tty-info.img") : 0;
}

int tty_dump_end(struct dump_ctx *ctx)
{
	struct tty_sides *s = ctx->kind_state[FD_TYPES__TTY];
	int refused = tty_judge_mounts(ctx), r;

	for (size_t i = 0; i < ctx->n_procs; i++) {
		r = judge_process(ctx, ctx->procs[i]);
		refused = r < 0 ? r : refused;
	}
	for (size_t i = 0; s && i < s->n; i++) {
		struct dump_file *f = s->sides[i]->f;

		/* The slave's end of a master that has none in the tree. */
		if (!f)
			continue;
		LOG_SCOPE("process %d (%s)", f->owner->pid, f->owner->comm);
		LOG_SCOPE("fd %d", f->t_fd);
		r = judge(ctx, s->sides[i]);
		if (r < 0 && r != -EOPNOTSUPP)
			return r;
		refused = r < 0 ? r : refused;
	}
	if (refused < 0)
		return dump_files_obstacle(ctx, refused);
	if (!s || ctx->opts->log_obstacles_only)
		return 0;
	ctty_sessions(s);
	r = queues_dump(ctx, s);
	return r < 0 ? r : infos_write(ctx, s);
}
