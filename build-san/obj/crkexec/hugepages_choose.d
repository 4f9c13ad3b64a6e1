build-san/obj/crkexec/hugepages_choose.o: crkexec/hugepages_choose.c \
 crkexec/hugepages.h crkexec/manifest.h crkexec/undo.h cr/util/macro.h
crkexec/hugepages.h:
crkexec/manifest.h:
crkexec/undo.h:
cr/util/macro.h:
