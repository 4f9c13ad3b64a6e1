build-san/obj/crkexec/store_pmem_loader.o: crkexec/store_pmem_loader.c \
 crkexec/store_pmem.h crkexec/hugepages.h crkexec/manifest.h \
 crkexec/undo.h cr/util/macro.h crkexec/pmem_iomem.h \
 crkexec/pmem_layout.h crkexec/store.h cr/image/image.h cr/util/arena.h \
 crkexec/upgrade.h crkexec/kernel.h crkexec/strv.h crkexec/progress.h \
 crkexec/unit.h cr/util/io.h cr/util/log.h
crkexec/store_pmem.h:
crkexec/hugepages.h:
crkexec/manifest.h:
crkexec/undo.h:
cr/util/macro.h:
crkexec/pmem_iomem.h:
crkexec/pmem_layout.h:
crkexec/store.h:
cr/image/image.h:
cr/util/arena.h:
crkexec/upgrade.h:
crkexec/kernel.h:
crkexec/strv.h:
crkexec/progress.h:
crkexec/unit.h:
cr/util/io.h:
cr/util/log.h:
