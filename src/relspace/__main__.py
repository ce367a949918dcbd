"""Makes ``python -m relspace`` the same as the command ``relspace``."""

from relspace.cli import main

if __name__ == "__main__":
    main()
