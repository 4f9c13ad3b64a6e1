build-san/obj/crkexec/paths.o: crkexec/paths.c crkexec/manifest.h \
 crkexec/paths.h cr/util/io.h cr/util/macro.h
crkexec/manifest.h:
crkexec/paths.h:
cr/util/io.h:
cr/util/macro.h:
