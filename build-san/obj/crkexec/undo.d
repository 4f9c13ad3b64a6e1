build-san/obj/crkexec/undo.o: crkexec/undo.c crkexec/undo.h \
 cr/util/macro.h cr/util/io.h cr/util/log.h
crkexec/undo.h:
cr/util/macro.h:
cr/util/io.h:
cr/util/log.h:
