build-san/obj/crkexec/pmem_iomem.o: crkexec/pmem_iomem.c \
 crkexec/pmem_iomem.h crkexec/manifest.h cr/util/macro.h cr/util/io.h \
 cr/util/log.h
crkexec/pmem_iomem.h:
crkexec/manifest.h:
cr/util/macro.h:
cr/util/io.h:
cr/util/log.h:
