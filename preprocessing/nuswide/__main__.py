"""`python -m preprocessing.nuswide`."""

from preprocessing.common.command import run
from preprocessing.nuswide.command import nuswide

if __name__ == "__main__":
    run(nuswide)
