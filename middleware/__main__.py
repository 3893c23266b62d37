"""`python -m middleware` is the command `pointsman`."""

from middleware.cli import main

main()
