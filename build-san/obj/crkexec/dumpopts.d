build-san/obj/crkexec/dumpopts.o: crkexec/dumpopts.c crkexec/dumpopts.h \
 cr/cr.h crkexec/upgrade.h crkexec/kernel.h crkexec/strv.h \
 cr/util/macro.h crkexec/manifest.h crkexec/progress.h crkexec/store.h \
 cr/image/image.h cr/util/arena.h crkexec/unit.h crkexec/undo.h \
 cr/util/io.h
crkexec/dumpopts.h:
cr/cr.h:
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
cr/util/io.h:
