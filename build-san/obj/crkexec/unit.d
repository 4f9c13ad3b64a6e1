build-san/obj/crkexec/unit.o: crkexec/unit.c crkexec/tree.h \
 crkexec/unit.h crkexec/strv.h cr/util/macro.h cr/util/io.h cr/util/log.h
crkexec/tree.h:
crkexec/unit.h:
crkexec/strv.h:
cr/util/macro.h:
cr/util/io.h:
cr/util/log.h:
