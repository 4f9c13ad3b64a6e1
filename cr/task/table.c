/*
 * All parts, in order of restore; the lead's (memory, registers) are called by the core itself.
 *
 * Why this order, within STAGE_LATE:
 *  - handlers before pending signals: setting one to SIG_IGN flushes its signal;
 *  - timers while CAP_WAKE_ALARM is still there, scheduling while CAP_SYS_NICE is;
 *  - limits after everything they could limit;
 *  - personality after everything that is mapped;
 *  - filters that need privileges, credentials, what credentials reset, other filters.
 */
#include "task/parts.h"

const struct task_part *const task_parts[] = {
	&part_names,
	&part_tid_address,
	&part_robust_list,
	&part_altstack,
	&part_prctl,
	&part_ldt,
	&part_xfeatures,
	&part_landlock,
	&part_membarrier,
	&part_umask,
	&part_aio,
	&part_io_uring,
	&part_pkeys,
	&part_mempolicy,
	&part_area_state,

	&part_rseq,
	&part_sigactions,
	&part_itimers,
	&part_posix_timers,
	&part_posix_timers_run,
	&part_sigpending,
	&part_sched,
	&part_cpus,
	&part_proc_scores,
	&part_rlimits,
	&part_lock_future,
	&part_mdwe,
	&part_thread_traits,
	&part_seccomp_early,
	&part_creds,
	&part_pdeath_dumpable,
	&part_seccomp_last,
	&part_dispatch,
	NULL,
};
