build-san/obj/cr/util/io.o: cr/util/io.c cr/util/io.h cr/util/macro.h
cr/util/io.h:
cr/util/macro.h:
