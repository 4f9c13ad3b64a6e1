build-san/obj/crkexec/memory.o: crkexec/memory.c crkexec/memory.h \
 crkexec/unit.h crkexec/strv.h cr/util/macro.h cr/util/io.h cr/util/log.h
crkexec/memory.h:
crkexec/unit.h:
crkexec/strv.h:
cr/util/macro.h:
cr/util/io.h:
cr/util/log.h:
