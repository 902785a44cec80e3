"""`python -m raymnist` is the command `raymnist`."""

from raymnist.cli import main

main()
