# srft in a container, for who does not want it on the machine itself: docker build -t srft .   (docs/container.md)
#
# BASE   an image with Python 3.11 or newer with venv and pip, and git
# TORCH  the requirement of torch: torch==2.13.0+cpu from an index of CPU builds saves the gigabytes of CUDA
#
# Behind a mirror or a proxy that inspects TLS: PIP_INDEX_URL, PIP_EXTRA_INDEX_URL and PIP_CERT are pip's own settings; a folder
# certs/ beside this file is copied to /opt/build/certs, a folder wheels/ is one that pip looks into.
ARG BASE=python:3.11-bookworm
FROM ${BASE}
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_CERT
ARG PIP_DEFAULT_TIMEOUT=180
ARG TORCH=torch

COPY LICENSE certs* /opt/build/certs/
COPY LICENSE wheels* /opt/build/wheels/
RUN python3 -m venv /opt/srft \
    && /opt/srft/bin/pip install --no-cache-dir --find-links /opt/build/wheels "${TORCH}"

COPY pyproject.toml README.md LICENSE /opt/build/srft/
COPY src/srft/__init__.py src/srft/__main__.py src/srft/py.typed /opt/build/srft/src/srft/
COPY env /opt/build/srft/env
COPY agent /opt/build/srft/agent
COPY critic /opt/build/srft/critic
COPY train /opt/build/srft/train
COPY harness /opt/build/srft/harness
RUN /opt/srft/bin/pip install --no-cache-dir --find-links /opt/build/wheels /opt/build/srft && rm -rf /opt/build/srft

ENV PATH=/opt/srft/bin:$PATH
WORKDIR /work
ENTRYPOINT ["srft"]
