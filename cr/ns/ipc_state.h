/* What the files of System V IPC share. */
#ifndef CR_NS_IPC_STATE_H
#define CR_NS_IPC_STATE_H

#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>

#include "image/proto.h"
#include "ns/ipc.h"

/* ipc(5): the kernel's own limit of one namespace is 32,768 (ipcmni_extend: 16 million). */
#define IPC_OBJECTS_MAX		65536
#define IPC_REMEDY		"stop the service before the upgrade"
#define IPC_REMEDY_OTHERS	"choose all services that share it together in one tree, or none"
#define SEMVMX			32767	/* as semctl(2) names it */
#define SEMADJ_MIN		(-SEMVMX - 1)
/* Of semop(2) in one of our calls. */
#define SEM_OPS_MAX		12u
/* One message has to fit into the call zone (kernel.msgmax is 8 KiB by default). */
#define MESSAGE_BYTES_MAX	(256u << 10)

#ifndef MSG_COPY
#define MSG_COPY		040000
#endif

/* semctl(2): the caller declares it. */
union semctl_arg {
	int val;
	struct semid_ds *buf;
	unsigned short *array;
	struct seminfo *info;
};

/* Dump. */

struct sem_undo {
	uint32_t pid;			/* in the images */
	uint32_t num;
	int adj;
};

struct sem_set {
	struct sem_set *next;
	int id;
	struct semid_ds ds;
	uint16_t *values;
	uint32_t *pids;			/* last to operate on each, 0: nobody yet */
	struct sem_undo *undo;		/* of the tree */
	size_t n_undo;
	struct dump_process *unasked;	/* has adjustments we could not ask for, if any */
	bool by_owner;			/* ours only because its owner is */
};

struct msg_queue {
	struct msg_queue *next;
	int id;
	struct msqid_ds ds;
	bool by_owner;
};

/* ipc_dump.c: whose is an object that is not attached to anything? */
enum ipc_user { IPC_NOBODY, IPC_TREE, IPC_OTHER };
enum ipc_user ipc_user_of(struct dump_ctx *ctx, pid_t pid);
/* An ipc namespace of the tree's own: nobody else can have made what is in it. */
bool ipc_all_ours(const struct dump_ctx *ctx);
/* Is a thread of the tree waiting in one of these calls for object id? */
bool ipc_tree_waits(struct dump_ctx *ctx, int id, const uint64_t *calls, size_t n);
/* Does a process of the tree have the owner's or creator's user id? Perhaps only root's. */
enum ipc_owner { IPC_OWNER_OTHER, IPC_OWNER_ROOT, IPC_OWNER_TREE };
enum ipc_owner ipc_owner_of(struct dump_ctx *ctx, const struct ipc_perm *perm);
/* Nobody else speaks for the object: is it the tree's? A warning if it is only root's. */
bool ipc_goes_with_owner(enum ipc_owner owner, const struct ipc_perm *perm, const char *what, int id);
void ipc_describe(struct dump_ctx *ctx, const struct ipc_perm *perm, int id, IpcDescEntry *d);
bool ipc_pid_is_alive(pid_t pid);
/* For messages; static storage. */
const char *ipc_comm(pid_t pid);

int ipc_shm_check(struct dump_ctx *ctx) _must_check_;
int ipc_shm_dump(struct dump_ctx *ctx) _must_check_;
int ipc_sem_check(struct dump_ctx *ctx) _must_check_;
int ipc_sem_dump(struct dump_ctx *ctx) _must_check_;
/* Into s->values. */
int ipc_sem_read_values(struct sem_set *s) _must_check_;
int ipc_msg_check(struct dump_ctx *ctx) _must_check_;
int ipc_msg_dump(struct dump_ctx *ctx) _must_check_;

/*
 * ipc_sem_undo.c: arrays for semop(2), at most SEM_OPS_MAX long; the length is returned.
 * Never succeeds: ERANGE if the caller's adjustment of num less t is below SEMADJ_MIN, else EAGAIN.
 */
unsigned int sem_ops_probe(struct sembuf *ops, uint32_t num, int value, unsigned int t);
/* Adds adj to the caller's adjustment of num, which has this value and keeps it. */
unsigned int sem_ops_adjust(struct sembuf *ops, uint32_t num, int value, int adj);

/* Restore. */

struct rest_set {
	struct rest_set *next;
	const IpcSemEntry *e;
	const uint16_t *values;
	bool made, left;		/* left: somebody's who is there already */
};

struct rest_queue {
	struct rest_queue *next;
	const IpcMsgEntry *e;
	const IpcMsg **messages;	/* e->qnum of both */
	const void **texts;
	bool made;
};

/* ipc_restore.c. Malformed: -EBADMSG, logged. what: "shm", as in the image's name. */
int ipc_desc_check(const char *what, const IpcDescEntry *d, uint32_t mode_known) _must_check_;

/* A child's work: it ends after it. as: its identity is that one's creator; NULL: the engine's. */
typedef int (*ipc_child_fn)(const void *arg);
int ipc_in_child(struct restore_ctx *ctx, const IpcDescEntry *as, ipc_child_fn fn, const void *arg)
	_must_check_;

/* Makes an object under its id: get() returns what shmget(2), semget(2), msgget(2) give. */
struct ipc_maker {
	const char *what;		/* "shm": /proc/sys/kernel/shm_next_id */
	ipc_child_fn get;
	int (*get_any)(void);		/* without a key */
	void (*remove)(int id);
};
int ipc_make(struct restore_ctx *ctx, const struct ipc_maker *m, const IpcDescEntry *d,
	     const void *arg) _must_check_;
/* What is there already is the one that was dumped, by key and creator? Logged if not. */
int ipc_same_object(struct restore_ctx *ctx, const struct ipc_perm *perm, const IpcDescEntry *d)
	_must_check_;
/* One that is the tree's by its owner only cannot be made: a warning and 0. */
int ipc_leave_out(void);
/* Nobody lives who used it last? Logged if so. */
int ipc_unused(pid_t pid, char tool, int id) _must_check_;
/* A live process of the tree by its pid in the image, or NULL. */
struct restore_process *ipc_process(struct restore_ctx *ctx, uint32_t pid);

int ipc_shm_huge_pages(struct restore_ctx *ctx, uint32_t ns_id, uint64_t need[64]) _must_check_;
int ipc_shm_restore(struct restore_ctx *ctx, uint32_t ns_id) _must_check_;
int ipc_shm_restore_late(struct restore_ctx *ctx) _must_check_;
void ipc_shm_remove(struct restore_ctx *ctx);
int ipc_sem_restore(struct restore_ctx *ctx, uint32_t ns_id) _must_check_;
int ipc_sem_restore_users(struct restore_ctx *ctx) _must_check_;
void ipc_sem_remove(struct restore_ctx *ctx);
int ipc_msg_restore(struct restore_ctx *ctx, uint32_t ns_id) _must_check_;
int ipc_msg_restore_users(struct restore_ctx *ctx) _must_check_;
void ipc_msg_remove(struct restore_ctx *ctx);

#endif
