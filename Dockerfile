# Tools to build with stay in this stage: binutils, pip and hatchling.
FROM python:3.11-slim-bookworm AS build
RUN apt-get update && apt-get install --yes --no-install-recommends binutils
ENV PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY requirements-install.sh requirements-build.txt requirements-otel.txt ./
RUN sh requirements-install.sh python requirements-build.txt
# From here on pip works on the environment that is copied, which has no pip of its own.
RUN python -m venv --without-pip /opt/leadstream
ENV PIP_PYTHON=/opt/leadstream/bin/python
RUN sh requirements-install.sh python requirements-otel.txt
# 70 MB of pyarrow that nothing here calls (C++ headers, tests, RPC, a second client of S3), and 40 MB of symbols.
RUN cd /opt/leadstream/lib/python3.11/site-packages \
    && rm -r pyarrow/include pyarrow/tests pyarrow/libarrow_flight.* pyarrow/libarrow_python_flight.* pyarrow/_flight.*.so \
        pyarrow/libarrow_s3.* pyarrow/_s3fs.*.so \
    && strip --strip-unneeded pyarrow/*.so* fastavro/*.so uvloop/*.so
COPY . .
RUN python -m hatchling build --target wheel --directory /tmp/wheels
RUN pip install --no-deps --no-index /tmp/wheels/*.whl

FROM python:3.11-slim-bookworm
# What outlives a container: a warehouse that is a directory, the position of backfill, receipts, and the spool.
RUN useradd --uid 10001 --create-home --home-dir /var/lib/leadstream leadstream \
    && install --directory --owner 10001 --mode 700 /var/lib/leadstream /var/spool/leadstream
COPY --from=build /opt/leadstream /opt/leadstream
ENV PATH=/opt/leadstream/bin:$PATH PYTHONUNBUFFERED=1
USER 10001
# Relative paths of the settings, such as .leadstream/warehouse, are below this.
WORKDIR /var/lib/leadstream
ENTRYPOINT ["leadstream"]
