"""The command of an installed tunebench: tunebench method=bitfit task=sst2."""

import atexit
import gc
import sys

gc.disable()  # imports leave little to collect; the run turns it on again
atexit.register(gc.freeze)  # what was imported is not searched for garbage at the end

from runners.command import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
