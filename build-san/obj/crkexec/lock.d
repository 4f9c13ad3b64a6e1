build-san/obj/crkexec/lock.o: crkexec/lock.c crkexec/lock.h \
 cr/util/macro.h crkexec/manifest.h crkexec/paths.h cr/util/io.h
crkexec/lock.h:
cr/util/macro.h:
crkexec/manifest.h:
crkexec/paths.h:
cr/util/io.h:
