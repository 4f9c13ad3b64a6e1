build-san/obj/crkexec/mounts.o: crkexec/mounts.c crkexec/machine.h \
 crkexec/manifest.h crkexec/strv.h cr/util/macro.h crkexec/upgrade.h \
 crkexec/kernel.h crkexec/progress.h crkexec/store.h cr/image/image.h \
 cr/util/arena.h crkexec/unit.h crkexec/undo.h cr/kernel/mountinfo.h \
 cr/util/io.h cr/util/log.h
crkexec/machine.h:
crkexec/manifest.h:
crkexec/strv.h:
cr/util/macro.h:
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
