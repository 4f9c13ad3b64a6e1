build-san/obj/crkexec/store_pmem.o: crkexec/store_pmem.c crkexec/load.h \
 crkexec/upgrade.h crkexec/kernel.h crkexec/strv.h cr/util/macro.h \
 crkexec/manifest.h crkexec/progress.h crkexec/store.h cr/image/image.h \
 cr/util/arena.h crkexec/unit.h crkexec/undo.h crkexec/store_pmem.h \
 crkexec/hugepages.h crkexec/pmem_iomem.h crkexec/pmem_layout.h \
 cr/util/io.h cr/util/log.h
crkexec/load.h:
crkexec/upgrade.h:
crkexec/kernel.h:
crkexec/strv.h:
cr/util/macro.h:
crkexec/manifest.h:
crkexec/progress.h:
crkexec/store.h:
cr/image/image.h:
cr/util/arena.h:
crkexec/unit.h:
crkexec/undo.h:
crkexec/store_pmem.h:
crkexec/hugepages.h:
crkexec/pmem_iomem.h:
crkexec/pmem_layout.h:
cr/util/io.h:
cr/util/log.h:
