"""`python -m api.cli`: the command line of a checkout."""

from api.cli.root import main

if __name__ == "__main__":
    main()
