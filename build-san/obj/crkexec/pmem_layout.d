build-san/obj/crkexec/pmem_layout.o: crkexec/pmem_layout.c \
 crkexec/pmem_layout.h crkexec/manifest.h cr/util/macro.h cr/util/io.h \
 cr/util/log.h
crkexec/pmem_layout.h:
crkexec/manifest.h:
cr/util/macro.h:
cr/util/io.h:
cr/util/log.h:
