build-san/obj/crkexec/modules.o: crkexec/modules.c crkexec/machine.h \
 crkexec/manifest.h crkexec/strv.h cr/util/macro.h crkexec/upgrade.h \
 crkexec/kernel.h crkexec/progress.h crkexec/store.h cr/image/image.h \
 cr/util/arena.h crkexec/unit.h crkexec/undo.h cr/util/io.h cr/util/log.h
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
cr/util/io.h:
cr/util/log.h:
