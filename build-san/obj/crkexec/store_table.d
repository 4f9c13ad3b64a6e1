build-san/obj/crkexec/store_table.o: crkexec/store_table.c \
 crkexec/store.h crkexec/manifest.h cr/image/image.h cr/util/arena.h \
 cr/util/macro.h
crkexec/store.h:
crkexec/manifest.h:
cr/image/image.h:
cr/util/arena.h:
cr/util/macro.h:
