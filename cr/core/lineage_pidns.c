/*
 * Lineage: PID namespaces nested in the root's. Whoever makes a process makes it in its own namespace, or in
 * one further down whose first process is there (setns); never further up. Numbers of a session or
 * a group can be had from where they show: elsewhere they are inherited.
 *
 * Rests on pid_namespaces(7), setns(2), clone(2).
 */
#include "core/lineage.h"

/* What is born in the root's session and group needs no number for them. */
static bool group_can_be_set(const struct lineage *l, const struct kin *k)
{
	return k->place.pgid_levels >= k->place.levels || k->pgid == k->sid || !lineage_find(l, k->pgid);
}

static const char *check_first(struct lineage *l, struct kin *k)
{
	if (!k->maker || k->maker->place.levels + 1 != k->place.levels)
		return "it is the first of a PID namespace, and comes from none that is right above";
	if (map_get(&l->first_by_ns, k->place.ns))
		return "its PID namespace has two first processes";
	return map_put(&l->first_by_ns, k->place.ns, k) < 0 ? "out of memory" : NULL;
}

static const char *check_entered(const struct lineage *l, const struct kin *k)
{
	uint32_t ns = k->place.ns, from = k->maker ? k->maker->place.ns : 0;

	while (ns != from) {
		const struct kin *first = map_get(&l->first_by_ns, ns);

		if (!first)
			return "it entered a PID namespace that is not there, or not yet, when it is made again";
		ns = first->maker->place.ns;
	}
	return NULL;
}

static bool is_first(const struct lineage *l, const struct kin *k)
{
	return (k->place.ns && k->place.first) || (l->own_numbers && k == l->kin[0]);
}

/* By another one than its parent: as a sibling (the first of a namespace may not have any), or left to a reaper. */
static const char *check_maker(const struct lineage *l, const struct kin *k)
{
	const struct kin *m = k->maker;

	if (!m || m == k->parent)
		return NULL;
	if (m->parent == k->parent)
		return is_first(l, m) ? "the leader of its session is the first of a PID namespace, and not above it" : NULL;
	if (k->parent ? k->parent->place.levels == m->place.levels :
	    !l->own_numbers && m->place.levels == l->kin[0]->place.levels)
		return NULL;
	return "the leader of its session is in another PID namespace than its parent";
}

static const char *check_place(struct lineage *l, struct kin *k)
{
	const struct kin *session = lineage_find(l, k->sid), *group = lineage_find(l, k->pgid);
	const char *problem = k->place.ns && k->place.first ? check_first(l, k) : check_entered(l, k);

	if (!problem)
		problem = check_maker(l, k);
	if (problem)
		return problem;
	if (session && session->helper && session->place.levels != k->place.sid_levels)
		return "the leader of its session is gone, and was in another PID namespace";
	if (group && group->helper && group->place.levels != k->place.pgid_levels)
		return "the leader of its group is gone, and was in another PID namespace";
	return group_can_be_set(l, k) ? NULL :
	       "the leader of its group is outside of its PID namespace, and is not its session's";
}

void lineage_check_places(struct lineage *l)
{
	for (size_t i = 0; i < l->n_steps; i++) {
		struct kin *k = l->steps[i].kin;

		if (l->steps[i].op == LINEAGE_MAKE && !k->problem && !k->helper)
			k->problem = check_place(l, k);
	}
}
