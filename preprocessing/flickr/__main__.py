"""`python -m preprocessing.flickr`."""

from preprocessing.common.command import run
from preprocessing.flickr.command import flickr

if __name__ == "__main__":
    run(flickr)
