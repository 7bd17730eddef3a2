# What builds the wheel stays behind in this stage.
FROM python:3.11-slim-bookworm AS wheel
ENV PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY requirements-install.sh requirements-build.txt ./
RUN sh requirements-install.sh python requirements-build.txt
COPY . .
RUN python -m hatchling build --target wheel --directory /wheels

FROM python:3.11-slim-bookworm
RUN useradd --uid 10001 --create-home --home-dir /var/lib/leadstream leadstream \
    && install --directory --owner 10001 --mode 700 /var/spool/leadstream
ENV PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1
COPY requirements-install.sh requirements.txt /tmp/
RUN sh /tmp/requirements-install.sh python /tmp/requirements.txt
COPY --from=wheel /wheels/ /tmp/wheels/
RUN pip install --no-deps --no-index /tmp/wheels/*.whl && pip check
USER 10001
# Relative paths of the settings, such as .leadstream/warehouse, are below this.
WORKDIR /var/lib/leadstream
ENTRYPOINT ["leadstream"]
