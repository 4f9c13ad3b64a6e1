build-san/obj/crkexec/manifest_desc.o: crkexec/manifest_desc.c \
 crkexec/manifest_desc.h cr/util/io.h cr/util/macro.h cr/util/log.h
crkexec/manifest_desc.h:
cr/util/io.h:
cr/util/macro.h:
cr/util/log.h:
