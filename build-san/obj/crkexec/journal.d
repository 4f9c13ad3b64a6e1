build-san/obj/crkexec/journal.o: crkexec/journal.c crkexec/phases.h \
 crkexec/phase.h cr/util/macro.h crkexec/upgrade.h crkexec/kernel.h \
 crkexec/strv.h crkexec/manifest.h crkexec/progress.h crkexec/store.h \
 cr/image/image.h cr/util/arena.h crkexec/unit.h crkexec/undo.h \
 cr/util/io.h cr/util/log.h
crkexec/phases.h:
crkexec/phase.h:
cr/util/macro.h:
crkexec/upgrade.h:
crkexec/kernel.h:
crkexec/strv.h:
crkexec/manifest.h:
crkexec/progress.h:
crkexec/store.h:
cr/image/image.h:
cr/util/arena.h:
crkexec/unit.h:
crkexec/undo.h:
cr/util/io.h:
cr/util/log.h:
