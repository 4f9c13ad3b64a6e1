/*
 * cr/core/lineage: plans are followed in a model of fork, setsid and setpgid, for trees that a
 * model of their life has left behind, and for ones that no life could.
 */
#include <signal.h>

#include "core/lineage.h"
#include "unit.h"

struct person {
	uint32_t pid, sid, pgid;
	struct person *parent;
	bool alive, zombie, reaper;
};

#define PEOPLE 400

struct world {
	struct person p[PEOPLE];
	size_t n;
	uint32_t seed;
	bool forest;	/* p[0] stands for PID 1: it is not saved and does nothing but reap */
};

static uint32_t dice(struct world *w, uint32_t sides)
{
	w->seed = w->seed * 1664525u + 1013904223u;
	return (w->seed >> 8) % sides;
}

static struct person *somebody(struct world *w)
{
	struct person *p;

	do
		p = &w->p[dice(w, (uint32_t)w->n)];
	while (!p->alive || (w->forest && !p->parent));
	return p;
}

static bool group_exists(const struct world *w, uint32_t pgid, uint32_t sid)
{
	for (size_t i = 0; i < w->n; i++)
		if ((w->p[i].alive || w->p[i].zombie) && w->p[i].pgid == pgid &&
		    (!sid || w->p[i].sid == sid))
			return true;
	return false;
}

/* The children of one that ends go to the next subreaper above; the root is one. */
static void leave(struct world *w, struct person *p)
{
	struct person *heir = p->parent;

	while (heir->parent && (!heir->reaper || !heir->alive))
		heir = heir->parent;
	for (size_t i = 0; i < w->n; i++)
		if (w->p[i].parent == p) {
			w->p[i].parent = heir;
			w->p[i].zombie &= dice(w, 2);
		}
	p->alive = false;
	p->zombie = dice(w, 4) == 0;
}

static void live(struct world *w)
{
	struct person *p = somebody(w), *q = somebody(w);

	switch (dice(w, 10)) {
	default:
		if (w->n == PEOPLE)
			break;
		w->p[w->n] = (struct person){ .pid = 100 + (uint32_t)w->n, .sid = p->sid,
					      .pgid = p->pgid, .parent = p, .alive = true };
		w->n++;
		break;
	case 4: case 5:
		if (!group_exists(w, p->pid, 0))
			p->sid = p->pgid = p->pid;
		break;
	case 6: case 7:
		/* Not the last one. */
		if (p->parent && q != p)
			leave(w, p);
		break;
	case 8:
		p->reaper = !p->reaper;
		break;
	case 9:
		if (p->sid == p->pid)
			break;
		if (dice(w, 2) || !group_exists(w, q->pgid, p->sid))
			p->pgid = p->pid;
		else
			p->pgid = q->pgid;
		break;
	}
}

static struct kin *add(struct lineage *l, uint32_t pid, struct kin *parent, uint32_t sid, uint32_t pgid)
{
	struct kin *k;

	ASSERT_OK(lineage_add(l, parent, &(struct kin){ .pid = pid, .sid = sid, .pgid = pgid,
							      .exit_signal = SIGCHLD }, &k));
	return k;
}

static void add_below(struct world *w, struct lineage *l, struct person *p, struct kin *parent)
{
	struct kin *k = add(l, p->pid, parent, p->sid, p->pgid);

	k->dead = p->zombie;
	for (size_t i = 0; i < w->n; i++)
		if (w->p[i].parent == p && (w->p[i].alive || w->p[i].zombie))
			add_below(w, l, &w->p[i], k);
}

/* What the steps lead to, by the kernel's rules. */
struct reborn {
	struct kin *kin;
	uint32_t sid, pgid;
};

static struct reborn *reborn_of(struct reborn *all, size_t n, const struct kin *k)
{
	for (size_t i = 0; i < n; i++)
		if (all[i].kin == k)
			return &all[i];
	return NULL;
}

static bool above(const struct kin *a, const struct kin *k)
{
	while (k && k != a)
		k = k->parent;
	return k == a;
}

static size_t follow(const struct lineage *l, struct reborn *all, uint32_t engines_sid)
{
	size_t n = 0;

	for (size_t i = 0; i < l->n_steps; i++) {
		struct kin *k = l->steps[i].kin;
		struct reborn *me = reborn_of(all, n, k), *maker = reborn_of(all, n, k->maker);

		if (l->steps[i].op == LINEAGE_SETSID) {
			ASSERT(me && me->sid != k->pid);
			me->sid = me->pgid = k->pid;
			continue;
		}
		ASSERT(!me);
		ASSERT(!k->maker == !maker);
		if (k->maker && k->parent)
			ASSERT(above(k->parent, k->maker));
		ASSERT(!k->parent || k->maker);
		all[n++] = (struct reborn){ k, maker ? maker->sid : engines_sid,
					    maker ? maker->pgid : engines_sid };
	}
	for (size_t i = 0; i < n; i++) {
		ASSERT_EQ(all[i].sid, all[i].kin->sid);
		/* No groups of their own yet. */
		ASSERT_EQ(all[i].pgid, all[i].kin->sid);
	}
	return n;
}

static bool group_is_planned(const struct lineage *l, const struct kin *k)
{
	if (k->pgid == k->sid)
		return true;
	for (size_t i = 0; i < l->n; i++)
		if (l->kin[i]->pid == k->pgid)
			return l->kin[i]->leads_group && l->kin[i]->sid == k->sid;
	return false;
}

static unsigned int saw_helpers, saw_wards, saw_early, saw_through, saw_groups, saw_trees,
	saw_refused;

static void count(const struct lineage *l)
{
	for (size_t i = 0; i < l->n; i++) {
		const struct kin *k = l->kin[i];

		saw_helpers += k->helper && kin_leads_session(k);
		saw_groups += k->helper && !kin_leads_session(k);
		saw_early += k->early;
		saw_wards += k->maker && k->maker != k->parent;
		saw_through += k->maker && k->maker != k->parent && k->maker->parent != k->parent;
	}
}

static void check_world(struct world *w)
{
	struct reborn *all = calloc(2 * PEOPLE, sizeof(*all));
	size_t living, made;
	struct arena arena;
	struct lineage l;
	int r;

	arena_init(&arena);
	lineage_init(&l, &arena);
	for (size_t i = 0; i < w->n; i++)
		if (w->forest ? w->p[i].parent == &w->p[0] && w->p[i].alive : !i)
			add_below(w, &l, &w->p[i], NULL);
	living = l.n;
	for (size_t i = 1; i < l.n; i++)
		saw_trees += !l.kin[i]->parent;
	r = lineage_plan(&l);
	/* The choices are greedy: it refuses some trees that another choice would make. */
	if (r == -EOPNOTSUPP) {
		saw_refused++;
		goto out;
	}
	ASSERT_EQ(r, 0);
	made = follow(&l, all, 7);
	ASSERT_EQ(made, l.n);
	for (size_t i = 0; i < living; i++)
		ASSERT(group_is_planned(&l, l.kin[i]));
	count(&l);
out:
	lineage_done(&l);
	arena_done(&arena);
	free(all);
}

TEST("a plan that is accepted makes the tree that a life of forks, sessions and deaths left behind")
{
	struct world *w = calloc(1, sizeof(*w));

	for (uint32_t seed = 1; seed <= 1500; seed++) {
		*w = (struct world){ .n = 1, .seed = seed };
		w->p[0] = (struct person){ .pid = 100, .sid = 100, .pgid = 100, .alive = true,
					   .reaper = true };
		/* A daemon's first process often is not its session's leader: that one is gone. */
		if (seed % 3 == 0)
			w->p[0].sid = w->p[0].pgid = 99;
		if (seed % 3 == 1) {
			w->forest = true;
			w->p[w->n++] = (struct person){ .pid = 101, .sid = 101, .pgid = 101,
							.parent = &w->p[0], .alive = true };
		}
		for (unsigned int i = 0; i < 20 + seed % 500; i++)
			live(w);
		check_world(w);
	}
	/* Every way there is was needed. */
	fprintf(stderr, "helpers %u wards %u early %u through %u groups %u trees %u refused %u\n",
		saw_helpers, saw_wards, saw_early, saw_through, saw_groups, saw_trees, saw_refused);
	ASSERT(saw_helpers && saw_wards && saw_early && saw_through && saw_groups && saw_trees);
	ASSERT_LT(saw_refused, 15);
	free(w);
}

static const char *problem_of(void (*build)(struct lineage *l))
{
	const char *problem = NULL;
	struct arena arena;
	struct lineage l;
	int r;

	arena_init(&arena);
	lineage_init(&l, &arena);
	build(&l);
	r = lineage_plan(&l);
	for (size_t i = 0; i < l.n && !problem; i++)
		problem = l.kin[i]->problem;
	ASSERT_EQ(r, problem ? -EOPNOTSUPP : 0);
	lineage_done(&l);
	arena_done(&arena);
	return problem ? problem : "";
}

static void cycle(struct lineage *l)
{
	struct kin *root = add(l, 10, NULL, 10, 10);
	struct kin *member = add(l, 20, root, 30, 30);

	add(l, 30, member, 30, 30);
}

static void two_waiting(struct lineage *l)
{
	struct kin *root = add(l, 10, NULL, 10, 10);
	struct kin *b;

	add(l, 20, add(l, 21, root, 40, 40), 30, 30);
	b = add(l, 30, add(l, 31, root, 20, 20), 30, 30);
	add(l, 40, b, 40, 40);
}

static void zombie_parent(struct lineage *l)
{
	struct kin *root = add(l, 10, NULL, 10, 10);
	struct kin *z = add(l, 20, root, 10, 10);

	z->dead = true;
	add(l, 30, z, 10, 10);
}

static void strange_group(struct lineage *l)
{
	struct kin *root = add(l, 10, NULL, 10, 10);

	add(l, 20, root, 20, 20);
	add(l, 30, root, 10, 20);
}

static void two_branches(struct lineage *l)
{
	struct kin *root = add(l, 10, NULL, 10, 10);

	add(l, 21, add(l, 20, root, 10, 10), 5, 5);
	add(l, 23, add(l, 22, root, 10, 10), 5, 5);
}

static void no_session(struct lineage *l)
{
	add(l, 20, add(l, 10, NULL, 10, 10), 0, 10);
}

static void shell_job(struct lineage *l)
{
	struct kin *root;

	l->outside = 5;
	root = add(l, 10, NULL, 5, 10);
	add(l, 11, root, 5, 10);
	add(l, 12, root, 5, 9);
	add(l, 13, add(l, 14, root, 14, 14), 5, 5);
}

/* PID 1 and what it starts without setsid(), or a shell outside the PID namespace: all show 0. */
static void unseen_job(struct lineage *l)
{
	struct kin *root;

	l->outside = LINEAGE_UNSEEN;
	root = add(l, 10, NULL, LINEAGE_UNSEEN, LINEAGE_UNSEEN);
	add(l, 11, root, LINEAGE_UNSEEN, 11);
	add(l, 12, root, 12, 12);
}

static void shell_job_overlap(struct lineage *l)
{
	l->outside = 5;
	add(l, 5, add(l, 10, NULL, 5, 10), 5, 5);
}

TEST("trees that no life could leave behind are refused, each with its reason")
{
	ASSERT_CONTAINS(problem_of(cycle), "is below it");
	ASSERT(*problem_of(two_waiting));
	ASSERT_CONTAINS(problem_of(zombie_parent), "zombie");
	ASSERT_CONTAINS(problem_of(strange_group), "in another session");
	ASSERT_CONTAINS(problem_of(two_branches), "no process could have been");
	ASSERT_CONTAINS(problem_of(no_session), "PID namespace");
	ASSERT_CONTAINS(problem_of(shell_job_overlap), "number of a process");
}

TEST("a job of a shell keeps the shell's session and groups")
{
	ASSERT_STREQ(problem_of(shell_job), "");
	ASSERT_STREQ(problem_of(unseen_job), "");
}

static void plan_family(struct lineage *l, struct arena *a, uint32_t own_sid)
{
	struct kin *root;

	arena_init(a);
	lineage_init(l, a);
	l->outside = LINEAGE_UNSEEN;
	l->own_numbers = true;
	root = add(l, 1, NULL, own_sid, own_sid);
	add(l, 20, root, 15, 15);				/* a daemon's child: 15 has ended */
	add(l, 21, root, LINEAGE_UNSEEN, LINEAGE_UNSEEN);	/* from before the first one's setsid() */
	add(l, 22, root, LINEAGE_UNSEEN, 16);			/* in a group whose leader has ended */
	ASSERT_OK(lineage_plan(l));
	ASSERT(l->steps[0].op == LINEAGE_MAKE && l->steps[0].kin == root);
}

TEST("the first process of a PID namespace is made first and by nobody in it")
{
	struct arena arena;
	struct lineage l;

	/* Its session is its own, or from outside. */
	for (unsigned int i = 0; i < 2; i++) {
		uint32_t sid = i ? LINEAGE_UNSEEN : 1;

		plan_family(&l, &arena, sid);
		ASSERT(!lineage_find(&l, 1)->maker);
		ASSERT(lineage_find(&l, 15)->helper && lineage_find(&l, 15)->parent->pid == 1);
		ASSERT_EQ(lineage_find(&l, 20)->maker->pid, 15);
		ASSERT_EQ(lineage_find(&l, 21)->maker->pid, 1);
		ASSERT_EQ(lineage_find(&l, 21)->early, sid == 1);
		/* Outside of one, 16 would be somebody's of the shell. */
		ASSERT(lineage_find(&l, 16)->helper && lineage_find(&l, 16)->leads_group);
		lineage_done(&l);
		arena_done(&arena);
	}
}

TEST("a child whose end is told by another signal comes from its parent, or is refused")
{
	for (uint32_t sid = 10; sid <= 15; sid += 5) {
		struct arena arena;
		struct lineage l;
		struct kin *root, *k;

		arena_init(&arena);
		lineage_init(&l, &arena);
		root = add(&l, 10, NULL, 10, 10);
		/* The root can have been in one of two sessions before its own; of 15 a stand-in makes it. */
		add(&l, 19, root, 16, 16);
		k = add(&l, 20, root, sid, sid);
		k->exit_signal = SIGUSR2;
		ASSERT_EQ(lineage_plan(&l), sid == 10 ? 0 : -EOPNOTSUPP);
		ASSERT_EQ(!!k->problem, sid != 10);
		lineage_done(&l);
		arena_done(&arena);
	}
}

TEST("a zombie of a session beside it is refused if its parent would be told of its end again")
{
	for (uint32_t signo = SIGUSR2; signo <= SIGCHLD; signo += SIGCHLD - SIGUSR2) {
		for (unsigned int dead = 0; dead < 2; dead++) {
			struct kin *root, *leader, *k;
			struct arena arena;
			struct lineage l;

			arena_init(&arena);
			lineage_init(&l, &arena);
			root = add(&l, 10, NULL, 10, 10);
			leader = add(&l, 20, root, 20, 20);
			k = add(&l, 21, root, 20, 20);
			leader->exit_signal = k->exit_signal = signo;
			k->dead = dead;
			ASSERT_EQ(lineage_plan(&l), dead && signo == SIGUSR2 ? -EOPNOTSUPP : 0);
			ASSERT(k->maker == leader);
			lineage_done(&l);
			arena_done(&arena);
		}
	}
}

TEST("a chain of a hundred thousand processes is planned without recursion")
{
	struct arena arena;
	struct lineage l;
	struct kin *k = NULL;

	arena_init(&arena);
	lineage_init(&l, &arena);
	for (uint32_t i = 0; i < 100000; i++)
		k = add(&l, 10 + i, k, 10, 10);
	ASSERT_EQ(lineage_plan(&l), 0);
	ASSERT_EQ(l.n_steps, 100001);
	lineage_done(&l);
	arena_done(&arena);
}

/* Process pid of namespace ns, which is `level` below the outermost. Group and session show where their leader does. */
static struct kin *add_in(struct lineage *l, uint32_t pid, struct kin *parent, uint32_t sid, uint32_t pgid, uint32_t ns,
			  unsigned int level)
{
	const struct kin *session = lineage_find(l, sid), *group = lineage_find(l, pgid);
	struct kin *k = add(l, pid, parent, sid, pgid);

	k->place = (struct pid_place){
		.ns = ns, .levels = level,
		.sid_levels = session ? MIN(session->place.levels, level) : level,
		.pgid_levels = group ? MIN(group->place.levels, level) : level,
	};
	return k;
}

static struct kin *add_first(struct lineage *l, uint32_t pid, struct kin *parent, uint32_t sid, uint32_t pgid, uint32_t ns,
			     unsigned int level)
{
	struct kin *k = add_in(l, pid, parent, sid, pgid, ns, level);

	k->place.first = true;
	return k;
}

/* 10 in the outer one, 20 the first of 5, 30 in 20 the first of 6. */
static struct kin *nest(struct lineage *l)
{
	struct kin *root = add_in(l, 10, NULL, 10, 10, 0, 1), *first = add_first(l, 20, root, 10, 10, 5, 2);

	add_in(l, 21, first, 21, 21, 5, 2);
	add_first(l, 30, first, 10, 10, 6, 3);
	return root;
}

static void nested(struct lineage *l)
{
	struct kin *root = nest(l);

	add_in(l, 22, root, 10, 10, 5, 2);		/* entered, from right above */
	add_in(l, 31, root, 31, 31, 6, 3);		/* entered, from further up */
	add_in(l, 23, lineage_find(l, 20), 15, 15, 5, 2);	/* of a session whose leader is gone */
	add_in(l, 40, NULL, 10, 10, 5, 2);		/* by somebody who is not in the tree */
}

static void entered_too_early(struct lineage *l)
{
	struct kin *root = add_in(l, 10, NULL, 10, 10, 0, 1);

	add_in(l, 19, root, 10, 10, 5, 2);
	add_first(l, 20, root, 10, 10, 5, 2);
}

static void climbed_up(struct lineage *l)
{
	nest(l);
	add_in(l, 50, lineage_find(l, 30), 10, 10, 5, 2);
}

static void two_firsts(struct lineage *l)
{
	add_first(l, 60, nest(l), 10, 10, 5, 2);
}

static void level_left_out(struct lineage *l)
{
	add_first(l, 60, nest(l), 10, 10, 7, 3);
}

static void group_from_above(struct lineage *l)
{
	struct kin *root = nest(l);

	add_in(l, 11, root, 10, 11, 0, 1);
	add_in(l, 24, lineage_find(l, 20), 10, 11, 5, 2)->place.pgid_levels = 1;
}

static void session_gone_above(struct lineage *l)
{
	nest(l);
	add_in(l, 24, lineage_find(l, 20), 15, 15, 5, 2)->place.sid_levels = 1;
}

static void group_gone_above(struct lineage *l)
{
	nest(l);
	add_in(l, 24, lineage_find(l, 20), 10, 16, 5, 2)->place.pgid_levels = 1;
}

static void sibling_of_first(struct lineage *l)
{
	struct kin *root = add_in(l, 10, NULL, 10, 10, 0, 1);

	add_first(l, 20, root, 20, 20, 5, 2);
	add_in(l, 22, root, 20, 20, 5, 2);
}

TEST("processes of nested PID namespaces are born there, or enter them once they are there")
{
	ASSERT_STREQ(problem_of(nested), "");
	ASSERT_CONTAINS(problem_of(entered_too_early), "not yet");
	ASSERT_CONTAINS(problem_of(climbed_up), "not there");
	ASSERT_CONTAINS(problem_of(two_firsts), "two first");
	ASSERT_CONTAINS(problem_of(level_left_out), "right above");
	ASSERT_CONTAINS(problem_of(group_from_above), "leader of its group is outside");
	ASSERT_CONTAINS(problem_of(session_gone_above), "leader of its session is gone, and was");
	ASSERT_CONTAINS(problem_of(group_gone_above), "leader of its group is gone, and was");
	ASSERT_CONTAINS(problem_of(sibling_of_first), "is the first of a PID namespace");
}

TEST("who leads a group for the first process of a PID namespace makes no other one")
{
	struct arena arena;
	struct lineage l;
	struct kin *first, *helper;

	arena_init(&arena);
	lineage_init(&l, &arena);
	first = add_first(&l, 20, add_in(&l, 10, NULL, 10, 10, 0, 1), 10, 26, 5, 2);
	ASSERT_OK(lineage_plan(&l));
	helper = lineage_find(&l, 26);
	ASSERT(helper->helper && helper->maker == first);
	ASSERT(helper->place.ns == 5 && !helper->place.first && first->place.first);
	lineage_done(&l);
	arena_done(&arena);
}
