build-san/obj/crkexec/hugepages.o: crkexec/hugepages.c \
 crkexec/hugepages.h crkexec/manifest.h crkexec/undo.h cr/util/macro.h \
 cr/util/io.h cr/util/log.h
crkexec/hugepages.h:
crkexec/manifest.h:
crkexec/undo.h:
cr/util/macro.h:
cr/util/io.h:
cr/util/log.h:
