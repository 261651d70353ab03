"""`python -m harness` is `gatebench`."""

from harness.cli import main

main()
