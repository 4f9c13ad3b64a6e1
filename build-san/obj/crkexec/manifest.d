build-san/obj/crkexec/manifest.o: crkexec/manifest.c crkexec/manifest.h \
 crkexec/manifest_desc.h cr/util/io.h cr/util/macro.h cr/util/log.h
crkexec/manifest.h:
crkexec/manifest_desc.h:
cr/util/io.h:
cr/util/macro.h:
cr/util/log.h:
