"""`python -m preprocessing.bottom_up`."""

from preprocessing.common.command import run
from preprocessing.bottom_up.command import bottom_up

if __name__ == "__main__":
    run(bottom_up)
