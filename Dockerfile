# syntax=docker/dockerfile:1
#
# PostgreSQL's official image with calvin_seq:
#
#   docker build -t calvin_seq --build-arg PG_MAJOR=17 --build-arg DEBIAN_RELEASE=trixie .
#   docker run --shm-size=256m -e POSTGRES_PASSWORD=... calvin_seq
#
# What is installed is the Debian package, which is built here for that one version.

ARG PG_MAJOR=17
ARG DEBIAN_RELEASE=trixie

FROM postgres:$PG_MAJOR-$DEBIAN_RELEASE AS build
ARG PG_MAJOR
RUN apt-get update && \
	apt-get install -y --no-install-recommends build-essential debhelper libpq-dev pkgconf \
		postgresql-common-dev "postgresql-server-dev-$PG_MAJOR" \
		"$(apt-cache show libmsgpack-c-dev >/dev/null 2>&1 && echo libmsgpack-c-dev || echo libmsgpack-dev)"
COPY . /usr/src/calvin_seq
WORKDIR /usr/src/calvin_seq
RUN export PG_SUPPORTED_VERSIONS="$PG_MAJOR" DEB_BUILD_OPTIONS=nocheck && \
	pg_buildext updatecontrol && \
	dpkg-buildpackage -b -d -us -uc

FROM postgres:$PG_MAJOR-$DEBIAN_RELEASE
ARG PG_MAJOR
COPY --from=build /usr/src/postgresql-*-calvin-seq_*.deb /tmp/
RUN apt-get update && \
	apt-get install -y --no-install-recommends "/tmp/postgresql-$PG_MAJOR-calvin-seq"_*.deb && \
	rm -rf /tmp/postgresql-*.deb /var/lib/apt/lists/* && \
	echo "shared_preload_libraries = 'calvin_seq'" >>"/usr/share/postgresql/$PG_MAJOR/postgresql.conf.sample"
