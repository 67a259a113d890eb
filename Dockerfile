# The project with what it needs, on CPUs and on NVIDIA GPUs. docs/containers.md says how it is built and started.
#
#     docker build --tag xmr-e2e .
#     docker build --tag xmr-e2e:cuda --build-arg BASE=nvidia/cuda:13.0.2-cudnn-runtime-ubuntu24.04 .
#
# torch's Linux wheels bring the CUDA libraries along: the first image runs on GPUs, too. A CUDA base has what the wheels
# do not bring, such as the compiler of a -devel image, which DeepSpeed wants.
ARG BASE=python:3.12-slim-bookworm
FROM ${BASE}

# Of pyproject.toml's. Empty: what training and evaluation need.
ARG EXTRAS=serve,onnx,parquet,timm,lora,media
# Further options of pip install, such as an index with torch's CPU wheels, which are a tenth as large.
ARG PIP_OPTIONS=

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_NO_CACHE_DIR=1 \
    VIRTUAL_ENV=/opt/xmr-e2e \
    PATH=/opt/xmr-e2e/bin:$PATH

# Versions of system packages are the base image's to choose.
# hadolint ignore=DL3008
RUN if ! python3 -c 'import ensurepip' 2>/dev/null; then \
        apt-get update \
        && apt-get install --yes --no-install-recommends python3-venv \
        && rm -rf /var/lib/apt/lists/*; \
    fi \
    && python3 -m venv "$VIRTUAL_ENV"

WORKDIR /usr/src/xmr-e2e
# What is needed to install, and changes less often than the rest: a layer of its own with the packages of others.
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY xmr_e2e/__init__.py xmr_e2e/
# hadolint ignore=SC2086
RUN DS_BUILD_OPS=0 pip install ${PIP_OPTIONS} --constraint constraints.txt ".${EXTRAS:+[$EXTRAS]}"

COPY xmr_e2e xmr_e2e
COPY preprocessing preprocessing
COPY recipes recipes
# hadolint ignore=SC2086
RUN pip install ${PIP_OPTIONS} --no-deps --force-reinstall . && xmr --help > /dev/null

# Files that are written lie in what is mounted here, under the user whom docker run --user names.
RUN useradd --create-home --uid 1000 xmr && mkdir /workspace && chown xmr /workspace
USER 1000
WORKDIR /workspace
ENV HOME=/home/xmr
CMD ["xmr", "--help"]
