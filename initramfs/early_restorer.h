/*
 * The process that restores one tree, as a child of PID 1 in its unit's control group. It is
 * there long before the tree can come back, and checks the images meanwhile.
 */
#ifndef INITRAMFS_EARLY_RESTORER_H
#define INITRAMFS_EARLY_RESTORER_H

#include "initramfs/early.h"

/* What it says: first, unless it fails before, that the tree is ready; then how it ended. */
struct restorer_result {
	bool ready;
	int error;
	pid_t root;
	char reason[EARLY_REASON_BYTES];
};

struct restorer {
	pid_t pid;
	int pidfd;
	int fd;			/* a struct restorer_result at a time, and the end */
};

/*
 * The trap: in a service of the distribution's initramfs it is our sibling, not our child, or
 * the tree would lose its parent when we end (PR_SET_PDEATHSIG).
 */
int restorer_start(struct early *e, const struct manifest_unit *u, const struct manifest_tree *t,
		   struct restorer *ret) _must_check_;

/*
 * It waits twice: for the file systems and the network, then, ready, for all others. The second
 * time it goes on by itself when the others had RESTORER_READY_USEC and the network its time to be unlocked.
 */
int restorer_go(const struct restorer *r) _must_check_;
#define RESTORER_READY_USEC	(10ull * 1000000u)

/* SIGKILL. It may have ended long ago. */
void restorer_kill(const struct restorer *r);
/*
 * Closes both descriptors and waits for its end, but not for ever: one that hangs in the kernel is
 * left behind, the machine must come up.
 */
void restorer_done(struct early *e, struct restorer *r);

#endif
