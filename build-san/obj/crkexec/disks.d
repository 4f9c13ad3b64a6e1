build-san/obj/crkexec/disks.o: crkexec/disks.c crkexec/machine.h \
 crkexec/manifest.h crkexec/strv.h cr/util/macro.h cr/util/io.h
crkexec/machine.h:
crkexec/manifest.h:
crkexec/strv.h:
cr/util/macro.h:
cr/util/io.h:
