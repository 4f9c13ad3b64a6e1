build-san/obj/crkexec/plan.o: crkexec/plan.c crkexec/machine.h \
 crkexec/manifest.h crkexec/strv.h cr/util/macro.h crkexec/memory.h \
 crkexec/unit.h crkexec/phases.h crkexec/phase.h crkexec/upgrade.h \
 crkexec/kernel.h crkexec/progress.h crkexec/store.h cr/image/image.h \
 cr/util/arena.h crkexec/undo.h crkexec/tree.h cr/util/io.h cr/util/log.h
crkexec/machine.h:
crkexec/manifest.h:
crkexec/strv.h:
cr/util/macro.h:
crkexec/memory.h:
crkexec/unit.h:
crkexec/phases.h:
crkexec/phase.h:
crkexec/upgrade.h:
crkexec/kernel.h:
crkexec/progress.h:
crkexec/store.h:
cr/image/image.h:
cr/util/arena.h:
crkexec/undo.h:
crkexec/tree.h:
cr/util/io.h:
cr/util/log.h:
