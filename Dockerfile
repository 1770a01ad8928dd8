# The README's two commands in a container.
#   docker build -t retro_lab .
#   docker build -t retro_lab --build-arg BASE=nvidia/cuda:13.0.1-runtime-ubuntu24.04 .
#   docker run --rm -v "$PWD/runs:/app/runs" retro_lab
#   docker run --rm --gpus all -v "$PWD/runs:/app/runs" retro_lab python train.py trainer=gpu
#   docker run --rm retro_lab sh -c 'pip install -e ".[test]" && pytest'
ARG BASE=ubuntu:24.04
FROM ${BASE}
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc git libc6-dev python3 python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1
WORKDIR /app
COPY . .
# The CPU build of torch unless the base image is CUDA's.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN if [ -d /usr/local/cuda ]; then pip install --no-cache-dir -e .; \
    else pip install --no-cache-dir --extra-index-url "${TORCH_INDEX}" -e .; fi
CMD ["python", "train.py"]
