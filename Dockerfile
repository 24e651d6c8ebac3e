# The demo in a container: `docker build -t tumorxai . && docker run --rm tumorxai`; more in docs/install.md.
FROM python:3.12-slim-bookworm

# Debian keeps no older versions that could be named here.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --no-install-recommends -y git make \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 tumorxai \
    && install -d -o tumorxai -g tumorxai /home/tumorxai/project /home/tumorxai/project/report \
        /home/tumorxai/project/.dvc /home/tumorxai/project/.dvc/cache

USER 1000
WORKDIR /home/tumorxai/project
ENV HOME=/home/tumorxai \
    PATH=/home/tumorxai/project/.venv/bin:$PATH \
    OMP_WAIT_POLICY=passive GOMP_SPINCOUNT=10000

COPY --chown=tumorxai:tumorxai Makefile pyproject.toml requirements.lock README.md LICENSE ./
COPY --chown=tumorxai:tumorxai .dvcignore .gitignore dvc.yaml params.yaml ./
COPY --chown=tumorxai:tumorxai .dvc/config .dvc/.gitignore .dvc/
COPY --chown=tumorxai:tumorxai plots/dvc.yaml plots/
COPY --chown=tumorxai:tumorxai presets presets
COPY --chown=tumorxai:tumorxai stages stages
COPY --chown=tumorxai:tumorxai src src

# PyTorch without CUDA; `--build-arg CPU=` takes that of requirements.lock, with CUDA, for `docker run --gpus all`.
ARG CPU=1
RUN make setup CPU="$CPU" && rm -rf /home/tumorxai/.cache

# DVC's experiments are compared with a commit.
RUN git config --global user.name tumorxai \
    && git config --global user.email tumorxai@localhost \
    && git init --quiet \
    && git add -A \
    && git commit --quiet -m "The project of this image"

CMD ["make", "demo"]
