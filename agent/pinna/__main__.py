import sys

from pinna.cli import main

sys.exit(main())
