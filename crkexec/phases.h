/* The phases of an upgrade and their undo functions; the table that orders them is phases.c. */
#ifndef CRKEXEC_PHASES_H
#define CRKEXEC_PHASES_H

#include "crkexec/phase.h"
#include "crkexec/upgrade.h"

/* From here on the guard is on watch. */
int upgrade_prepare(void *arg);
int upgrade_unprepare(void *arg);

int upgrade_plan(void *arg);
int upgrade_check(void *arg);
int upgrade_store(void *arg);
int upgrade_release(void *arg);
int upgrade_load(void *arg);
int upgrade_unload(void *arg);
int upgrade_quiesce(void *arg);
int upgrade_restart(void *arg);
int upgrade_pre_dump(void *arg);
int upgrade_unpre_dump(void *arg);
int upgrade_gate(void *arg);
int upgrade_ungate(void *arg);
int upgrade_freeze(void *arg);
int upgrade_thaw(void *arg);
int upgrade_dump(void *arg);
int upgrade_commit(void *arg);
int upgrade_jump(void *arg);
int upgrade_unjump(void *arg);

/* Of plan. */
int plan_kernel(struct upgrade *u) _must_check_;
int plan_carrier(struct upgrade *u) _must_check_;
/* Estimates, one for each unit; the caller frees. */
int upgrade_needs(struct upgrade *u, struct store_need **ret) _must_check_;

/* check_world.c: what trees share with PID 1 and with late file systems. Says problems. */
int check_world(struct upgrade *u) _must_check_;
/* When they have stopped: what they have taken into use since, if anything comes late here. */
int check_world_again(struct upgrade *u) _must_check_;
/* check_target.c: what trees have that the target kernel has not. Says problems. */
int check_target(struct upgrade *u) _must_check_;
/* From the text of /proc/PID/maps: areas of the process above 47 bits, and where the first is. */
bool maps_have_high_memory(const char *text, uint64_t *ret_start);

/*
 * jump.c: paths below proc/root (proc: "/proc/1") of the writable file systems on block devices that proc's
 * process has mounted; each once. That which was mounted first comes last, wherever it was bound since: others
 * may lie in files of it, and to freeze those after it would take for ever. One that no path leads to is left
 * out: sync(2) must do.
 */
int jump_list(const char *proc, struct strv *ret) _must_check_;

/* quiesce.c: what the phase would stop, into u->to_stop; with the warnings that it would give. */
int quiesce_list(struct upgrade *u) _must_check_;

/* look.c: finds the unit's processes and sockets anew, into unit and manifest. */
int upgrade_look(struct upgrade *u, size_t i) _must_check_;

/* apparmor.c: "name (enforce)" to "name"; of a child, "name//child", the profile whose binary has it too. */
int apparmor_profile_of(const char *label, char **ret) _must_check_;
/*
 * The profile of a label, as /proc/PID/attr/current has it, into mu. -ENOENT: it is none of
 * AppArmor's, or the kernel does not give its binary back; -EINVAL: of a namespace of AppArmor's, or several.
 */
int apparmor_note(struct manifest_unit *mu, const char *label) _must_check_;
/* Their binaries into images. */
int apparmor_write(const struct manifest_unit *mu, struct image_store *images) _must_check_;

/* guard.c: a unit of systemd's that recovers when all of crkexec was killed. */
int guard_start(struct upgrade *u) _must_check_;

/* What is larger than this is not somebody's run-time state. */
#define CARRY_MAX_BYTES	(1024ull << 20)
/* carry_find.c: files on tmpfs that the unit needs; run in the unit's dump, after the freeze. */
int carry_collect(const struct unit *un, struct manifest_unit *mu) _must_check_;
/* carry.c: how much that would be now; too much of it is an obstacle. */
int carry_check(struct upgrade *u, const struct unit *un, uint64_t *ret_bytes) _must_check_;
/* Into archives. */
int carry_write(struct manifest_unit *mu, struct image_store *images) _must_check_;

/* journal.c: journald writes down what it has received so far. */
int journal_sync_begin(void);
/* Waits for it; fd may be negative. Takes the descriptor. */
int journal_sync_end(int fd, int timeout_msec);

#endif
