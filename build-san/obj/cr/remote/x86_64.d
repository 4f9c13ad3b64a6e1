build-san/obj/cr/remote/x86_64.o: cr/remote/x86_64.c cr/remote/remote.h \
 cr/util/macro.h
cr/remote/remote.h:
cr/util/macro.h:
