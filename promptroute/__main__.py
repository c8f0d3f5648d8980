"""`python -m promptroute`: the command `promptroute`."""

from promptroute.cli.main import main

if __name__ == "__main__":
    main()
