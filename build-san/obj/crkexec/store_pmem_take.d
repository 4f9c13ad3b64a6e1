build-san/obj/crkexec/store_pmem_take.o: crkexec/store_pmem_take.c \
 crkexec/memory.h crkexec/unit.h crkexec/strv.h cr/util/macro.h \
 crkexec/store_pmem.h crkexec/hugepages.h crkexec/manifest.h \
 crkexec/undo.h crkexec/pmem_iomem.h crkexec/pmem_layout.h \
 crkexec/store.h cr/image/image.h cr/util/arena.h crkexec/upgrade.h \
 crkexec/kernel.h crkexec/progress.h cr/util/io.h cr/util/log.h
crkexec/memory.h:
crkexec/unit.h:
crkexec/strv.h:
cr/util/macro.h:
crkexec/store_pmem.h:
crkexec/hugepages.h:
crkexec/manifest.h:
crkexec/undo.h:
crkexec/pmem_iomem.h:
crkexec/pmem_layout.h:
crkexec/store.h:
cr/image/image.h:
cr/util/arena.h:
crkexec/upgrade.h:
crkexec/kernel.h:
crkexec/progress.h:
cr/util/io.h:
cr/util/log.h:
