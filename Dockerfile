# The image of Tierstream's worker, console and command line ("tierstream topics create").
#   docker build --tag tierstream:local .
# It takes nothing from outside but the base image, Debian's C compiler and the packages of the lock files. Behind mirrors or
# a proxy with a certificate of its own, tell it so with secrets; none of them stays in the image:
#   docker build --secret id=pip,src=pip.conf --secret id=apt,src=debian.sources --secret id=ca,src=ca.pem --tag tierstream:local .

# The tag says what it is, the digest which one: docker buildx imagetools inspect python:3.11-slim shows the newest.
ARG PYTHON_IMAGE=python:3.11.16-slim-trixie@sha256:9534e5a8e315485d4061ed659af0fd78a284c015f9b73661b41d6bab25604534

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore \
    PIP_CERT=/etc/ssl/certs/ca-certificates.crt TIERSTREAM_VENV=/opt/compiler
WORKDIR /src
RUN --mount=type=secret,id=ca if [ -f /run/secrets/ca ]; then cat /run/secrets/ca >>"$PIP_CERT"; fi
# The compiler has an environment of its own, which only the building needs.
RUN --mount=type=secret,id=apt,target=/etc/apt/sources.list.d/debian.sources \
    apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev
COPY requirements-compile.lock ./
COPY scripts/venv.sh scripts/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=cache,target=/root/.cache/pip \
    bash -c '. scripts/venv.sh requirements-compile.lock'
# What it is for: extras of pyproject.toml, with commas; docs/dependencies.md says what each is. "registry" and "tracing" add theirs.
ARG EXTRAS=worker,console
# The dependencies have a layer of their own: a change of the code does not install them again. Symbols for debuggers are a
# third of them; the libraries that wheels bring along (*.libs) were patched by their makers and stay as they are.
COPY pyproject.toml requirements.lock ./
COPY scripts/requirements.py scripts/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=cache,target=/root/.cache/pip \
    python -m venv --without-pip /opt/tierstream && \
    python scripts/requirements.py requirements.lock $(echo "$EXTRAS" | tr , ' ') >/tmp/requirements.txt && \
    pip --python /opt/tierstream/bin/python install --require-hashes -r /tmp/requirements.txt && \
    find /opt/tierstream -name '*.so' -not -path '*.libs/*' -exec strip --strip-unneeded {} +
COPY README.md LICENSE ./
COPY scripts/compile scripts/
COPY models/ models/
COPY streams/ streams/
# The core, compiled: the same Python through mypyc.
RUN scripts/compile && /opt/compiler/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /tmp . && \
    pip --python /opt/tierstream/bin/python install --no-index --no-deps /tmp/tierstream-*.whl && \
    cp -r .cache "$(/opt/tierstream/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"

FROM ${PYTHON_IMAGE}
# A fixed number, so that the owner of mounted files is known and "runAsNonRoot" can be checked.
RUN useradd --uid 10001 --user-group --create-home --home-dir /var/lib/tierstream tierstream
COPY --from=build /opt/tierstream /opt/tierstream
ENV PATH=/opt/tierstream/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# What `tierstream --version` says of the commit; nothing after it takes time to build again.
ARG REVISION=unknown
RUN echo "$REVISION" | cut -c1-12 >"$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/streams/revision"
USER 10001:10001
# Writable, for what a worker keeps beside Kafka and Redis.
WORKDIR /var/lib/tierstream
# /healthz, /readyz and the metrics; the console.
EXPOSE 6066 6080
ENTRYPOINT ["tierstream"]
CMD ["worker"]
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="Tierstream" \
      org.opencontainers.image.description="Keeps every customer's value tier and churn risk current, event by event" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.licenses="Apache-2.0"
