"""`python -m preprocessing.folder`."""

from preprocessing.common.command import run
from preprocessing.folder.command import folder

if __name__ == "__main__":
    run(folder)
