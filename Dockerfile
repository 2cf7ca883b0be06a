# The operator's image. Dependencies come from the lock file, by hash; the final stage has neither compiler nor uv nor pip.
# Two builds of the same sources give the same layers (`make image`, which also gives every file one time).
# The digest that belongs to the tag: BASE_IMAGE=docker.io/library/python:3.11.13-slim-bookworm@sha256:...
ARG BASE_IMAGE=docker.io/library/python:3.11.13-slim-bookworm

FROM ${BASE_IMAGE} AS uv
RUN python3 -m venv /uv && /uv/bin/pip install --no-cache-dir --disable-pip-version-check uv==0.13.9
# PYC_INVALIDATION_MODE: compiled files know their sources by no time, and never look at them.
ENV UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 UV_PYTHON_DOWNLOADS=never UV_SYSTEM_CERTS=true UV_NO_CACHE=true \
    PYC_INVALIDATION_MODE=UNCHECKED_HASH
WORKDIR /src

# This layer is made anew only when the lock file changes.
FROM uv AS dependencies
ENV UV_PROJECT_ENVIRONMENT=/opt/userstorage
COPY pyproject.toml uv.lock ./
RUN /uv/bin/uv sync --frozen --no-dev --no-install-project

# Ours alone, beside the dependencies: an upgrade of the operator is a layer of a megabyte.
FROM dependencies AS code
COPY pyproject.toml README.md ./
COPY operator ./operator
RUN /uv/bin/uv pip install --python /opt/userstorage/bin/python --target /opt/operator --no-deps .

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
