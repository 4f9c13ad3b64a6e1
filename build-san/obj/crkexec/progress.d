build-san/obj/crkexec/progress.o: crkexec/progress.c crkexec/progress.h \
 cr/util/io.h cr/util/macro.h
crkexec/progress.h:
cr/util/io.h:
cr/util/macro.h:
