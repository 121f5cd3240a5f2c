"""`python -m fusedata` is `fusedata`."""

from fusedata.cli import main

if __name__ == "__main__":
    main()
