build-san/obj/crkexec/check.o: crkexec/check.c cr/cr.h crkexec/dumpopts.h \
 crkexec/upgrade.h crkexec/kernel.h crkexec/strv.h cr/util/macro.h \
 crkexec/manifest.h crkexec/progress.h crkexec/store.h cr/image/image.h \
 cr/util/arena.h crkexec/unit.h crkexec/undo.h crkexec/load.h \
 crkexec/phases.h crkexec/phase.h crkexec/tree.h cr/util/io.h \
 cr/util/log.h
cr/cr.h:
crkexec/dumpopts.h:
crkexec/upgrade.h:
crkexec/kernel.h:
crkexec/strv.h:
cr/util/macro.h:
crkexec/manifest.h:
crkexec/progress.h:
crkexec/store.h:
cr/image/image.h:
cr/util/arena.h:
crkexec/unit.h:
crkexec/undo.h:
crkexec/load.h:
crkexec/phases.h:
crkexec/phase.h:
crkexec/tree.h:
cr/util/io.h:
cr/util/log.h:
