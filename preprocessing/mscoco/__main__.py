"""`python -m preprocessing.mscoco`."""

from preprocessing.common.command import run
from preprocessing.mscoco.command import mscoco

if __name__ == "__main__":
    run(mscoco)
