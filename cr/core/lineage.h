/*
 * How processes can be born again: who makes whom, and when.
 *
 * A session is made by its leader alone (setsid) and otherwise inherited at birth, so every
 * process must come from one that has its session at that moment, while its parent must be the
 * one it had. Where both are not the same process:
 *
 *   early    by its parent, before that makes the session of its own that it leads
 *   ward     by the leader of its session: as a sibling (CLONE_PARENT), or through a task between
 *            that ends, so that the parent gets an orphan, as it once did
 *   helper   stands in for a leader that is gone, as a child of the wards' parent (or beside the
 *            roots), and ends when sessions and groups stand
 *
 * A PID namespace nested in the root's is made by its first process being born; into any further down, its
 * maker can bear others too, once it is there: lineage_pidns.c.
 *
 * Pure: nothing but numbers go in. The dump asks before it saves anything, the restore follows
 * the steps. Rests on setsid(2), setpgid(2), clone(2), prctl(PR_SET_CHILD_SUBREAPER).
 */
#ifndef CR_CORE_LINEAGE_H
#define CR_CORE_LINEAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "util/arena.h"
#include "util/map.h"

struct kin {
	uint32_t pid, sid, pgid;
	struct kin *parent;		/* NULL: a root, or a helper beside the roots */
	bool dead;			/* a zombie */
	uint32_t exit_signal;
	bool helper;			/* its leader is gone; pid is that of its session or group */
	void *process;			/* the caller's */
	struct pid_place {
		uint32_t ns;		/* its PID namespace; 0: the root's */
		bool first;		/* the one that makes ns, by being born */
		/* From the outermost: how many namespaces show it, its session, its group. */
		unsigned int levels, sid_levels, pgid_levels;
	} place;

	struct kin *maker;		/* NULL: the engine */
	bool early;			/* made by its parent before that one's setsid() */
	/* Wanted as the leader of a group, also if it is in another one in the end. */
	bool leads_group;
	const char *problem;		/* why it cannot be made, or NULL */

	/* The plan's own. */
	uint32_t born;			/* session it must be born into; 0: any will do */
	unsigned int depth;
	bool made;
	struct kin *next;		/* in one of its maker's lists */
	struct kin_list { struct kin *first, *last; } early_list, late_list, wards;
};

/* A session or group whose leader is outside the PID namespace: shown as 0, which no plan knows. */
#define LINEAGE_UNSEEN	UINT32_MAX

enum lineage_op {
	LINEAGE_MAKE,			/* kin->maker makes it; memory of a live one comes with it */
	LINEAGE_SETSID,
};

struct lineage_step {
	enum lineage_op op;
	struct kin *kin;
};

struct lineage {
	struct arena *arena;
	/*
	 * The session that the roots are born into if some stay in it: with --shell-job, and in a PID
	 * namespace of their own (LINEAGE_UNSEEN); else 0.
	 */
	uint32_t outside;
	bool own_numbers;		/* of a PID namespace: those without a process are nobody else's */
	struct kin **kin;		/* parents before children, then helpers */
	size_t n;
	struct lineage_step *steps;
	size_t n_steps;
	struct map by_pid;
	struct map first_by_ns;		/* struct kin *, once it has its step */
};

void lineage_init(struct lineage *l, struct arena *a);
void lineage_done(struct lineage *l);
/* parent: the kin of an earlier call. -EEXIST: the pid is there already. */
int lineage_add(struct lineage *l, struct kin *parent, const struct kin *kin, struct kin **ret) _must_check_;
struct kin *lineage_find(const struct lineage *l, uint32_t pid);
/* -EOPNOTSUPP when somebody has a problem, all are marked; -ENOMEM. Silent. */
int lineage_plan(struct lineage *l) _must_check_;

static inline bool kin_leads_session(const struct kin *k)
{
	return k->sid == k->pid;
}

/* CLONE_FILES with its parent: by that one itself, or by a helper that shares with it. */
static inline bool kin_may_share_files(const struct kin *k)
{
	return k->maker == k->parent || (k->maker && k->maker->helper && k->maker->parent == k->parent);
}

/* lineage_pidns.c: part of the plan; marks those who cannot be born where they were. */
void lineage_check_places(struct lineage *l);

#endif
