build-san/obj/crkexec/sockets.o: crkexec/sockets.c crkexec/sockets.h \
 crkexec/unit.h crkexec/strv.h cr/util/macro.h crkexec/tree.h \
 cr/util/io.h cr/util/log.h cr/util/map.h
crkexec/sockets.h:
crkexec/unit.h:
crkexec/strv.h:
cr/util/macro.h:
crkexec/tree.h:
cr/util/io.h:
cr/util/log.h:
cr/util/map.h:
