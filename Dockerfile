# The operator's image. Dependencies come from the lock file, by hash; the final stage has neither compiler nor uv nor pip.
# Two builds of the same sources give the same layers, where the builder gives all files one time (`make image` does).
# For the digest too: --build-arg BASE_IMAGE=docker.io/library/python:3.11.13-slim-bookworm@sha256:...
ARG BASE_IMAGE=pinned

# By its name and not in the argument, where the dependency bot does not see it.
FROM docker.io/library/python:3.11.13-slim-bookworm AS pinned

FROM ${BASE_IMAGE} AS uv
RUN python3 -m venv /uv && /uv/bin/pip install --no-cache-dir --disable-pip-version-check uv==0.13.9
# Compiled files that know their source by no time, and never look at it.
ENV UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 UV_PYTHON_DOWNLOADS=never UV_SYSTEM_CERTS=true UV_NO_CACHE=true \
    PYC_INVALIDATION_MODE=UNCHECKED_HASH
WORKDIR /src

# Made anew only when these two files change.
FROM uv AS dependencies
COPY pyproject.toml uv.lock ./
RUN UV_PROJECT_ENVIRONMENT=/opt/userstorage /uv/bin/uv sync --frozen --no-dev --extra otel --no-install-project

# What is in the image, for `make sbom`: not part of it, and without a time or number that would differ every time.
FROM dependencies AS bill
RUN UV_PROJECT_ENVIRONMENT=/bill /uv/bin/uv sync --frozen --only-group sbom \
    && /bill/bin/cyclonedx-py environment --pyproject pyproject.toml --mc-type application --output-reproducible \
       --output-file /userstorage-operator.cdx.json /opt/userstorage/bin/python

FROM scratch AS sbom
COPY --from=bill /userstorage-operator.cdx.json /

# Our own code beside its dependencies: an upgrade of the operator is a layer of two megabytes.
FROM dependencies AS code
COPY README.md ./
COPY operator ./operator
# --no-sources: the other members of the workspace are not here. The deleted notes of uv have the time of the build in them.
RUN /uv/bin/uv pip install --python /opt/userstorage/bin/python --target /opt/operator --no-deps --no-sources . \
    && rm /opt/operator/*.dist-info/uv_cache.json /opt/operator/*.dist-info/RECORD

FROM ${BASE_IMAGE}
# What the base has for installing software; nothing here installs any.
RUN rm -rf /usr/local/lib/python3*/site-packages/pip* /usr/local/lib/python3*/ensurepip /usr/local/bin/pip* \
    /usr/lib/python3*/ensurepip /usr/share/python-wheels
COPY --from=dependencies /opt/userstorage /opt/userstorage
COPY --from=code /opt/operator /opt/operator
ENV PATH=/opt/operator/bin:/opt/userstorage/bin:/usr/local/bin:/usr/bin:/bin PYTHONPATH=/opt/operator \
    PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["userstorage-operator"]
CMD ["run"]
