"""`python -m srft`, the command line."""

from srft.harness.cli import main

main()
