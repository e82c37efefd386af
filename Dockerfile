# The image of a Tierstream worker and console (and of their command line: "tierstream topics create").

FROM python:3.11-slim AS build
RUN python -m venv /opt/tierstream
ENV PATH=/opt/tierstream/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
# What it is for: extras of pyproject.toml, with commas; docs/dependencies.md says what each is. "registry" and "tracing" add theirs.
ARG EXTRAS=worker,console
# The dependencies have a layer of their own: a change of the code does not install them again.
COPY pyproject.toml requirements.lock ./
COPY scripts/requirements.py scripts/
RUN python scripts/requirements.py requirements.lock $(echo "$EXTRAS" | tr , ' ') >/tmp/requirements.txt && \
    pip install --require-hashes -r /tmp/requirements.txt
# The compiler has an environment of its own, which only the building needs.
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
COPY requirements-compile.lock ./
COPY scripts/venv.sh scripts/compile scripts/
COPY README.md LICENSE ./
COPY models/ models/
COPY streams/ streams/
RUN pip install --no-deps .
# The core, compiled: the same Python through mypyc.
RUN TIERSTREAM_VENV=/opt/compiler scripts/compile && cp -r .cache /opt/tierstream/lib/python3.11/site-packages/

FROM python:3.11-slim
# A fixed number, so that the owner of mounted files is known and "runAsNonRoot" can be checked.
RUN useradd --uid 10001 --user-group --create-home --home-dir /var/lib/tierstream tierstream
COPY --from=build /opt/tierstream /opt/tierstream
ENV PATH=/opt/tierstream/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
# Writable, for what a worker keeps beside Kafka and Redis.
WORKDIR /var/lib/tierstream
# /healthz, /readyz and the metrics; the console.
EXPOSE 6066 6080
ENTRYPOINT ["tierstream"]
CMD ["worker"]
