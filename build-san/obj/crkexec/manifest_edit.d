build-san/obj/crkexec/manifest_edit.o: crkexec/manifest_edit.c \
 crkexec/manifest.h cr/util/io.h cr/util/macro.h cr/util/log.h
crkexec/manifest.h:
cr/util/io.h:
cr/util/macro.h:
cr/util/log.h:
