/* See lineage.h. */
#include <signal.h>

#include "core/lineage.h"

#define NO_LEADER	"the leader of its session is below it, or in another session"
#define NO_WAY		"no process could have been in its session and have left it to this parent"

void lineage_init(struct lineage *l, struct arena *a)
{
	*l = (struct lineage){ .arena = a };
}

void lineage_done(struct lineage *l)
{
	map_done(&l->by_pid);
	map_done(&l->first_by_ns);
}

struct kin *lineage_find(const struct lineage *l, uint32_t pid)
{
	return map_get(&l->by_pid, pid);
}

int lineage_add(struct lineage *l, struct kin *parent, const struct kin *kin, struct kin **ret)
{
	struct kin *k, **slot;

	if (lineage_find(l, kin->pid))
		return -EEXIST;
	k = arena_memdup(l->arena, kin, sizeof(*kin));
	slot = k ? ARENA_PUSH(l->arena, l->kin, l->n) : NULL;
	if (!slot)
		return -ENOMEM;
	*slot = k;
	k->parent = parent;
	k->depth = parent ? parent->depth + 1 : 0;
	*ret = k;
	return map_put(&l->by_pid, k->pid, k);
}

static bool is_ancestor(const struct kin *a, const struct kin *k)
{
	while (k && k->depth > a->depth)
		k = k->parent;
	return k == a;
}

static void list_add(struct kin_list *list, struct kin *k)
{
	k->next = NULL;
	if (list->last)
		list->last->next = k;
	else
		list->first = k;
	list->last = k;
}

static int helper_add(struct lineage *l, struct kin *maker, uint32_t pid, uint32_t sid)
{
	struct kin helper = { .pid = pid, .sid = sid, .pgid = pid, .helper = true, .exit_signal = SIGCHLD,
			      .maker = maker, .place = maker ? maker->place : l->kin[0]->place };
	struct kin *k;

	helper.place.first = false;
	return lineage_add(l, maker, &helper, &k);
}

/* Stand-ins for leaders that are gone; what no kernel would show is marked. */
static int find_leaders(struct lineage *l)
{
	for (size_t i = 0, n = l->n; i < n; i++) {
		struct kin *k = l->kin[i], *leader;
		int r;

		if (!k->sid || !k->pgid)
			k->problem = "the leader of its session or group is outside its PID namespace";
		else if (k->parent && k->parent->dead)
			k->problem = "its parent is a zombie";
		if (k->problem || kin_leads_session(k))
			continue;
		k->born = k->sid;
		leader = lineage_find(l, k->sid);
		if (k->sid == l->outside) {
			if (leader)
				k->problem = "its session has the number of a process in the tree";
		} else if (!leader) {
			r = helper_add(l, NULL, k->sid, k->sid);
			if (r < 0)
				return r;
		} else if (!kin_leads_session(leader) || is_ancestor(k, leader)) {
			k->problem = NO_LEADER;
		}
	}
	return 0;
}

/* Everybody is born into the first group of its session, the one with the session's number. */
static int find_groups(struct lineage *l)
{
	for (size_t i = 0, n = l->n; i < n; i++) {
		struct kin *k = l->kin[i], *leader;
		int r;

		if (k->problem || k->helper || k->pgid == k->sid)
			continue;
		leader = lineage_find(l, k->pgid);
		if (leader && leader->sid != k->sid) {
			k->problem = "the leader of its process group is in another session";
		} else if (leader) {
			leader->leads_group = true;
		} else if (k->sid != l->outside || l->own_numbers) {
			r = helper_add(l, k, k->pgid, k->sid);
			if (r < 0)
				return r;
			l->kin[l->n - 1]->leads_group = true;
		}
	}
	return 0;
}

/*
 * A leader's own birth is free until one of its children needs it to be in that child's session. Before
 * the first process of a PID namespace there is no session in it.
 */
static bool may_be_born_in(const struct lineage *l, const struct kin *k, uint32_t sid)
{
	if (l->own_numbers && !k->parent && sid != l->outside)
		return false;
	return kin_leads_session(k) && !k->helper && !k->born && !k->problem;
}

static void find_maker(struct lineage *l, struct kin *k)
{
	for (;;) {
		struct kin *a = k->parent, *leader = lineage_find(l, k->born);

		k->maker = a;
		k->early = a && a->sid != k->born;
		if (a ? !k->early || a->born == k->born : k->born == l->outside)
			return;
		if (a && may_be_born_in(l, a, k->born) && !(leader && is_ancestor(a, leader))) {
			a->born = k->born;
			k = a;
			continue;
		}
		k->early = false;
		k->maker = leader;
		if (!leader || (a && !leader->helper && !is_ancestor(a, leader)))
			k->problem = NO_WAY;
		return;
	}
}

static void find_makers(struct lineage *l)
{
	for (size_t i = 0; i < l->n; i++) {
		struct kin *k = l->kin[i];

		if (k->problem || k->helper)
			continue;
		if (k->born)
			find_maker(l, k);
		else
			k->maker = k->parent;
	}
	for (size_t i = 0; i < l->n; i++) {
		struct kin *k = l->kin[i];

		if (!k->problem && k->maker && k->maker != k->parent)
			list_add(&k->maker->wards, k);
	}
}

/*
 * Where the stand-in for a session's leader is made: below the lowest parent of its wards, which
 * must descend from all others.
 */
static void place_helper(struct kin *h)
{
	struct kin *low = NULL;

	for (struct kin *w = h->wards.first; w; w = w->next)
		if (w->parent && (!low || w->parent->depth > low->depth))
			low = w->parent;
	for (struct kin *w = h->wards.first; w; w = w->next)
		if (w->parent && !is_ancestor(w->parent, low))
			w->problem = NO_WAY;
	h->parent = h->maker = low;
	if (low)
		h->place = low->place;
	h->place.first = false;
}

static void list_children(struct lineage *l)
{
	for (size_t i = 0; i < l->n; i++) {
		struct kin *k = l->kin[i];

		if (k->helper && kin_leads_session(k))
			place_helper(k);
		if (!k->problem && k->maker && k->maker == k->parent)
			list_add(k->early ? &k->maker->early_list : &k->maker->late_list, k);
	}
}

struct frame {
	struct kin *kin, *next;
	unsigned int list;
};

static int step_add(struct lineage *l, enum lineage_op op, struct kin *k)
{
	struct lineage_step *s = ARENA_PUSH(l->arena, l->steps, l->n_steps);

	if (!s)
		return -ENOMEM;
	*s = (struct lineage_step){ op, k };
	k->made = true;
	return 0;
}

/* The next that this one makes; NULL: it has made all. */
static int frame_next(struct lineage *l, struct frame *f, struct kin **ret)
{
	struct kin *const lists[] = { f->kin->early_list.first, NULL, f->kin->late_list.first,
				      f->kin->wards.first };

	while (!f->next && ++f->list < ARRAY_SIZE(lists)) {
		int r = 0;

		f->next = lists[f->list];
		if (f->list == 1 && kin_leads_session(f->kin))
			r = step_add(l, LINEAGE_SETSID, f->kin);
		if (r < 0)
			return r;
	}
	*ret = f->next;
	if (f->next)
		f->next = f->next->next;
	return 0;
}

/* k and all that come from it. Without recursion: a chain may be as long as an image says. */
static int make_steps(struct lineage *l, struct kin *k, struct frame *stack)
{
	size_t depth = 0;
	int r;

	while (k || depth) {
		if (k) {
			r = step_add(l, LINEAGE_MAKE, k);
			stack[depth++] = (struct frame){ k, k->early_list.first, 0 };
		} else {
			depth--;
			r = 0;
		}
		if (r >= 0 && depth)
			r = frame_next(l, &stack[depth - 1], &k);
		if (r < 0)
			return r;
	}
	return 0;
}

static int make_all_steps(struct lineage *l)
{
	struct frame *stack = arena_alloc(l->arena, l->n * sizeof(*stack));

	if (!stack)
		return -ENOMEM;
	for (size_t i = 0; i < l->n; i++) {
		int r = 0;

		if (!l->kin[i]->maker && !l->kin[i]->problem)
			r = make_steps(l, l->kin[i], stack);
		if (r < 0)
			return r;
	}
	return 0;
}

/* With CLONE_PARENT it is the maker's own, and the kernel gives orphans SIGCHLD. */
static void check_exit_signal(struct kin *k)
{
	bool beside = k->maker && k->maker->parent == k->parent;

	if (k->problem || !k->maker || k->maker == k->parent)
		return;
	if (k->exit_signal != (beside ? k->maker->exit_signal : SIGCHLD))
		k->problem = "its exit signal is not that of the process of its session that has to make it";
	/* Born by its parent it is told by no signal; SIGCHLD is flushed. */
	else if (k->dead && k->exit_signal != SIGCHLD)
		k->problem = "it has ended, and a signal that is not SIGCHLD would tell its parent once more";
}

int lineage_plan(struct lineage *l)
{
	int r;

	r = find_leaders(l);
	if (r >= 0)
		r = find_groups(l);
	if (r < 0)
		return r;
	find_makers(l);
	list_children(l);
	r = make_all_steps(l);
	for (size_t i = 0; i < l->n && r >= 0; i++) {
		struct kin *k = l->kin[i];

		/* Those whose makers have a problem, or wait for each other. */
		if (!k->made && !k->problem)
			k->problem = "it descends from a process that cannot be made";
	}
	if (r >= 0)
		lineage_check_places(l);
	for (size_t i = 0; i < l->n && r >= 0; i++) {
		check_exit_signal(l->kin[i]);
		if (l->kin[i]->problem)
			r = -EOPNOTSUPP;
	}
	return r;
}
