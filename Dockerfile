# The operator's image. Dependencies come from the lock file, by hash; the final stage has neither compiler nor uv nor pip.
# Two builds of the same sources give the same layers if the builder sets all file times to one value (`make image` does).
# To pin the digest too: --build-arg BASE_IMAGE=docker.io/library/python:3.11.13-slim-bookworm@sha256:...
ARG BASE_IMAGE=pinned

# Named here and not as the argument's default, which the dependency bot does not read.
FROM docker.io/library/python:3.11.13-slim-bookworm AS pinned

FROM ${BASE_IMAGE} AS uv
RUN python3 -m venv /uv && /uv/bin/pip install --no-cache-dir --disable-pip-version-check uv==0.13.9
# Compiled files have no time of their source in them and are never compared with it.
ENV UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 UV_PYTHON_DOWNLOADS=never UV_SYSTEM_CERTS=true UV_NO_CACHE=true \
    PYC_INVALIDATION_MODE=UNCHECKED_HASH
WORKDIR /src

# Rebuilt only when these two files change.
FROM uv AS dependencies
COPY pyproject.toml uv.lock ./
RUN UV_PROJECT_ENVIRONMENT=/opt/userstorage /uv/bin/uv sync --frozen --no-dev --extra otel --no-install-project

# The bill of materials: not part of the image, and without a time or serial number that differs with every build.
FROM dependencies AS bill
RUN UV_PROJECT_ENVIRONMENT=/bill /uv/bin/uv sync --frozen --only-group sbom \
    && /bill/bin/cyclonedx-py environment --pyproject pyproject.toml --mc-type application --output-reproducible \
       --output-file /userstorage-operator.cdx.json /opt/userstorage/bin/python

FROM scratch AS sbom
COPY --from=bill /userstorage-operator.cdx.json /

# The operator apart from its dependencies: an upgrade of the operator is a layer of two megabytes.
FROM dependencies AS code
COPY README.md LICENSE ./
COPY operator ./operator
# --no-sources: the other members of the workspace are not here. The deleted notes of uv have the time of the build in them.
RUN /uv/bin/uv pip install --python /opt/userstorage/bin/python --target /opt/operator --no-deps --no-sources . \
    && rm /opt/operator/*.dist-info/uv_cache.json /opt/operator/*.dist-info/RECORD

FROM ${BASE_IMAGE}
# The base image's tools for installing software are not needed.
RUN rm -rf /usr/local/lib/python3*/site-packages/pip* /usr/local/lib/python3*/ensurepip /usr/local/bin/pip* \
    /usr/lib/python3*/ensurepip /usr/share/python-wheels
COPY --from=dependencies /opt/userstorage /opt/userstorage
COPY --from=code /opt/operator /opt/operator
ENV PATH=/opt/operator/bin:/opt/userstorage/bin:/usr/local/bin:/usr/bin:/bin PYTHONPATH=/opt/operator \
    PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
LABEL org.opencontainers.image.title=userstorage-operator \
    org.opencontainers.image.description="Kubernetes operator that gives every user a file browser on a volume of their own" \
    org.opencontainers.image.licenses=Apache-2.0
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["userstorage-operator"]
CMD ["run"]
