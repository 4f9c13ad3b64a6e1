build-san/obj/crkexec/plan_kernel.o: crkexec/plan_kernel.c \
 crkexec/cmdline.h cr/util/macro.h crkexec/machine.h crkexec/manifest.h \
 crkexec/strv.h crkexec/paths.h crkexec/phases.h crkexec/phase.h \
 crkexec/upgrade.h crkexec/kernel.h crkexec/progress.h crkexec/store.h \
 cr/image/image.h cr/util/arena.h crkexec/unit.h crkexec/undo.h \
 cr/kernel/mountinfo.h cr/util/io.h cr/util/log.h
crkexec/cmdline.h:
cr/util/macro.h:
crkexec/machine.h:
crkexec/manifest.h:
crkexec/strv.h:
crkexec/paths.h:
crkexec/phases.h:
crkexec/phase.h:
crkexec/upgrade.h:
crkexec/kernel.h:
crkexec/progress.h:
crkexec/store.h:
cr/image/image.h:
cr/util/arena.h:
crkexec/unit.h:
crkexec/undo.h:
cr/kernel/mountinfo.h:
cr/util/io.h:
cr/util/log.h:
