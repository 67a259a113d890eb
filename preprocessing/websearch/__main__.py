"""`python -m preprocessing.websearch`."""

from preprocessing.common.command import run
from preprocessing.websearch.command import websearch

if __name__ == "__main__":
    run(websearch)
