"""`python -m bouncetap`: what the console script does."""

from bouncetap.cli import main

if __name__ == "__main__":
    main()
