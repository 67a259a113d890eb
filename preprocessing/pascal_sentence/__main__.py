"""`python -m preprocessing.pascal_sentence`."""

from preprocessing.common.command import run
from preprocessing.pascal_sentence.command import pascal_sentence

if __name__ == "__main__":
    run(pascal_sentence)
