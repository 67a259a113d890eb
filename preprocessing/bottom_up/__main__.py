"""`python -m preprocessing.bottom_up`."""

from preprocessing.bottom_up.command import bottom_up
from preprocessing.common.command import run

if __name__ == "__main__":
    run(bottom_up)
