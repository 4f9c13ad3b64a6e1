build-san/obj/systemd-units/generator_dropin.o: \
 systemd-units/generator_dropin.c systemd-units/generator.h \
 crkexec/manifest.h cr/util/io.h cr/util/macro.h
systemd-units/generator.h:
crkexec/manifest.h:
cr/util/io.h:
cr/util/macro.h:
