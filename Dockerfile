# Built by `make image`, which adds the labels that come from command.json. Any Python >= 3.11 image does as the base.
ARG BASE_IMAGE=python:3.13-slim-bookworm

FROM ${BASE_IMAGE} AS build
ARG SOURCE_DATE_EPOCH=0
# pip runs as the program's own Python, which would leave its byte code there, with the time in it.
ENV PYTHONDONTWRITEBYTECODE=1
WORKDIR /src
RUN python3 -m venv /build && python3 -m venv --without-pip /opt/xnat-ingest
COPY requirements.txt requirements-build.txt ./
RUN /build/bin/pip install --quiet --no-cache-dir --require-hashes -r requirements-build.txt \
    && /build/bin/pip --python /opt/xnat-ingest/bin/python install --quiet --no-cache-dir --no-compile \
       --require-hashes -r requirements.txt
COPY pyproject.toml README.md LICENSE command.json ./
COPY xnat_ingest ./xnat_ingest
# Equal sources make equal layers: nothing in them knows when it was built.
RUN /build/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /wheel . \
    && /build/bin/pip --python /opt/xnat-ingest/bin/python install --quiet --no-compile --no-deps /wheel/*.whl \
    && find /opt -exec touch --no-dereference --date "@${SOURCE_DATE_EPOCH}" {} +

FROM ${BASE_IMAGE}
# All of /opt, which is ours alone: to copy a folder into it would set its own time anew.
COPY --from=build /opt /opt
ENV PATH=/opt/xnat-ingest/bin:${PATH} PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# No USER: inside XNAT the container must read archive folders that Tomcat's default umask (0027) closes to all but its
# own user, and XNAT's administrator can set another user. Elsewhere give --user "$(id -u):$(id -g)": any uid will do.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/opt/xnat-ingest/bin/xnat-ingest"]
CMD ["--help"]
