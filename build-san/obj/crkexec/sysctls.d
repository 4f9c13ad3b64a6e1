build-san/obj/crkexec/sysctls.o: crkexec/sysctls.c crkexec/machine.h \
 crkexec/manifest.h crkexec/strv.h cr/util/macro.h cr/util/io.h \
 cr/util/log.h
crkexec/machine.h:
crkexec/manifest.h:
crkexec/strv.h:
cr/util/macro.h:
cr/util/io.h:
cr/util/log.h:
