build-san/obj/cr/core/freezer.o: cr/core/freezer.c cr/core/freezer.h \
 cr/util/macro.h cr/util/io.h
cr/core/freezer.h:
cr/util/macro.h:
cr/util/io.h:
