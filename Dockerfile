# Pointsman from this checkout. Both images are variables, so that a machine's own can take their place
# (deploy/local-images.sh makes some); they must hold the same Python.
ARG BUILD_IMAGE=python:3.11
ARG PYTHON_IMAGE=python:3.11-slim

FROM ${BUILD_IMAGE} AS build
WORKDIR /src
COPY . .
# With a C compiler the data plane is compiled. Wheels that were laid in build/wheels are taken, and nothing else then.
RUN python3 -m venv /opt/pointsman \
    && if [ -d build/wheels ]; then export PIP_NO_INDEX=1 PIP_FIND_LINKS=/src/build/wheels; fi \
    && if command -v cc >/dev/null; then export POINTSMAN_COMPILE=1; fi \
    && export PIP_CONSTRAINT=/src/constraints.txt PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 \
    && /opt/pointsman/bin/pip install . \
    && /opt/pointsman/bin/pip uninstall --quiet --yes pip setuptools

FROM ${PYTHON_IMAGE}
RUN useradd --system --user-group --no-create-home --shell /usr/sbin/nologin pointsman \
    && install -d -o pointsman -g pointsman /var/lib/pointsman
COPY --from=build /opt/pointsman /opt/pointsman
COPY deploy/check_endpoint.py /opt/pointsman/bin/
ENV PATH=/opt/pointsman/bin:$PATH PYTHONUNBUFFERED=1
USER pointsman
WORKDIR /etc/pointsman
EXPOSE 6432
# It logs in as PGUSER, with PGPASSWORD: libpq's variables say how.
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "/opt/pointsman/bin/check_endpoint.py"]
ENTRYPOINT ["pointsman"]
CMD ["serve", "-c", "/etc/pointsman/pointsman.toml"]
