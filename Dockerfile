# The operator's image. Dependencies come from the lock file, by hash; the final stage has neither compiler nor uv.
ARG BASE_IMAGE=docker.io/library/python:3.11.13-slim-bookworm

FROM ${BASE_IMAGE} AS build
RUN python3 -m venv /uv && /uv/bin/pip install --no-cache-dir --disable-pip-version-check uv==0.13.9
WORKDIR /src
ENV UV_PROJECT_ENVIRONMENT=/opt/userstorage UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 UV_PYTHON_DOWNLOADS=never UV_SYSTEM_CERTS=true
COPY pyproject.toml uv.lock README.md ./
# The dependencies first: this layer is made anew only when the lock file changes.
RUN /uv/bin/uv sync --frozen --no-dev --extra otel --no-install-project
COPY operator ./operator
RUN /uv/bin/uv sync --frozen --no-dev --extra otel --no-editable

FROM ${BASE_IMAGE}
COPY --from=build /opt/userstorage /opt/userstorage
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/opt/userstorage/bin/userstorage-operator"]
CMD ["run"]
