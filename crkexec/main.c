/* crkexec: the command line. */

#include "crkexec/commands.h"
#include "crkexec/options.h"

int main(int argc, char **argv)
{
	struct options opt;
	int r = options_parse(argc, argv, &opt), status;

	if (r != 0)
		return r < 0 ? EXIT_USAGE : EXIT_SUCCESS;
	switch (opt.verb) {
	case VERB_STATUS:
		status = command_status(&opt);
		break;
	case VERB_FINISH:
		status = command_finish();
		break;
	case VERB_RECOVER:
		status = command_recover(&opt);
		break;
	default:
		status = command_upgrade(&opt);
	}
	options_done(&opt);
	return status;
}
