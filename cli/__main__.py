"""`python -m cli …` is `leadstream …`."""

from cli.main import main

main()
