"""Fine-tune a pretrained encoder on a task with a method: python run.py method=bitfit task=sst2."""

import sys

from runners.command import main
from runners.run import run

if __name__ == "__main__":
    sys.exit(main(run))
