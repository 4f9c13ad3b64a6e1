build-san/obj/initramfs/early_store_pmem.o: initramfs/early_store_pmem.c \
 initramfs/early_store_pmem.h crkexec/pmem_iomem.h crkexec/manifest.h \
 cr/util/macro.h crkexec/pmem_layout.h cr/util/io.h cr/util/log.h
initramfs/early_store_pmem.h:
crkexec/pmem_iomem.h:
crkexec/manifest.h:
cr/util/macro.h:
crkexec/pmem_layout.h:
cr/util/io.h:
cr/util/log.h:
