# This project and its packages, for the services of docker-compose.yml.
#   docker build --build-arg TORCH_INDEX=URL .    takes torch from another package index, as one without CUDA
FROM python:3.12-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home flywheel \
    && install -d -o flywheel -g flywheel /wheel /models
WORKDIR /flywheel
COPY pyproject.toml constraints.txt ./
ARG TORCH_INDEX=
RUN if [ -n "$TORCH_INDEX" ]; then pip install --no-cache-dir --no-deps -c constraints.txt --index-url "$TORCH_INDEX" torch; fi
COPY flows flows
COPY tasks tasks
COPY models models
COPY storage storage
RUN pip install --no-cache-dir -c constraints.txt .
USER flywheel
WORKDIR /wheel
ENV FLYWHEEL_HOME=/wheel/home HF_HOME=/models
ENTRYPOINT ["tini", "--"]
CMD ["flywheel", "serve"]
