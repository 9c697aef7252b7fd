"""`python -m vistok` is the command line."""

from vistok.cli import main

main()
