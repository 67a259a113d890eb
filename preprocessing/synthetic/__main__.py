"""The command line of the synthetic raw set."""

from preprocessing.common.command import run
from preprocessing.synthetic.raw_set import synthetic

if __name__ == "__main__":
    run(synthetic)
